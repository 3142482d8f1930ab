"""The sweep over endpoints whose replicas Berth chooses. The due row is the truth; who is at rest is not due."""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from typing import Final

from clusters.endpoints.autoscaling.carrying import endpoint_autoscale
from clusters.models import EndpointScaling
from tenants import scope
from tenants.locks import claimed

log = logging.getLogger(__name__)

MOST_PER_SWEEP: Final = 200
#: One whose look fails is looked at again so much later.
LEASE: Final = dt.timedelta(seconds=15)


def autoscaling_sweep(*, now: dt.datetime) -> int:
    """Look at those that are due, the longest due first; give how many those were."""
    with scope.platform("find endpoints whose replicas are to be looked at"):
        due = EndpointScaling.objects.filter(enabled=True, due_at__lte=now, endpoint__deleted_at=None)
        found = list(due.order_by("due_at").values_list("id", "tenant_id", "endpoint_id")[:MOST_PER_SWEEP])
        EndpointScaling.objects.filter(id__in=[each[0] for each in found], due_at__lte=now).update(
            due_at=now + LEASE
        )
    for _, tenant_id, endpoint_id in found:
        try:
            autoscale_one(tenant_id, endpoint_id, now=now)
        except Exception:
            log.exception("the replicas of endpoint %s cannot be looked at", endpoint_id)
    return len(found)


def autoscale_one(tenant_id: uuid.UUID, endpoint_id: uuid.UUID, *, now: dt.datetime) -> int | None:
    """Look at one endpoint, unless somebody does already; give the replicas that it is to have."""
    with claimed(f"scaling:{endpoint_id}") as mine:
        return endpoint_autoscale(tenant_id=tenant_id, endpoint_id=endpoint_id, now=now) if mine else None
