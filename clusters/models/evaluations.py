"""Evaluation sets, their versions, and what came of asking revisions."""

from __future__ import annotations

import datetime as dt
from typing import Final

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower

from clusters.models.catalog import CatalogModel
from clusters.models.endpoints import Endpoint
from clusters.models.revisions import Revision
from tenants.managers import TenantManager, TenantQuerySet
from tenants.models import Identified, Tenant, TenantOwned, User
from tenants.sealing import SealedBinaryField

_PERCENT: Final = [MinValueValidator(0), MaxValueValidator(100)]


class EvaluationSet(Identified):
    """Prompts with checks for a model of the catalog or for one endpoint; what they are stands in its versions.

    Without a ``tenant`` it is the platform's, and holds for every tenant's endpoints with the model. ``version`` is the
    number of the newest. A set that was removed is kept for the runs that show it.
    """

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, related_name="+", editable=False)
    name = models.CharField(max_length=80)
    model = models.ForeignKey(
        CatalogModel, on_delete=models.PROTECT, null=True, blank=True, related_name="evaluation_sets"
    )
    endpoint = models.ForeignKey(
        Endpoint, on_delete=models.PROTECT, null=True, blank=True, related_name="evaluation_sets"
    )
    version = models.PositiveIntegerField(default=1)
    removed_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ["name", "id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(model__isnull=False, endpoint=None)
                | Q(model=None, endpoint__isnull=False, tenant__isnull=False),
                name="evaluation_set_of_model_or_endpoint",
            ),
            models.UniqueConstraint(
                "tenant",
                "model",
                "endpoint",
                Lower("name"),
                condition=Q(removed_at=None),
                nulls_distinct=False,
                name="evaluation_set_name_once",
                violation_error_message="There is an evaluation set of this name already; choose another name.",
            ),
        ]
        indexes = [models.Index(fields=["tenant", "model"], name="evaluation_sets_of_tenant")]

    def __str__(self) -> str:
        return self.name


class EvaluationVersion(Identified):
    """One version of a set, which never changes: its prompts with checks, sealed, and what they demand.

    ``pass_percent`` of the weights of all checks have to be passed; the score may be ``most_drop`` points below that of
    the old revision. None of either demands nothing of that kind.
    """

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, related_name="+", editable=False)
    set = models.ForeignKey(EvaluationSet, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    sealed = SealedBinaryField()
    prompts = models.PositiveSmallIntegerField(help_text="How many there are.")
    checks = models.PositiveSmallIntegerField(help_text="How many there are, of all prompts.")
    compares = models.BooleanField(default=False, help_text="Whether the old revision is asked as well.")
    pass_percent = models.DecimalField(
        max_digits=5, decimal_places=2, null=True, blank=True, validators=_PERCENT
    )
    most_drop = models.DecimalField(
        max_digits=5, decimal_places=2, null=True, blank=True, validators=_PERCENT
    )
    made_as = models.CharField(max_length=120, help_text="How the history names whoever made it.")

    class Meta:
        ordering = ["set", "-number"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "set", "number"], nulls_distinct=False, name="evaluation_version_once"
            ),
            models.CheckConstraint(
                condition=Q(pass_percent__isnull=False) | Q(most_drop__isnull=False),
                name="evaluation_version_demands_something",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.set.name} v{self.number}"


class EvaluationRunQuerySet(TenantQuerySet):
    def active(self) -> EvaluationRunQuerySet:
        """Those that are not over."""
        return self.filter(state__in=EvaluationRun.ACTIVE)

    def due(self, now: dt.datetime) -> EvaluationRunQuerySet:
        """Those that should be worked on now."""
        return self.active().filter(due_at__lte=now)


class EvaluationRun(TenantOwned):
    """A revision being asked the prompts of one version of a set, and what came of it.

    ``before`` is the revision it is compared with, None for none. ``results`` has one entry for each prompt that was
    asked, in their order: tokens, and of each check whether it was passed and why not, without any text of prompts or
    answers. ``sealed`` holds the keys by which gateways are asked while it runs, ``keys`` are their ids.
    ``decided_as`` is who accepted the result; that of a run that was not passed is waived by it.
    """

    class State(models.TextChoices):
        PENDING = "pending", "Pending"
        RUNNING = "running", "Running"
        PASSED = "passed", "Passed"
        FAILED = "failed", "Failed"
        WAIVED = "waived", "Waived"
        ERROR = "error", "Could not be run"

    ACTIVE: Final = (State.PENDING, State.RUNNING)
    #: What somebody may accept; of these the last two are waived by it.
    ACCEPTABLE: Final = (State.PASSED, State.FAILED, State.ERROR)

    endpoint = models.ForeignKey(Endpoint, on_delete=models.PROTECT, related_name="evaluations")
    revision = models.ForeignKey(Revision, on_delete=models.PROTECT, related_name="evaluations")
    before = models.ForeignKey(Revision, on_delete=models.PROTECT, null=True, related_name="+")
    version = models.ForeignKey(EvaluationVersion, on_delete=models.PROTECT, related_name="runs")
    state = models.CharField(max_length=8, choices=State, default=State.PENDING)
    message = models.CharField(max_length=300, blank=True, help_text="Why it is not passed, or waits.")
    asked_as = models.CharField(max_length=120, blank=True, help_text="Empty: a rollout wanted it.")
    pass_percent = models.DecimalField(max_digits=5, decimal_places=2, null=True)
    most_drop = models.DecimalField(max_digits=5, decimal_places=2, null=True)
    score = models.DecimalField(max_digits=5, decimal_places=2, null=True, help_text="Percent.")
    score_before = models.DecimalField(
        max_digits=5, decimal_places=2, null=True, help_text="Percent, of the old revision."
    )
    results = models.JSONField(default=list)
    input_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    cost = models.DecimalField(
        max_digits=20, decimal_places=10, null=True, help_text="At token prices; null where there are none."
    )
    currency = models.CharField(max_length=3, blank=True)
    keys = ArrayField(models.UUIDField(), default=list)
    sealed = SealedBinaryField(null=True)
    due_at = models.DateTimeField(null=True)
    failing_since = models.DateTimeField(null=True, help_text="Since when no gateway answers.")
    began_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    decided_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    decided_as = models.CharField(max_length=120, blank=True)
    decided_at = models.DateTimeField(null=True)
    note = models.CharField(max_length=300, blank=True, help_text="Why it was accepted.")

    objects = TenantManager.of(EvaluationRunQuerySet)

    class Meta(TenantOwned.Meta):
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "revision", "version"],
                condition=Q(state__in=["pending", "running"]),
                name="evaluation_runs_once_at_a_time",
            ),
        ]
        indexes = [
            # The sweep: what is to be worked on.
            models.Index(
                fields=["due_at"], condition=Q(state__in=["pending", "running"]), name="evaluations_due"
            ),
            models.Index(fields=["tenant", "endpoint", "-id"], name="evaluations_of_endpoint"),
        ]

    def __str__(self) -> str:
        return f"{self.version} on {self.revision}"
