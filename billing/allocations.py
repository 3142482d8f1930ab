"""What clusters writes into billing: who held GPUs when and what for, who waited, what endpoints were called."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal

from django.db import transaction
from django.db.models import F, Q, Value
from django.db.models.functions import Greatest

from billing.gpu_time.due import hours_changed
from billing.models import Allocation, AllocationPhase, EndpointLabel, GpuWait
from tenants import scope
from tenants.errors import Conflict
from tenants.models import Project


@transaction.atomic
def allocation_open(
    *,
    project: Project,
    endpoint_id: uuid.UUID,
    revision_id: uuid.UUID,
    replica_id: str,
    cluster: str,
    region: str,
    gpu_type: str,
    gpus: int,
    started_at: dt.datetime,
    seen_at: dt.datetime | None = None,
    pool: str = "",
    slice: str = "",
    share: Decimal = Decimal(1),
    price_factor: Decimal = Decimal(1),
) -> Allocation:
    """Note that a replica of the open tenant holds GPUs since ``started_at``; if it waited for them, no longer.

    Repeating it gives the allocation that is open. A replica whose allocation was closed and that holds GPUs
    again gets a further interval, which begins where the last one ended at the earliest. So does one that is seen
    with another number of GPUs than before, from ``seen_at`` on (None: ``started_at``).

    Raises:
        Conflict: the replica is known elsewhere or with GPUs of another type; a replica never moves.
    """
    facts = {
        "endpoint_id": endpoint_id,
        "revision_id": revision_id,
        "cluster": cluster,
        "region": region,
        "gpu_type": gpu_type,
    }
    replica_id = str(replica_id)
    held = Allocation.objects.filter(replica_id=replica_id).order_by("-started_at", "-created_at")
    last = held.first()
    if last is not None:
        differing = [name for name, value in facts.items() if str(getattr(last, name)) != str(value)]
        if differing:
            raise Conflict(f"Replica {replica_id} is allocated already with another {', '.join(differing)}.")
        if last.ended_at is None and last.gpus == gpus:
            return last
        if last.ended_at is None:
            _end(last, seen_at or started_at)
        started_at = max(started_at, last.ended_at or started_at)
    wait_close(replica_id=replica_id, ended_at=started_at)
    allocation, made = Allocation.objects.get_or_create(
        tenant_id=scope.current_tenant_id(),
        replica_id=replica_id,
        ended_at=None,
        defaults={
            **facts,
            "project": project,
            "pool": pool,
            "gpus": gpus,
            "slice": slice,
            "share": share,
            "started_at": started_at,
            "price_factor": price_factor,
        },
    )
    if made:
        hours_changed(since=started_at)
    return allocation


@transaction.atomic
def allocation_phase(
    *,
    allocation: Allocation,
    phase: AllocationPhase.Phase,
    since: dt.datetime,
    served_since: dt.datetime | None = None,
) -> AllocationPhase:
    """Note what an open allocation's GPUs do since ``since``; give the phase that is open then.

    Its first phase is loading, from the start of the allocation. ``served_since`` is since when one that drains was
    serving, which nobody may have seen. A phase begins where the one before ends. Repeating it writes nothing.
    """
    current = AllocationPhase.objects.select_for_update().filter(allocation=allocation, ended_at=None).first()
    if current is None:
        current = _phase_begin(allocation, AllocationPhase.Phase.LOADING, allocation.started_at)
    elif current.phase == phase:
        return current
    if served_since is not None and current.phase == AllocationPhase.Phase.LOADING:
        current = _phase_after(current, AllocationPhase.Phase.SERVING, served_since)
    if current.phase != phase:
        current = _phase_after(current, phase, since)
    hours_changed(since=current.started_at)
    return current


def _phase_after(
    current: AllocationPhase, phase: AllocationPhase.Phase, since: dt.datetime
) -> AllocationPhase:
    if since <= current.started_at:
        current.phase = phase  # the one before took no time
        current.save(update_fields=["phase"])
        return current
    current.ended_at = since
    current.save(update_fields=["ended_at"])
    return _phase_begin(current.allocation, phase, since)


def _phase_begin(allocation: Allocation, phase: AllocationPhase.Phase, since: dt.datetime) -> AllocationPhase:
    return AllocationPhase.objects.create(
        tenant_id=scope.current_tenant_id(), allocation=allocation, phase=phase, started_at=since
    )


@transaction.atomic
def allocation_close(*, replica_id: str, ended_at: dt.datetime) -> bool:
    """Note that a replica's GPUs were seen released at ``ended_at``; give whether it held some until now.

    The first end stands. An end before the start, as clocks may have it, counts as an empty interval. What waited
    for GPUs waits no more.
    """
    replica_id = str(replica_id)
    wait_close(replica_id=replica_id, ended_at=ended_at)
    allocation = Allocation.objects.select_for_update().filter(replica_id=replica_id, ended_at=None).first()
    if allocation is None:
        return False
    _end(allocation, ended_at)
    return True


def _end(allocation: Allocation, ended_at: dt.datetime) -> None:
    """End an allocation and its phases together; those that began later did not take place."""
    allocation.ended_at = ended_at = max(ended_at, allocation.started_at)
    allocation.save(update_fields=["ended_at"])
    phases = AllocationPhase.objects.filter(allocation=allocation)
    phases.filter(started_at__gt=ended_at).delete()
    phases.filter(Q(ended_at=None) | Q(ended_at__gt=ended_at)).update(ended_at=ended_at)
    hours_changed(since=ended_at)


@transaction.atomic
def wait_open(
    *,
    project: Project,
    endpoint_id: uuid.UUID,
    revision_id: uuid.UUID,
    replica_id: str,
    cluster: str,
    region: str,
    gpu_type: str,
    gpus: int,
    started_at: dt.datetime,
    pool: str = "",
    slice: str = "",
    share: Decimal = Decimal(1),
) -> GpuWait:
    """Note that a replica of the open tenant waits for GPUs since ``started_at`` and holds none.

    Repeating it gives the wait that is open.
    """
    last = GpuWait.objects.filter(replica_id=replica_id).order_by("-started_at", "-created_at").first()
    if last is not None and last.ended_at is None:
        return last
    if last is not None and last.ended_at is not None:
        started_at = max(started_at, last.ended_at)
    wait, made = GpuWait.objects.get_or_create(
        tenant_id=scope.current_tenant_id(),
        replica_id=replica_id,
        ended_at=None,
        defaults={
            "project": project,
            "endpoint_id": endpoint_id,
            "revision_id": revision_id,
            "cluster": cluster,
            "region": region,
            "pool": pool,
            "gpu_type": gpu_type,
            "gpus": gpus,
            "slice": slice,
            "share": share,
            "started_at": started_at,
        },
    )
    if made:
        hours_changed(since=started_at)
    return wait


@transaction.atomic
def wait_close(*, replica_id: str, ended_at: dt.datetime) -> bool:
    """Note that a replica waits no more since ``ended_at``; give whether it waited until now."""
    changed = GpuWait.objects.filter(replica_id=str(replica_id), ended_at=None).update(
        ended_at=Greatest(Value(ended_at), F("started_at"))
    )
    if changed:
        hours_changed(since=ended_at)
    return bool(changed)


@transaction.atomic
def label_write(
    *, project: Project, endpoint_id: uuid.UUID, name: str, model: str, slo_class: str
) -> EndpointLabel:
    """Note what an endpoint of the open tenant is called, for when it is gone."""
    label, _ = EndpointLabel.objects.update_or_create(
        tenant_id=scope.current_tenant_id(),
        endpoint_id=endpoint_id,
        defaults={"project": project, "name": name, "model": model, "slo_class": slo_class},
    )
    return label
