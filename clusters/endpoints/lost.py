"""Giving up a cluster that is gone for good: what ran there ends, and is placed elsewhere."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Collection

from django.db.models import F, Q, QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone

from billing.allocations import allocation_close
from billing.gpu_time.supply import supply_close
from clusters.endpoints import placement
from clusters.endpoints.conditions import set_condition
from clusters.endpoints.history import record
from clusters.endpoints.wake import wake
from clusters.models import (
    Cluster,
    Condition,
    Endpoint,
    Gateway,
    Replica,
    Reservation,
    Revision,
    Rollout,
)
from tenants import scope
from tenants.announcements import announce
from tenants.errors import Conflict
from tenants.models import Tenant

_LONGEST_REASON = 300


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss:
    """What giving up a cluster ends: its gateways by name, replicas, and when their GPU time ends."""

    endpoint_ids: Collection[object]
    gateways: Collection[str]
    replicas: int
    ended_at: dt.datetime

    def told(self) -> dict[str, object]:
        """Give it in short, for the operators' log."""
        return {
            "endpoints": len(self.endpoint_ids),
            "replicas": self.replicas,
            "gateways": list(self.gateways),
            "ended_at": self.ended_at.isoformat(),
        }


def cluster_loss(cluster: Cluster) -> Loss:
    """Say what :func:`cluster_lost` would end, changing nothing."""
    with scope.platform("see what ran on a cluster that is lost"):
        return Loss(
            endpoint_ids=list(_concerned(cluster).values_list("id", flat=True)),
            gateways=list(Gateway.objects.filter(cluster=cluster).values_list("name", flat=True)),
            replicas=Replica.objects.filter(revision__in=_present(cluster), gone_at=None).count(),
            ended_at=_last_seen(cluster),
        )


def cluster_lost(*, cluster: Cluster, actor: str) -> Loss:
    """Give up a cluster that does not answer and will not come back.

    GPU time there ends when the cluster was last seen; its reservations are released, and its endpoints are placed
    elsewhere. Rows of its gateways go, and what usage they had not shipped is lost. It stays cordoned: if it answers
    again after all, the sweep of leaks deletes the engines that still run there.

    Raises:
        Conflict: the cluster answers.
    """
    with scope.platform("give up a cluster that is lost"):
        row = Cluster.objects.select_for_update(no_key=True).get(id=cluster.id)
        if row.state != Cluster.State.UNREACHABLE:
            raise Conflict(
                f"Cluster {row.name} is {row.state}: only one that does not answer can be given up."
            )
        endpoints = _lock(row)
        loss = cluster_loss(row)
        row.cordon_reason = f"Declared lost by {actor}, {timezone.now():%Y-%m-%d %H:%M} UTC."[
            :_LONGEST_REASON
        ]
        row.save(update_fields=["cordon_reason"])
        for endpoint in endpoints:
            _let_go(endpoint, row, loss.ended_at, actor)
        supply_close(cluster=row.name, ended_at=loss.ended_at)
        Gateway.objects.filter(cluster=row).delete()
        announce()
    return loss


def _let_go(endpoint: Endpoint, cluster: Cluster, ended_at: dt.datetime, actor: str) -> None:
    now = timezone.now()
    with scope.tenant(endpoint.tenant_id):
        lost = list(Revision.objects.filter(endpoint=endpoint, cluster=cluster, cleaned_at=None))
        current = placement.current_revision(endpoint)
        replicas = Replica.objects.filter(revision__in=lost, gone_at=None)
        for replica_id in replicas.values_list("replica_id", flat=True):
            allocation_close(replica_id=replica_id, ended_at=ended_at)
        replicas.update(gone_at=now, phase=Replica.Phase.GONE, url="")
        released = Reservation.objects.held().filter(revision__in=lost)
        gpus = released.gpus()
        released.update(released_at=now)
        Revision.objects.filter(id__in=[revision.id for revision in lost]).update(
            retired_at=Coalesce(F("retired_at"), now), cleaned_at=now
        )
        told = (
            f"Cluster {cluster.name} is lost for good. {gpus} GPUs are released; "
            f"their cost ended {ended_at:%Y-%m-%d %H:%M} UTC."
        )
        if current is not None and current in lost:
            placement.begin_change(endpoint)
            for kind in (Condition.Type.PLACED, Condition.Type.REACHABLE):
                set_condition(endpoint, kind, Condition.Status.UNKNOWN, "ClusterLost", told)
        placement.unclaim_released(endpoint)
        changes = {"generation": F("generation") + 1}
        if endpoint.cluster_id == cluster.id:
            changes["cluster"] = None
        if _restores_from(endpoint, cluster):
            changes["restoring"] = None
        Endpoint.objects.filter(id=endpoint.id).update(**changes)
        for rollout in Rollout.objects.active().filter(endpoint=endpoint, back__cluster=cluster.name):
            rollout.back = rollout.back | {"cluster": None}
            rollout.save(update_fields=["back"])
        record(endpoint, "cluster-lost", told, actor=actor)
        wake(endpoint)


def _lock(cluster: Cluster) -> list[Endpoint]:
    """Lock the endpoints that the loss concerns, their tenants first, as every change of an endpoint does."""
    tenants = list(_concerned(cluster).order_by("tenant_id").values_list("tenant_id", flat=True).distinct())
    list(Tenant.objects.select_for_update(no_key=True).filter(id__in=tenants).order_by("id"))
    ids = list(_concerned(cluster).filter(tenant__in=tenants).values_list("id", flat=True))
    return list(Endpoint.objects.select_for_update(of=("self",)).filter(id__in=ids).order_by("id"))


def _concerned(cluster: Cluster) -> QuerySet[Endpoint]:
    there = Q(id__in=_present(cluster).values("endpoint_id"))
    return Endpoint.objects.live().filter(there | Q(cluster=cluster))


def _present(cluster: Cluster) -> QuerySet[Revision]:
    return Revision.objects.filter(cluster=cluster, cleaned_at=None)


def _restores_from(endpoint: Endpoint, cluster: Cluster) -> bool:
    return (
        endpoint.restoring is not None
        and Revision.objects.filter(endpoint=endpoint, number=endpoint.restoring, cluster=cluster).exists()
    )


def _last_seen(cluster: Cluster) -> dt.datetime:
    return cluster.last_seen_at or cluster.created_at
