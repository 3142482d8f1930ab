"""What clusters writes into billing: which GPUs were held when, and what endpoints were called."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal

from django.db import transaction
from django.db.models import F, Value
from django.db.models.functions import Greatest

from billing.models import Allocation, EndpointLabel
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
    price_factor: Decimal = Decimal(1),
) -> Allocation:
    """Note that a replica of the open tenant holds GPUs since ``started_at``.

    Repeating it gives the allocation that is open. A replica whose allocation was closed and that holds GPUs
    again gets a further interval, which begins where the last one ended at the earliest.

    Raises:
        Conflict: the replica is known with other GPUs or elsewhere; a replica never moves.
    """
    facts = {
        "endpoint_id": endpoint_id,
        "revision_id": revision_id,
        "cluster": cluster,
        "region": region,
        "gpu_type": gpu_type,
        "gpus": gpus,
    }
    held = Allocation.objects.filter(replica_id=str(replica_id)).order_by("-started_at")
    last = held.first()
    if last is not None:
        differing = [name for name, value in facts.items() if str(getattr(last, name)) != str(value)]
        if differing:
            raise Conflict(f"Replica {replica_id} is allocated already with another {', '.join(differing)}.")
        if last.ended_at is None:
            return last
        started_at = max(started_at, last.ended_at)
    allocation, _ = Allocation.objects.get_or_create(
        tenant_id=scope.current_tenant_id(),
        replica_id=str(replica_id),
        ended_at=None,
        defaults={**facts, "project": project, "started_at": started_at, "price_factor": price_factor},
    )
    return allocation


@transaction.atomic
def allocation_close(*, replica_id: str, ended_at: dt.datetime) -> bool:
    """Note that a replica's GPUs were seen released at ``ended_at``; give whether it was open until now.

    The first end stands. An end before the start, as clocks may have it, counts as an empty interval.
    """
    changed = Allocation.objects.filter(replica_id=str(replica_id), ended_at=None).update(
        ended_at=Greatest(Value(ended_at), F("started_at"))
    )
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
