"""What a tenant lets itself use: versions of its policy, and exceptions from it that end."""

from __future__ import annotations

import datetime as dt
from typing import Final

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from clusters.models.endpoints import Endpoint
from tenants.managers import TenantManager, TenantQuerySet
from tenants.models import Project, TenantOwned, User

#: Longest time for which an exception may hold.
MOST_EXCEPTION: Final = dt.timedelta(days=366)


class TenantPolicyQuerySet(TenantQuerySet):
    def in_force(self) -> TenantPolicy | None:
        """Give the newest version of the open tenant, None where it never had a policy."""
        return self.order_by("-version").first()


def _names(length: int, **options) -> ArrayField:
    return ArrayField(models.CharField(max_length=length), default=list, blank=True, **options)


class TenantPolicy(TenantOwned):
    """One version of a tenant's policy; the newest is in force. Rows never change.

    Empty lists and amounts restrict nothing. Places are zones or region codes. ``floor_zones`` and
    ``floor_certifications`` are the operators' part: every version of the tenant's own carries them on, and whoever
    changes the rest cannot loosen them.
    """

    version = models.PositiveIntegerField()
    effective_from = models.DateTimeField(default=timezone.now)
    set_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    set_as = models.CharField(max_length=120, help_text="How the history names whoever set it.")
    by_platform = models.BooleanField(default=False)
    note = models.CharField(max_length=300, blank=True)

    allowed_zones = _names(60)
    home_zone = models.CharField(max_length=60, blank=True)
    certifications = _names(40)
    allowed_models = _names(80)
    allowed_licences = _names(80)
    allowed_classes = _names(40)
    most_per_hour = models.DecimalField(
        max_digits=14, decimal_places=4, null=True, blank=True, validators=[MinValueValidator(0)],
        help_text="Most that one endpoint may cost an hour, in the tenant's currency.",
    )  # fmt: skip
    most_per_month = models.DecimalField(
        max_digits=14, decimal_places=2, null=True, blank=True, validators=[MinValueValidator(0)],
        help_text="Most that all endpoints may cost in a month of 730 hours, in the tenant's currency.",
    )  # fmt: skip
    four_eyes = models.BooleanField(
        default=True, help_text="Who asks may not decide, nor loosen policy and rules alone."
    )
    self_approval = models.BooleanField(
        default=False, help_text="Who asks may decide where nobody else of the tenant could."
    )
    link_decisions = models.BooleanField(default=True, help_text="The link in a mail may be decided by.")
    floor_zones = _names(60)
    floor_certifications = _names(40)

    objects = TenantManager.of(TenantPolicyQuerySet)

    class Meta(TenantOwned.Meta):
        ordering = ["-version"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "version"], name="policy_version_once"),
            models.CheckConstraint(condition=Q(version__gt=0), name="policy_version_counts_from_one"),
        ]

    def __str__(self) -> str:
        return f"policy version {self.version}"


class PolicyExceptionQuerySet(TenantQuerySet):
    def in_force(self, now: dt.datetime) -> PolicyExceptionQuerySet:
        """Those that hold now."""
        return self.filter(starts_at__lte=now, ends_at__gt=now)


class PolicyException(TenantOwned):
    """Something that a tenant's policy restricts and that is allowed all the same, for an endpoint, a project or all.

    ``value`` is what is allowed: a zone or region, a certification that need not be held, a model, a licence, a
    class, or for spend the amount that holds instead. It ends at ``ends_at``; whoever ends it early moves that up.
    """

    class Restriction(models.TextChoices):
        ZONE = "zone", "Zone or region"
        CERTIFICATION = "certification", "Certification not held"
        MODEL = "model", "Model"
        LICENCE = "licence", "Licence"
        SLO_CLASS = "slo-class", "Service class"
        SPEND_HOUR = "spend-hour", "Spend per hour of an endpoint"
        SPEND_MONTH = "spend-month", "Spend per month"

    #: When an exception from these ends, what runs under it is paused; of others only new orders are refused.
    PAUSES: Final = frozenset({Restriction.ZONE, Restriction.CERTIFICATION})

    restriction = models.CharField(max_length=16, choices=Restriction)
    value = models.CharField(max_length=80)
    endpoint = models.ForeignKey(
        Endpoint, on_delete=models.CASCADE, null=True, blank=True, related_name="policy_exceptions"
    )
    project = models.ForeignKey(Project, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    reason = models.CharField(max_length=300)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    approved_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    approved_as = models.CharField(max_length=120)
    request = models.OneToOneField(
        "clusters.ApprovalRequest", on_delete=models.PROTECT, related_name="exception"
    )
    ended_as = models.CharField(max_length=120, blank=True, help_text="Who ended it before its time.")
    warned_at = models.DateTimeField(null=True, help_text="When people were told that it ends soon.")
    enforced_at = models.DateTimeField(null=True, help_text="When what ran under it was judged again.")

    objects = TenantManager.of(PolicyExceptionQuerySet)

    class Meta(TenantOwned.Meta):
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(ends_at__gte=F("starts_at")) & Q(ends_at__lte=F("starts_at") + MOST_EXCEPTION),
                name="exception_ends_within_366_days",
            ),
            models.CheckConstraint(
                condition=Q(endpoint=None) | Q(project=None), name="exception_for_endpoint_or_project"
            ),
        ]
        indexes = [
            # The sweep: what ends soon, and what ended and was not judged again.
            models.Index(fields=["ends_at"], condition=Q(enforced_at=None), name="exceptions_to_end"),
        ]
