"""GPU time: what clusters showed to be there, what it costs its owner, and where each hour of it went."""

from __future__ import annotations

from decimal import Decimal

from django.db import models
from django.db.models import F, Q

from billing.models.allocations import Allocation
from tenants.managers import TenantManager
from tenants.models import Identified, Project, Tenant, TenantOwned


def _share() -> models.DecimalField:
    return models.DecimalField(max_digits=9, decimal_places=8, default=Decimal(1))


class AllocationPhase(TenantOwned):
    """What a replica did with the GPUs of its allocation from ``started_at`` until ``ended_at`` (None: still).

    The phases of an allocation follow each other without a gap, from its start to its end. Whether GPUs that serve are
    idle follows from usage.
    """

    class Phase(models.TextChoices):
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


class GpuWait(TenantOwned):
    """A replica that was accepted and waited for ``gpus`` GPUs until ``ended_at`` (None: still). It held none.

    What waits has no allocation, so that nothing of it can be charged.
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
    share = _share()
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta(TenantOwned.Meta):
        ordering = ["started_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "replica_id"], condition=Q(ended_at=None), name="one_open_wait_per_replica"
            ),
            models.CheckConstraint(
                condition=Q(ended_at=None) | Q(ended_at__gte=F("started_at")), name="wait_ends_after_start"
            ),
        ]
        # Hours of GPU time: what overlaps a few hours, of all tenants.
        indexes = [models.Index(fields=["ended_at", "started_at"], name="wait_overlap")]


class GpuSupply(Identified):
    """GPUs that a node was seen to have from ``started_at`` until ``ended_at`` (None: still).

    ``gpus`` are devices of ``gpu_type``, parts of a GPU where ``slice`` names them (see :class:`Allocation`);
    ``platform`` those of them that are not Berth's to give: held by others in the cluster, faulty, cordoned, reserved.
    """

    cluster = models.CharField(max_length=80)
    region = models.CharField(max_length=40)
    pool = models.CharField(max_length=40)
    node = models.CharField(max_length=253)
    gpu_type = models.CharField(max_length=40)
    gpus = models.PositiveSmallIntegerField()
    slice = models.CharField(max_length=40, blank=True)
    share = _share()
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

    A blank ``cluster`` or ``gpu_type`` holds for every one. The rate that names more wins, of two that name one thing
    that of the GPU type, then the newest. A rate of a whole GPU holds for its parts, by their share of it.
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


class ClusterTime(models.Model):
    """Where the GPU time of a pool went, in GPU-seconds: ``seen`` = ``held`` + ``idle`` + ``platform``.

    ``idle`` here is what nobody held. ``held`` = ``loading`` + ``serving`` + ``unused`` + ``draining``, where
    ``unused`` is what :class:`HeldTime` calls idle; ``queued`` was waited for. ``excess`` is that part of ``held``
    that no node showed at that moment: clocks that differ, a node that was lost or is not read; ``seen`` is raised by
    it, so that the sum holds. ``cost`` is what it cost its owner: held, idle and platform sum to it, ``unused_cost``
    is a part of what was held. Time without an asset rate is a row of its own, with a blank ``currency``. A GPU-second
    of a part of a GPU is ``share`` of a whole one's.
    """

    id = models.BigAutoField(primary_key=True)
    bucket = models.DateTimeField(help_text="The start of the hour or of the day, in UTC.")
    cluster = models.CharField(max_length=80)
    region = models.CharField(max_length=40)
    pool = models.CharField(max_length=40)
    gpu_type = models.CharField(max_length=40)
    share = _share()
    seen = _gpu_seconds()
    held = _gpu_seconds()
    idle = _gpu_seconds()
    platform = _gpu_seconds()
    excess = _gpu_seconds()
    queued = _gpu_seconds()
    loading = _gpu_seconds()
    serving = _gpu_seconds()
    unused = _gpu_seconds()
    draining = _gpu_seconds()
    currency = models.CharField(max_length=3, blank=True)
    cost = _cost()
    held_cost = _cost()
    idle_cost = _cost()
    platform_cost = _cost()
    unused_cost = _cost()

    class Meta:
        abstract = True


_CLUSTER_KEY = ["bucket", "cluster", "pool", "gpu_type", "currency"]


class ClusterHour(ClusterTime):
    """GPU time of a pool in one hour of UTC."""

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=_CLUSTER_KEY, name="cluster_hour_once"),
            models.CheckConstraint(
                condition=Q(seen=F("held") + F("idle") + F("platform")), name="cluster_hour_adds_up"
            ),
            models.CheckConstraint(
                condition=Q(held=F("loading") + F("serving") + F("unused") + F("draining")),
                name="cluster_hour_held_adds_up",
            ),
            models.CheckConstraint(
                condition=Q(cost=F("held_cost") + F("idle_cost") + F("platform_cost")),
                name="cluster_hour_cost_adds_up",
            ),
        ]


class ClusterDay(ClusterTime):
    """GPU time of a pool on one day of UTC, the sum of its hours."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=_CLUSTER_KEY, name="cluster_day_once")]


