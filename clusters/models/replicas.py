"""Replicas as observed, and GPUs as reserved."""

from __future__ import annotations

from collections import Counter

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from clusters.models.clusters import NodePool
from clusters.models.endpoints import Endpoint
from clusters.models.revisions import Revision
from tenants.managers import TenantManager, TenantQuerySet
from tenants.models import TenantOwned


class Replica(TenantOwned):
    """One engine as its cluster last showed it; gone ones are kept with ``gone_at``."""

    class Phase(models.TextChoices):
        PENDING = "pending"
        STARTING = "starting"
        READY = "ready"
        DRAINING = "draining"
        FAILED = "failed"
        GONE = "gone"

    revision = models.ForeignKey(Revision, on_delete=models.PROTECT, related_name="observed")
    endpoint = models.ForeignKey(Endpoint, on_delete=models.PROTECT, related_name="observed")
    replica_id = models.CharField(max_length=80)
    index = models.PositiveSmallIntegerField()
    phase = models.CharField(max_length=16, choices=Phase)
    url = models.CharField(max_length=200, blank=True)
    engine_model = models.CharField(max_length=80, blank=True)
    message = models.CharField(max_length=500, blank=True)
    trouble = models.CharField(max_length=32, blank=True)
    node = models.CharField(max_length=253, blank=True)
    gpus = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="That it is seen to hold; none: its cluster does not tell."
    )
    restarts = models.PositiveIntegerField(default=0)
    memory = models.JSONField(null=True, blank=True, help_text="Bytes told apart; missing: not available.")
    started_at = models.DateTimeField(null=True, blank=True)
    ready_at = models.DateTimeField(null=True, blank=True)
    gone_at = models.DateTimeField(null=True, blank=True)

    class Meta(TenantOwned.Meta):
        ordering = ["index", "created_at"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "revision", "replica_id"], name="replica_once"),
        ]
        indexes = [
            # The gateways' snapshot and every pass of the reconciler: what is there now.
            models.Index(fields=["tenant", "endpoint"], condition=Q(gone_at=None), name="replica_present"),
        ]


class ReservationQuerySet(TenantQuerySet):
    def held(self) -> ReservationQuerySet:
        """Those whose GPUs are not released."""
        return self.filter(released_at=None)

    def gpus(self) -> int:
        """Count their GPUs."""
        return sum(reservation.gpus for reservation in self)

    def gpus_by_type(self) -> Counter[str]:
        """Count their GPUs by type."""
        counted: Counter[str] = Counter()
        for reservation in self.select_related("pool__gpu_type"):
            counted[reservation.pool.gpu_type.name] += reservation.gpus
        return counted


class Reservation(TenantOwned):
    """GPUs of a pool set aside for a revision, from placing until the cluster shows them released.

    ``nodes`` gives, per replica, the index of the pool's node whose GPUs it counts on; where a replica spans
    nodes, the ``span`` of them one after the other.
    """

    endpoint = models.ForeignKey(Endpoint, on_delete=models.PROTECT, related_name="reservations")
    revision = models.OneToOneField(Revision, on_delete=models.PROTECT, related_name="reservation")
    pool = models.ForeignKey(NodePool, on_delete=models.PROTECT, related_name="reservations")
    nodes = ArrayField(models.PositiveIntegerField(), default=list)
    gpus_per_replica = models.PositiveSmallIntegerField()
    span = models.PositiveSmallIntegerField(default=1, help_text="Nodes that one replica takes.")
    released_at = models.DateTimeField(null=True, blank=True)

    objects = TenantManager.of(ReservationQuerySet)

    class Meta(TenantOwned.Meta):
        indexes = [
            # Free GPUs of a pool: what is held now.
            models.Index(fields=["pool"], condition=Q(released_at=None), name="reservation_held"),
        ]

    @property
    def gpus(self) -> int:
        return self.replicas * self.gpus_per_replica

    @property
    def replicas(self) -> int:
        return len(self.nodes) // self.span
