"""What endpoints could cost less by, found by looking at what they held and served."""

from __future__ import annotations

import datetime as dt

from django.db import models
from django.db.models import Q

from clusters.models.endpoints import Endpoint
from tenants.managers import TenantManager, TenantQuerySet
from tenants.models import TenantOwned


class SavingQuerySet(TenantQuerySet):
    def open(self, now: dt.datetime) -> SavingQuerySet:
        """Those that nobody put off, of endpoints that are there."""
        shown = Q(dismissed_until=None) | Q(dismissed_until__lte=now)
        return self.filter(shown, endpoint__deleted_at=None)


class Saving(TenantOwned):
    """One finding, as it was last computed; gone once it holds no more.

    ``amount`` is what the tenant would save in 30 days at its prices, ``asset_amount`` what the GPUs given back cost
    their owner in that time, None where no rate is known. ``how`` are sentences with the numbers it was computed from.
    Put off until ``dismissed_until`` by somebody, with a reason, it is kept and not shown.
    """

    class Kind(models.TextChoices):
        IDLE = "idle", "Idle endpoint"
        OVERSIZED = "oversized", "More GPUs than its load needs"
        CHEAPER_GPU = "cheaper-gpu", "Cheaper GPU type"

    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="savings")
    kind = models.CharField(max_length=16, choices=Kind)
    what = models.CharField(max_length=300)
    amount = models.DecimalField(max_digits=20, decimal_places=4)
    currency = models.CharField(max_length=3)
    asset_amount = models.DecimalField(max_digits=20, decimal_places=4, null=True)
    asset_currency = models.CharField(max_length=3, blank=True)
    gpu_hours = models.DecimalField(max_digits=20, decimal_places=4, help_text="Given back in 30 days.")
    how = models.JSONField(default=list)
    computed_at = models.DateTimeField()
    dismissed_until = models.DateTimeField(null=True, blank=True)
    dismissed_reason = models.CharField(max_length=300, blank=True)
    dismissed_by = models.CharField(max_length=254, blank=True)

    objects = TenantManager.of(SavingQuerySet)

    class Meta(TenantOwned.Meta):
        ordering = ["-amount", "id"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "endpoint", "kind"], name="one_saving_of_a_kind"),
            models.CheckConstraint(condition=Q(amount__gt=0), name="saving_is_positive"),
        ]

    def __str__(self) -> str:
        return self.what
