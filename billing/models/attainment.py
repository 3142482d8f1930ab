"""Whether endpoints kept the targets of their class, as clusters writes it: what credits are computed from."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from tenants.models import Project, TenantOwned


class Attainment(TenantOwned):
    """One UTC day of a tenant's requests to an endpoint against its class's targets as of then.

    ``requests`` were answered or failed by us, ``failed`` of them failed; those of keys of a lower class are not among
    them. ``hours`` had requests; in ``ttft_met`` and ``itl_met`` of them the 95th percentile was within the target. A
    target that is None counts as met.
    """

    endpoint_id = models.UUIDField()
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="+")
    day = models.DateField()
    slo_class = models.CharField(max_length=40)
    availability = models.DecimalField(
        max_digits=6, decimal_places=5, help_text="The target; 0.999 means 99.9 %."
    )
    ttft_p95_ms = models.PositiveIntegerField(null=True)
    itl_p95_ms = models.PositiveIntegerField(null=True)
    credit_percent = models.DecimalField(
        max_digits=5, decimal_places=2, help_text="Of the endpoint's charge of a month that misses a target."
    )
    requests = models.PositiveBigIntegerField(default=0)
    failed = models.PositiveBigIntegerField(default=0)
    hours = models.PositiveSmallIntegerField(default=0)
    ttft_met = models.PositiveSmallIntegerField(default=0)
    itl_met = models.PositiveSmallIntegerField(default=0)

    class Meta(TenantOwned.Meta):
        ordering = ["day"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "endpoint_id", "day"], name="one_attainment_per_day"),
            models.CheckConstraint(
                condition=Q(failed__lte=F("requests"), ttft_met__lte=F("hours"), itl_met__lte=F("hours")),
                name="attainment_within_what_was_counted",
            ),
        ]
        # A tenant's days of a month, of all its endpoints.
        indexes = [models.Index(fields=["tenant", "day"], name="attainment_days")]
