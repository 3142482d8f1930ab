"""Changes of what an endpoint runs, from the revision that serves to the one that is to serve in its place."""

from __future__ import annotations

from typing import Final

from django.db import models
from django.db.models import Q

from clusters.models.endpoints import Endpoint
from clusters.models.revisions import Revision
from clusters.models.slo import RolloutWay
from tenants.managers import TenantManager, TenantQuerySet
from tenants.models import TenantOwned


class RolloutQuerySet(TenantQuerySet):
    def active(self) -> RolloutQuerySet:
        """Those under way: at most one of each endpoint."""
        return self.filter(phase__in=Rollout.ACTIVE)


class Rollout(TenantOwned):
    """One change: ``before`` serves, ``revision`` is to serve in its place; None while it has no GPUs yet.

    ``policy`` is that of the class as it was when the change was asked for. ``weight`` is the share of requests, in
    percent, that gateways give to ``revision``, ``step`` which one of the policy's steps that is. ``counted`` are the
    sums of both revisions' usage when the step began, and ``verdict`` what was found of it since, with the numbers.
    ``wish`` are the terms of the order that were asked for, ``back`` those before: they are the order's again when the
    change is undone. ``outage_s`` is what was expected beforehand, for a change in place.
    """

    class Phase(models.TextChoices):
        WAITING = "waiting", "Waiting"
        STARTING = "starting", "Starting"
        EVALUATING = "evaluating", "Evaluating"
        CANARY = "canary", "Canary"
        PROMOTED = "promoted", "Promoted"
        ROLLED_BACK = "rolled-back", "Rolled back"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"

    ACTIVE: Final = (Phase.WAITING, Phase.STARTING, Phase.EVALUATING, Phase.CANARY)
    #: Those of a new revision whose evaluation is still to be passed.
    BEFORE_TRAFFIC: Final = (Phase.WAITING, Phase.STARTING, Phase.EVALUATING)
    #: Ended with what ran before, for a reason that somebody should look at.
    UNDONE: Final = (Phase.ROLLED_BACK, Phase.FAILED)

    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="rollouts")
    revision = models.ForeignKey(
        Revision, on_delete=models.PROTECT, null=True, blank=True, related_name="rollouts"
    )
    before = models.ForeignKey(Revision, on_delete=models.PROTECT, related_name="+")
    what = models.CharField(max_length=300, help_text="What changes, in words.")
    way = models.CharField(max_length=8, choices=RolloutWay)
    replicas = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Of the new revision, once all its room is made."
    )
    lent = models.PositiveSmallIntegerField(
        default=0, help_text="Replicas of what runs that were let go to make room."
    )
    policy = models.JSONField()
    phase = models.CharField(max_length=12, choices=Phase)
    phase_since = models.DateTimeField()
    step = models.PositiveSmallIntegerField(default=0)
    step_since = models.DateTimeField(null=True, blank=True)
    weight = models.PositiveSmallIntegerField(default=0)
    counted = models.JSONField(default=dict)
    verdict = models.JSONField(default=dict)
    reason = models.CharField(max_length=1000, blank=True)
    wish = models.JSONField(default=dict)
    back = models.JSONField(default=dict)
    outage_s = models.FloatField(null=True, blank=True)
    outage_from = models.CharField(
        max_length=200, blank=True, help_text="What the expected outage is known from."
    )
    started_at = models.DateTimeField()
    started_by = models.CharField(max_length=120)
    ended_at = models.DateTimeField(null=True, blank=True)
    ended_by = models.CharField(max_length=120, blank=True, help_text="Empty: Berth.")
    dismissed_at = models.DateTimeField(
        null=True, blank=True, help_text="Since when its failure is no longer shown as the endpoint's state."
    )

    objects = TenantManager.of(RolloutQuerySet)

    class Meta(TenantOwned.Meta):
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "endpoint"],
                condition=Q(phase__in=["waiting", "starting", "evaluating", "canary"]),
                name="one_rollout_at_once",
            ),
            models.CheckConstraint(condition=Q(weight__lte=100), name="rollout_weight_is_a_share"),
        ]
        indexes = [
            # An endpoint's rollouts, newest first.
            models.Index(fields=["tenant", "endpoint", "-id"], name="rollouts_of_endpoint"),
        ]

    def __str__(self) -> str:
        return f"rollout of {self.endpoint_id}"

    @property
    def is_active(self) -> bool:
        return self.phase in self.ACTIVE