class HeldTime(models.Model):
    """What a revision of an endpoint did with its GPUs, in GPU-seconds.

    ``held`` = ``loading`` + ``serving`` + ``idle`` + ``draining``: ``serving`` was ready in hours in which the
    endpoint got a request, ``idle`` in hours in which it got none. ``queued`` waited and held nothing. ``cost`` is what
    ``held`` cost the owner of the GPUs, ``idle_cost`` the part of it that is ``idle``.
    """

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="+", db_index=False)
    bucket = models.DateTimeField(help_text="The start of the hour or of the day, in UTC.")
    cluster = models.CharField(max_length=80)
    region = models.CharField(max_length=40)
    pool = models.CharField(max_length=40)
    gpu_type = models.CharField(max_length=40)
    share = _share()
    project_id = models.UUIDField()
    endpoint_id = models.UUIDField()
    revision_id = models.UUIDField()
    queued = _gpu_seconds()
    loading = _gpu_seconds()
    serving = _gpu_seconds()
    idle = _gpu_seconds()
    draining = _gpu_seconds()
    held = _gpu_seconds()
    currency = models.CharField(max_length=3, blank=True)
    cost = _cost()
    idle_cost = _cost()

    objects = TenantManager()

    class Meta:
        abstract = True
        base_manager_name = "objects"


_HELD_KEY = [
    "tenant", "bucket", "endpoint_id", "revision_id", "project_id", "cluster", "pool", "gpu_type", "currency",
]  # fmt: skip


class HeldHour(HeldTime):
    """What a revision did with its GPUs in one hour of UTC."""

    class Meta(HeldTime.Meta):
        constraints = [
            models.UniqueConstraint(fields=_HELD_KEY, name="held_hour_once"),
            models.CheckConstraint(
                condition=Q(held=F("loading") + F("serving") + F("idle") + F("draining")),
                name="held_hour_adds_up",
            ),
        ]
        indexes = [
            models.Index(fields=["bucket"], name="held_hour_bucket"),  # the operators' dashboard
            # Late usage: idle hours of the last weeks in which the endpoint was asked after all.
            models.Index(fields=["bucket"], condition=Q(idle__gt=0), name="held_hour_idle"),
        ]


class HeldDay(HeldTime):
    """What a revision did with its GPUs on one day of UTC, the sum of its hours."""

    class Meta(HeldTime.Meta):
        constraints = [models.UniqueConstraint(fields=_HELD_KEY, name="held_day_once")]
        indexes = [models.Index(fields=["bucket"], name="held_day_bucket")]


class DueHour(models.Model):
    """An hour of UTC whose GPU time is to be computed: those that run or are just over, and those that changed."""

    bucket = models.DateTimeField(primary_key=True)
