"""What Celery may wake. Each task takes ids, calls one service and decides when to come again."""

from __future__ import annotations

import datetime as dt
import logging

from celery import shared_task
from django.utils import timezone

from clusters.endpoints import wake
from clusters.endpoints.reconcile import reconcile_endpoint
from clusters.endpoints.watch import remove_leaks, watch_cluster
from clusters.models import Cluster, Endpoint
from tenants import scope
from tenants.locks import claimed

log = logging.getLogger(__name__)

MOST_PER_SWEEP = 500
SWEEP_S = 1.0  # how often beat runs the sweep; what may wait that long needs no task of its own
LEASE_S = 5.0


@shared_task(name=wake.RECONCILE)
def reconcile(endpoint_id: str) -> None:
    """Run one pass over an endpoint, and enqueue the next where it asks for one before the sweeper would."""
    look_again = reconcile_endpoint(endpoint_id)
    if look_again is not None and look_again < SWEEP_S:
        wake.enqueue(endpoint_id, delay=look_again)


@shared_task
def sweep_due() -> int:
    """Enqueue what is due, and look at every cluster for what changed there; return how many were due."""
    with claimed("sweep:endpoints") as mine:
        if not mine:
            return 0
        due = _lease_due()
        for endpoint_id in due:
            wake.enqueue(str(endpoint_id))
        for cluster in Cluster.objects.all():
            try:
                watch_cluster(cluster)
            except Exception:
                log.exception("cluster %s could not be looked at", cluster.name)
    return len(due)


def _lease_due() -> list:
    """Take what is due, and put it off a little: a queue that is behind gets each of them once."""
    now = timezone.now()
    with scope.platform("find endpoints that are due"):
        due = list(Endpoint.objects.due(now).order_by("due_at").values_list("id", flat=True)[:MOST_PER_SWEEP])
        Endpoint.objects.filter(id__in=due, due_at__lte=now).update(
            due_at=now + dt.timedelta(seconds=LEASE_S)
        )
    return due


@shared_task
def sweep_leaks() -> int:
    """Remove what clusters run and nobody wants; return how many deployments that were."""
    with claimed("sweep:leaks") as mine:
        return sum(remove_leaks(cluster) for cluster in Cluster.objects.all()) if mine else 0
