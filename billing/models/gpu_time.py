"""GPU time: what clusters showed to be there, what it costs its owner, and where each hour of it went."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from billing.models.allocations import Allocation
from tenants.managers import TenantManager
from tenants.models import Identified, Tenant, TenantOwned


class AllocationPhase(TenantOwned):
    """What a replica did with the GPUs of its allocation from ``started_at`` until ``ended_at`` (None: still).

    ``queued`` holds no GPU yet and is charged nothing. Whether GPUs that serve are idle follows from usage.
    """

    class Phase(models.TextChoices):
        QUEUED = "queued"
        LOADING = "loading"
        SERVING = "serving"
        DRAINING = "draining"

    allocation = models.ForeignKey(Allocation, on_delete=models.CASCADE, related_name="phases")
    phase = models.CharField(max_length=8, choices=Phase)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta(TenantOwned.Meta):
        ordering = ["started_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "allocation"], condition=Q(ended_at=None), name="one_open_phase"
            ),
            models.CheckConstraint(
                condition=Q(ended_at=None) | Q(ended_at__gte=F("started_at")), name="phase_ends_after_start"
            ),
        ]


class GpuSupply(Identified):
    """GPUs that a node was seen to have from ``started_at`` until ``ended_at`` (None: still).

    ``gpus`` are devices of ``gpu_type``; ``platform`` those of them that are not Berth's to give: held by others in
    the cluster, faulty, cordoned.
    """

    cluster = models.CharField(max_length=80)
    region = models.CharField(max_length=40)
    pool = models.CharField(max_length=40)
    node = models.CharField(max_length=253)
    gpu_type = models.CharField(max_length=40)
    gpus = models.PositiveSmallIntegerField()
    platform = models.PositiveSmallIntegerField(default=0)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["started_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["cluster", "pool", "node"],
                condition=Q(ended_at=None),
                name="one_open_supply_per_node",
            ),
            models.CheckConstraint(condition=Q(platform__lte=F("gpus")), name="supply_platform_within_gpus"),
            models.CheckConstraint(
                condition=Q(ended_at=None) | Q(ended_at__gte=F("started_at")), name="supply_ends_after_start"
            ),
        ]
        indexes = [models.Index(fields=["ended_at", "started_at"], name="supply_period")]


class AssetRate(Identified):
    """What an hour of a GPU costs its owner from a moment on, used or not. Never edited, only followed.

    A blank ``cluster`` or ``gpu_type`` holds for every one; the rate that names more wins, then the newest.
    """

    cluster = models.CharField(max_length=80, blank=True)
    gpu_type = models.CharField(max_length=40, blank=True)
    amount = models.DecimalField(max_digits=20, decimal_places=10)
    currency = models.CharField(max_length=3)
    effective_from = models.DateTimeField()
    note = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["cluster", "gpu_type", "-effective_from"]
        constraints = [
            models.UniqueConstraint(
                fields=["cluster", "gpu_type", "effective_from"],
                name="asset_rate_once_per_moment",
                violation_error_message="A rate for this begins at the same moment; choose another time.",
            ),
            models.CheckConstraint(condition=Q(amount__gte=0), name="asset_rate_not_negative"),
        ]


def _gpu_seconds() -> models.DecimalField:
    return models.DecimalField(max_digits=24, decimal_places=6, default=0)


def _cost() -> models.DecimalField:
    return models.DecimalField(max_digits=40, decimal_places=15, default=0)


class ClusterHour(models.Model):
    """Where the GPU time of one hour of a pool went, in GPU-seconds: ``seen`` = ``held`` + ``idle`` + ``platform``.

    ``cost`` is what it cost its owner; the three parts of it sum to it. ``idle`` here is what nobody held.
    """

    id = models.BigAutoField(primary_key=True)
    bucket = models.DateTimeField(help_text="The hour's start in UTC.")
    cluster = models.CharField(max_length=80)
    region = models.CharField(max_length=40)
    pool = models.CharField(max_length=40)
    gpu_type = models.CharField(max_length=40)
    seen = _gpu_seconds()
    held = _gpu_seconds()
    idle = _gpu_seconds()
    platform = _gpu_seconds()
    currency = models.CharField(max_length=3, blank=True)
    cost = _cost()
    held_cost = _cost()
    idle_cost = _cost()
    platform_cost = _cost()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["bucket", "cluster", "pool", "gpu_type"], name="cluster_hour_once"
            ),
        ]


class HeldHour(models.Model):
    """What a revision of an endpoint did with its GPUs in one hour, in GPU-seconds.

    ``held`` = ``loading`` + ``serving`` + ``idle`` + ``draining``: ``serving`` was ready in an hour in which the
    endpoint got a request, ``idle`` in one in which it got none. ``queued`` waited and held nothing.
    """

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="+", db_index=False)
    bucket = models.DateTimeField(help_text="The hour's start in UTC.")
    cluster = models.CharField(max_length=80)
    region = models.CharField(max_length=40)
    pool = models.CharField(max_length=40)
    gpu_type = models.CharField(max_length=40)
    project_id = models.UUIDField()
    endpoint_id = models.UUIDField()
    revision_id = models.UUIDField()
    queued = _gpu_seconds()
    loading = _gpu_seconds()
    serving = _gpu_seconds()
    idle = _gpu_seconds()
    draining = _gpu_seconds()
    held = _gpu_seconds()

    objects = TenantManager()

    class Meta:
        base_manager_name = "objects"
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "bucket", "endpoint_id", "revision_id", "cluster", "pool", "gpu_type"],
                name="held_hour_once",
            ),
        ]
        indexes = [models.Index(fields=["bucket"], name="held_hour_bucket")]  # the operators' dashboard
