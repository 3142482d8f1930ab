"""Who has to agree to what: rules, requests for a decision, and who gave theirs."""

from __future__ import annotations

import datetime as dt
from typing import Final

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from clusters.models.endpoints import Endpoint
from tenants.managers import TenantManager, TenantQuerySet
from tenants.models import TenantOwned, User


class Decides(models.TextChoices):
    """Who may decide upon a request that a rule asks for."""

    OWNER = "owner", "An owner"
    ADMIN = "admin", "An owner or admin"
    BILLING = "billing", "An owner or the billing role"
    MEMBERS = "members", "Named members"
    OPERATORS = "operators", "The platform's operators"


class ApprovalRule(TenantOwned):
    """What needs somebody's approval before it is carried out.

    ``amount`` is of price-above, per hour or, with ``monthly``, per month of 730 hours; ``gpus`` or ``share`` (percent
    of the quota) of quota-above; ``gpu_types`` and ``pools`` of reserved-gpus.
    """

    class Kind(models.TextChoices):
        PRICE_ABOVE = "price-above", "Price above"
        QUOTA_ABOVE = "quota-above", "GPUs above"
        OUTSIDE_HOME_ZONE = "outside-home-zone", "Outside the home zone"
        RESERVED_GPUS = "reserved-gpus", "Reserved GPUs"
        NEW_MODEL_LICENCE = "new-model-licence", "A licence that is new here"

    kind = models.CharField(max_length=20, choices=Kind)
    amount = models.DecimalField(
        max_digits=14, decimal_places=4, null=True, blank=True, validators=[MinValueValidator(0)]
    )
    monthly = models.BooleanField(default=False)
    gpus = models.PositiveIntegerField(null=True, blank=True)
    share = models.PositiveSmallIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(100)]
    )
    gpu_types = ArrayField(models.CharField(max_length=40), default=list, blank=True)
    pools = ArrayField(models.CharField(max_length=81), default=list, blank=True)
    decides = models.CharField(max_length=16, choices=Decides, default=Decides.ADMIN)
    members = ArrayField(models.UUIDField(), default=list, blank=True, help_text="Ids of the named people.")
    valid_hours = models.PositiveSmallIntegerField(
        default=72, validators=[MinValueValidator(1), MaxValueValidator(24 * 30)],
        help_text="How long a request may be decided upon.",
    )  # fmt: skip
    enabled = models.BooleanField(default=True)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta(TenantOwned.Meta):
        ordering = ["created_at"]
        constraints = [
            models.CheckConstraint(
                condition=~Q(kind="price-above") | Q(amount__isnull=False), name="price_rule_has_an_amount"
            ),
            models.CheckConstraint(
                condition=~Q(kind="quota-above")
                | Q(gpus__isnull=False, share=None)
                | Q(gpus=None, share__isnull=False),
                name="quota_rule_has_gpus_or_share",
            ),
            models.CheckConstraint(
                condition=~Q(kind="reserved-gpus") | ~Q(gpu_types=[]) | ~Q(pools=[]),
                name="reserved_rule_names_gpus",
            ),
            models.CheckConstraint(
                condition=~Q(decides="members") | ~Q(members=[]), name="members_rule_names_them"
            ),
        ]

    def __str__(self) -> str:
        return self.get_kind_display()


class ApprovalQuerySet(TenantQuerySet):
    def pending(self) -> ApprovalQuerySet:
        """Those that wait for a decision."""
        return self.filter(state=ApprovalRequest.State.PENDING)


class ApprovalRequest(TenantOwned):
    """A wish that is carried out only when the right people agree.

    ``wish`` is what was asked for, frozen; ``quote`` what it would cost and hold, as it was when ``round`` began;
    ``trips`` why somebody has to agree, each with who decides. A wish that turned out dearer, or trips other rules
    when it is approved, goes into another round. What is approved is carried out in the same transaction.
    """

    class What(models.TextChoices):
        ORDER = "order", "Order"
        SCALE = "scale", "Scale"
        RESUME = "resume", "Resume"
        REPLAN = "replan", "Plan anew"
        RESTORE = "restore", "Restore"
        MOVE = "move", "Move"
        EXCEPTION = "exception", "Exception from the policy"
        POLICY = "policy", "Change of the policy"
        RULE = "rule", "Change of a rule"

    class State(models.TextChoices):
        PENDING = "pending", "Pending"
        APPROVED = "approved", "Approved"
        CHANGED = "changed", "Changed and approved"
        REFUSED = "refused", "Refused"
        EXPIRED = "expired", "Expired"
        WITHDRAWN = "withdrawn", "Withdrawn"
        SUPERSEDED = "superseded", "Superseded"

    #: States of a wish that was carried out.
    GRANTED: Final = frozenset({State.APPROVED, State.CHANGED})

    what = models.CharField(max_length=12, choices=What)
    endpoint = models.ForeignKey(
        Endpoint, on_delete=models.CASCADE, null=True, blank=True, related_name="approvals"
    )
    title = models.CharField(max_length=200)
    wish = models.JSONField(default=dict)
    quote = models.JSONField(default=dict)
    trips = models.JSONField(default=list)
    round = models.PositiveSmallIntegerField(default=1)
    asked_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    behind = ArrayField(
        models.UUIDField(), default=list, blank=True,
        help_text="People who made the key or service account that asked: they count as having asked, too.",
    )  # fmt: skip
    asked_as = models.CharField(max_length=120)
    generation = models.PositiveIntegerField(null=True, help_text="Of the endpoint when it was asked for.")
    expires_at = models.DateTimeField()
    reminded_at = models.DateTimeField(null=True)
    state = models.CharField(max_length=12, choices=State, default=State.PENDING)
    decided_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    decided_as = models.CharField(max_length=120, blank=True)
    decided_at = models.DateTimeField(null=True)
    decided_via = models.CharField(max_length=8, blank=True, help_text="portal, api, link or console.")
    comment = models.CharField(max_length=500, blank=True)
    changed = models.JSONField(default=dict, help_text="What whoever decided changed of it.")

    objects = TenantManager.of(ApprovalQuerySet)

    class Meta(TenantOwned.Meta):
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "endpoint"],
                condition=Q(state="pending") & ~Q(what="exception"),
                name="one_pending_wish_per_endpoint",
            ),
            models.CheckConstraint(
                condition=Q(state="pending") | Q(decided_at__isnull=False), name="decided_requests_say_when"
            ),
        ]
        indexes = [
            # The sweep: what expires.
            models.Index(fields=["expires_at"], condition=Q(state="pending"), name="approvals_pending"),
            # The inbox and its badge.
            models.Index(fields=["tenant", "state", "-id"], name="approvals_inbox"),
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def is_pending(self) -> bool:
        return self.state == self.State.PENDING

    def is_over(self, now: dt.datetime) -> bool:
        """Say whether it cannot be decided upon any more, swept or not."""
        return not self.is_pending or self.expires_at <= now


class ApprovalSignature(TenantOwned):
    """That one of those who have to agree did so, in a round; ``part`` is whose agreement it counts as."""

    request = models.ForeignKey(ApprovalRequest, on_delete=models.CASCADE, related_name="signatures")
    round = models.PositiveSmallIntegerField()
    part = models.CharField(max_length=120)
    by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    signed_as = models.CharField(max_length=120)
    via = models.CharField(max_length=8)
    comment = models.CharField(max_length=500, blank=True)

    class Meta(TenantOwned.Meta):
        ordering = ["created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "request", "round", "part"], name="each_part_signs_once"
            ),
        ]
