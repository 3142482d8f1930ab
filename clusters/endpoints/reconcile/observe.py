"""Look at what the cluster shows, and keep replicas and GPU time accordingly."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence

from django.utils import timezone

from billing.allocations import allocation_close, allocation_open
from clusters.drivers.base import DeploymentStatus, Phase, ReplicaStatus, TryLater
from clusters.endpoints.conditions import set_condition
from clusters.endpoints.history import record
from clusters.endpoints.reconcile.work import Work
from clusters.inventory.drivers import driver_of
from clusters.models import Condition, Replica, Reservation, Revision
from tenants import scope


def observe(work: Work) -> None:
    """Write down the replicas of every revision that is still on a cluster."""
    for revision in [work.current, *work.leftovers]:
        if revision is None or revision.applied_at is None:
            continue
        try:
            status = driver_of(revision.cluster).observe(revision.deployment)
        except TryLater as error:
            work.unreachable(error)
            continue
        replicas = status.replicas if status else ()
        with scope.tenant(work.endpoint.tenant_id):
            _keep(work, revision, replicas)
            if revision is work.current and work.running_wanted:
                _judge(work, revision, status)
        # In a transaction of its own: scaling holds the endpoint's row and then waits for the reservation's.
        with scope.tenant(work.endpoint.tenant_id):
            _give_back(revision, sum(status.holds_gpus for status in replicas))
    if work.current is not None or work.leftovers:
        with scope.tenant(work.endpoint.tenant_id):
            if work.away is None:
                set_condition(
                    work.endpoint,
                    Condition.Type.REACHABLE,
                    Condition.Status.TRUE,
                    "Answers",
                    "Its cluster answers.",
                )
            else:
                set_condition(
                    work.endpoint, Condition.Type.REACHABLE, Condition.Status.FALSE, "Away", str(work.away)
                )


@dataclasses.dataclass(frozen=True)
class Seen:
    """What of a replica is kept in its row."""

    phase: str
    url: str
    engine_model: str
    message: str
    started_at: object
    ready_at: object

    @classmethod
    def of(cls, status: ReplicaStatus) -> Seen:
        return cls(
            phase=status.phase.value,
            url=status.url or "",
            engine_model=status.engine_model,
            message=status.message[:500],
            started_at=status.started_at,
            ready_at=status.ready_at,
        )


def _keep(work: Work, revision: Revision, replicas) -> None:
    now = timezone.now()
    rows = {row.replica_id: row for row in Replica.objects.filter(revision=revision, gone_at=None)}
    for status in replicas:
        seen = Seen.of(status)
        row = rows.pop(status.replica_id, None)
        if row is None:
            row = Replica.objects.create(
                tenant_id=work.endpoint.tenant_id,
                endpoint=work.endpoint,
                revision=revision,
                replica_id=status.replica_id,
                index=status.index,
                **dataclasses.asdict(seen),
            )
            changed = True
        else:
            changed = Seen(*(getattr(row, field.name) for field in dataclasses.fields(Seen))) != seen
            if changed:
                for name, value in dataclasses.asdict(seen).items():
                    setattr(row, name, value)
                row.save(update_fields=[field.name for field in dataclasses.fields(Seen)])
        if changed:
            _keep_allocation(work, revision, status, now)
    for row in rows.values():
        allocation_close(replica_id=row.replica_id, ended_at=_ended(row, replicas, now))
        row.phase, row.gone_at = Replica.Phase.GONE, now
        row.save(update_fields=["phase", "gone_at"])


def _ended(row: Replica, shown: Sequence[ReplicaStatus], now: dt.datetime) -> dt.datetime:
    """Give when a replica that is gone let go: at the latest when its successor took the same GPUs."""
    successors = [
        status.started_at
        for status in shown
        if status.index == row.index and status.started_at and status.started_at > (row.started_at or now)
    ]
    return min([now, *successors])


def _keep_allocation(work: Work, revision: Revision, status: ReplicaStatus, now) -> None:
    if status.holds_gpus:
        allocation_open(
            project=work.endpoint.project,
            endpoint_id=work.endpoint.id,
            revision_id=revision.id,
            replica_id=status.replica_id,
            cluster=revision.cluster.name,
            region=revision.cluster.region.code,
            gpu_type=revision.gpu_type,
            gpus=revision.gpus_per_replica,
            started_at=status.started_at or now,
            price_factor=revision.price_factor,
        )
    else:
        allocation_close(replica_id=status.replica_id, ended_at=now)


def _give_back(revision: Revision, holding: int) -> None:
    """Shrink the reservation of a revision that was scaled down, once the cluster has let go."""
    reservation = Reservation.objects.held().select_for_update().filter(revision=revision).first()
    if reservation is None:
        return
    # Read under the lock: somebody may have scaled up since the revision was loaded.
    wanted = Revision.objects.values_list("replicas", flat=True).get(id=revision.id)
    needed = max(wanted, holding)
    if len(reservation.nodes) > needed:
        reservation.nodes = reservation.nodes[:needed]
        reservation.save(update_fields=["nodes"])


def _judge(work: Work, revision: Revision, status: DeploymentStatus | None) -> None:
    replicas = status.replicas if status else ()
    ready = sum(replica.phase == Phase.READY for replica in replicas)
    failed = next((replica for replica in replicas if replica.phase == Phase.FAILED), None)
    if ready >= revision.replicas:
        news = (Condition.Status.TRUE, "AllReady", f"{ready} of {revision.replicas} engines answer.")
    elif failed is not None:
        news = (Condition.Status.FALSE, "EngineFailed", f"Replica {failed.index}: {failed.message}")
    else:
        waiting = next((replica.message for replica in replicas if replica.message), "")
        message = f"{ready} of {revision.replicas} engines answer. {waiting}".strip()
        news = (Condition.Status.FALSE, "Starting", message)
    if set_condition(work.endpoint, Condition.Type.ENGINE_READY, *news) and news[1] != "Starting":
        record(work.endpoint, "engines", news[2])
