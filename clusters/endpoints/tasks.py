"""What Celery may wake. Each task takes ids, calls one service and decides when to come again."""

from __future__ import annotations

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


@shared_task(name=wake.RECONCILE)
def reconcile(endpoint_id: str) -> None:
    """Run one pass over an endpoint, and enqueue the next where it asks for one soon."""
    look_again = reconcile_endpoint(endpoint_id)
    if look_again is not None:
        wake.enqueue(endpoint_id, delay=look_again)


@shared_task
def sweep_due() -> int:
    """Enqueue what is due, and look at every cluster for what changed there; return how many were due."""
    with claimed("sweep:endpoints") as mine:
        if not mine:
            return 0
        for cluster in Cluster.objects.select_related("region"):
            watch_cluster(cluster)
        with scope.platform("find endpoints that are due"):
            due = list(Endpoint.objects.due(timezone.now()).order_by("due_at").values_list("id", flat=True))
        for endpoint_id in due[:MOST_PER_SWEEP]:
            wake.enqueue(str(endpoint_id))
    return len(due)


@shared_task
def sweep_leaks() -> int:
    """Remove what clusters run and nobody wants; return how many deployments that were."""
    with claimed("sweep:leaks") as mine:
        return sum(remove_leaks(cluster) for cluster in Cluster.objects.all()) if mine else 0
