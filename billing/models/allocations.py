"""Intervals in which GPUs were held."""

from __future__ import annotations

from decimal import Decimal

from django.db import models
from django.db.models import F, Q

from tenants.models import Project, TenantOwned


class Allocation(TenantOwned):
    """GPUs held by one replica from ``started_at`` until ``ended_at`` (None: still held).

    Written from what the cluster shows, not from what was asked of it. ``gpus`` are devices of ``gpu_type``; where
    that is a part of a GPU, ``slice`` names it (a MIG profile) and ``share`` is which part of a whole one it is.
    """

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="+")
    endpoint_id = models.UUIDField()
    revision_id = models.UUIDField()
    replica_id = models.CharField(max_length=80)
    cluster = models.CharField(max_length=80)
    region = models.CharField(max_length=40)
    pool = models.CharField(max_length=40, blank=True)
    gpu_type = models.CharField(max_length=40)
    gpus = models.PositiveSmallIntegerField()
    slice = models.CharField(max_length=40, blank=True)
    share = models.DecimalField(max_digits=9, decimal_places=8, default=Decimal(1))
    price_factor = models.DecimalField(
        max_digits=6, decimal_places=3, default=Decimal(1), help_text="Of the SLO class, as it was quoted."
    )
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta(TenantOwned.Meta):
        ordering = ["started_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "replica_id"],
                condition=Q(ended_at=None),
                name="one_open_allocation_per_replica",
            ),
            models.CheckConstraint(
                condition=Q(ended_at=None) | Q(ended_at__gte=F("started_at")),
                name="allocation_ends_after_start",
            ),
        ]
        indexes = [
            # Cost of a period: what overlaps it, newest end first.
            models.Index(fields=["tenant", "ended_at", "started_at"], name="allocation_period"),
            models.Index(fields=["cluster", "started_at"], name="allocation_cluster"),
            # Hours of GPU time: what overlaps a few hours, of all tenants.
            models.Index(fields=["ended_at", "started_at"], name="allocation_overlap"),
        ]
