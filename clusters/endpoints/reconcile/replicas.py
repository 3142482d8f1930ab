"""Rows of what was observed: replicas, the GPU time they take, the GPUs that stay reserved."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from django.db.models import Q
from django.utils import timezone

from billing.allocations import allocation_close, allocation_open, allocation_phase, wait_open
from billing.models import AllocationPhase
from clusters.models import Endpoint, Node, Replica, Reservation, Revision
from clusters.planning.gpus import part_of_whole
from clusters.specs import Phase, ReplicaStatus
from tenants.announcements import announce


@dataclasses.dataclass(frozen=True)
class Seen:
    """What of a replica is kept in its row."""

    phase: str
    url: str
    engine_model: str
    message: str
    trouble: str
    node: str
    gpus: int | None
    restarts: int
    started_at: object
    ready_at: object

    @classmethod
    def of(cls, status: ReplicaStatus) -> Seen:
        return cls(
            phase=status.phase.value,
            url=status.url or "",
            engine_model=status.engine_model,
            message=status.message[:500],
            trouble=status.trouble.value,
            node=status.node,
            gpus=status.gpus,
            restarts=status.restarts,
            started_at=status.started_at,
            ready_at=status.ready_at,
        )


PHASES: Final[Mapping[Phase, AllocationPhase.Phase]] = {
    Phase.STARTING: AllocationPhase.Phase.LOADING,
    Phase.READY: AllocationPhase.Phase.SERVING,
    Phase.DRAINING: AllocationPhase.Phase.DRAINING,
}
FIELDS = [field.name for field in dataclasses.fields(Seen)]


def keep_replicas(endpoint: Endpoint, revision: Revision, replicas: Sequence[ReplicaStatus]) -> None:
    """Write what changed of a revision's replicas and of the GPU time they take; nothing where nothing did."""
    now = timezone.now()
    shown = [status.replica_id for status in replicas]
    known = Replica.objects.filter(revision=revision).filter(Q(gone_at=None) | Q(replica_id__in=shown))
    rows = {row.replica_id: row for row in known}
    changed = False
    new = [status for status in replicas if status.replica_id not in rows]
    for status in replicas:
        seen = Seen.of(status)
        row = rows.pop(status.replica_id, None)
        if row is None:
            Replica.objects.create(
                tenant_id=endpoint.tenant_id,
                endpoint=endpoint,
                revision=revision,
                replica_id=status.replica_id,
                index=status.index,
                **dataclasses.asdict(seen),
            )
        elif row.gone_at is not None or Seen(*(getattr(row, name) for name in FIELDS)) != seen:
            for name, value in dataclasses.asdict(seen).items():
                setattr(row, name, value)
            row.gone_at = None  # it was out of sight only
            row.save(update_fields=[*FIELDS, "gone_at"])
        else:
            continue
        changed = True
        _keep_gpu_time(endpoint, revision, status, now)
    for row in rows.values():
        allocation_close(replica_id=row.replica_id, ended_at=_ended(row, new, now))
        row.phase, row.gone_at = Replica.Phase.GONE, now
        row.save(update_fields=["phase", "gone_at"])
    if changed or rows:
        announce()  # a replica that drains is to get no new requests from now on


def keep_reservation(revision: Revision, replicas: Sequence[ReplicaStatus], *, whole: bool = False) -> None:
    """Count the reservation on the nodes that replicas really took, and shrink it once a cluster has let go.

    A ``whole`` one does not shrink: another revision of the endpoint is to have what is let go.
    """
    reservation = Reservation.objects.held().select_for_update().filter(revision=revision).first()
    if reservation is None:
        return
    # Read under the lock: somebody may have scaled up since the revision was loaded.
    wanted = Revision.objects.values_list("replicas", flat=True).get(id=revision.id)
    holding = [status for status in replicas if status.holds_gpus]
    needed = max(wanted, len(holding), reservation.replicas if whole else 0)
    if reservation.span > 1:  # a cluster shows the node of a group's leader only
        nodes = reservation.nodes[: needed * reservation.span]
    else:
        nodes = _on_real_nodes(revision, reservation.nodes, holding)[:needed]
    if nodes != reservation.nodes:
        reservation.nodes = nodes
        reservation.save(update_fields=["nodes"])


def _on_real_nodes(
    revision: Revision, reserved: Sequence[int], holding: Sequence[ReplicaStatus]
) -> list[int]:
    names = [status.node for status in holding if status.node]
    if not names:
        # Where nodes are not known, those that an autoscaler added count on the emptiest that are reserved.
        return [*reserved, *reserved[: max(0, len(holding) - len(reserved))]]
    places = dict(Node.objects.filter(pool_id=revision.pool_id, name__in=names).values_list("name", "index"))
    taken = [places[name] for name in names if name in places]
    rest = list(reserved)
    for index in taken:
        if index in rest:
            rest.remove(index)
    # As many as were reserved: replicas not placed yet keep counting on a node of their own.
    kept = rest[: max(0, len(reserved) - len(taken))]
    if sorted(taken + kept) == sorted(reserved):
        return list(reserved)
    return sorted(taken) + kept


def _ended(row: Replica, new: Sequence[ReplicaStatus], now: dt.datetime) -> dt.datetime:
    """Give when a replica that is gone let go: at the latest when its successor took the same GPUs."""
    successors = [
        status.started_at
        for status in new
        if status.index == row.index and status.started_at and status.started_at > (row.started_at or now)
    ]
    return min([now, *successors])


def _keep_gpu_time(endpoint: Endpoint, revision: Revision, status: ReplicaStatus, now: dt.datetime) -> None:
    """Write down what a replica does with GPUs, as it is seen: which it holds, not which were ordered."""
    gpus = revision.gpus_per_replica if status.gpus is None else status.gpus
    profile, share = part_of_whole(revision.gpu_type)
    facts: dict[str, Any] = {
        "project": endpoint.project,
        "endpoint_id": endpoint.id,
        "revision_id": revision.id,
        "replica_id": status.replica_id,
        "cluster": revision.cluster.name,
        "region": revision.cluster.region.code,
        "pool": revision.pool.name,
        "gpu_type": revision.gpu_type,
        "slice": profile,
        "share": round(Decimal(share.numerator) / share.denominator, 8),
    }
    if status.phase is Phase.PENDING:
        allocation_close(replica_id=status.replica_id, ended_at=now)
        wait_open(**facts, gpus=revision.gpus_per_replica, started_at=now)
    elif status.holds_gpus and gpus:
        allocation = allocation_open(
            **facts,
            gpus=gpus,
            started_at=status.started_at or now,
            seen_at=now,
            price_factor=revision.price_factor,
        )
        # Since when it answers its cluster says, not since when it was told to go.
        serves = status.phase is Phase.READY
        allocation_phase(
            allocation=allocation,
            phase=PHASES[status.phase],
            since=(status.ready_at if serves else None) or now,
            served_since=status.ready_at if status.phase is Phase.DRAINING else None,
        )
    else:
        allocation_close(replica_id=status.replica_id, ended_at=now)
