"""How long endpoints waited for capacity, and for which pools."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from clusters.models.endpoints import Endpoint
from tenants.models import TenantOwned


class CapacityWait(TenantOwned):
    """One wait of an endpoint for free GPUs, from ``created_at`` until ``ended_at``.

    ``pools`` are those that would do if they were free, by ``cluster/name``; ``pool`` is the one that it got, empty
    where it was paused or deleted before. ``alternatives`` are the plan's: what could be had at once instead.
    """

    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="waits")
    pools = ArrayField(models.CharField(max_length=81), default=list)
    alternatives = models.JSONField(default=list)
    offered_at = models.DateTimeField(
        null=True, blank=True, help_text="Since when others leave it GPUs that it has not taken."
    )
    ended_at = models.DateTimeField(null=True, blank=True)
    pool = models.CharField(max_length=81, blank=True)

    class Meta(TenantOwned.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "endpoint"], condition=Q(ended_at=None), name="one_wait_at_once"
            ),
        ]
        indexes = [
            # The queue, and how long those waited that got something.
            models.Index(fields=["created_at"], condition=Q(ended_at=None), name="waits_open"),
            models.Index(fields=["ended_at"], condition=Q(ended_at__isnull=False), name="waits_over"),
        ]
