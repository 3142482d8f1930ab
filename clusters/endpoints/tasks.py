"""What Celery may wake. Each task takes ids, calls one service and decides when to come again."""

from __future__ import annotations

import datetime as dt
import logging

from celery import Task, shared_task
from django.utils import timezone

from clusters.endpoints import wake
from clusters.endpoints.gateways import reconcile_gateway
from clusters.endpoints.reconcile import reconcile_endpoint
from clusters.endpoints.resync import resync_cluster
from clusters.endpoints.watch import remove_leaks
from clusters.inventory import gateways, renewing
from clusters.models import Cluster, Endpoint, Gateway
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
    """Enqueue what is due; return how many that were. What changes in clusters, the watcher tells."""
    with claimed("sweep:endpoints") as mine:
        if not mine:
            return 0
        due = _lease_due()
        for endpoint_id in due:
            wake.enqueue(str(endpoint_id))
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
    """Enqueue the removal of what clusters run and nobody wants, one task a cluster."""
    return _each_cluster(remove_leaks_of)


@shared_task
def remove_leaks_of(cluster_id: str) -> int:
    """Remove what one cluster runs and nobody wants; return how many deployments that were."""
    with claimed(f"leaks:{cluster_id}") as mine:
        cluster = Cluster.objects.filter(id=cluster_id).first() if mine else None
        return remove_leaks(cluster) if cluster else 0


@shared_task
def sweep_resync() -> int:
    """Enqueue the long look at every cluster, one task a cluster: a dead one holds up nobody."""
    return _each_cluster(resync)


@shared_task
def resync(cluster_id: str) -> int:
    """Compare one cluster with what was ordered there; return how many deployments had drifted."""
    with claimed(f"resync:{cluster_id}") as mine:
        cluster = Cluster.objects.filter(id=cluster_id).first() if mine else None
        return resync_cluster(cluster) if cluster else 0


@shared_task(name=gateways.KEEP)
def keep_gateway(gateway_id: str) -> None:
    """Run one pass over a deployed gateway; the sweep brings the next."""
    reconcile_gateway(gateway_id)


@shared_task
def sweep_gateways() -> int:
    """Enqueue the deployed gateways that are due; return how many."""
    with claimed("sweep:gateways") as mine:
        if not mine:
            return 0
        now = timezone.now()
        due = Gateway.objects.exclude(cluster=None).filter(due_at__lte=now)
        found = list(due.order_by("due_at").values_list("id", flat=True)[:MOST_PER_SWEEP])
        Gateway.objects.filter(id__in=found, due_at__lte=now).update(
            due_at=now + dt.timedelta(seconds=LEASE_S)
        )
    for gateway_id in found:
        gateways.enqueue(str(gateway_id))
    return len(found)


@shared_task
def look_at_gateways() -> int:
    """Enqueue a look at every deployed gateway that is settled, for what changed in its cluster."""
    settled = Gateway.objects.exclude(cluster=None).filter(due_at=None).values_list("id", flat=True)
    for gateway_id in settled:
        gateways.enqueue(str(gateway_id))
    return len(settled)


@shared_task
def renew_credentials() -> int:
    """Renew the clusters' tokens that are due, though nobody watches; return how many were renewed."""
    with claimed("renewal:credentials") as mine:
        return renewing.credentials_renew_due() if mine else 0


def _each_cluster(task: Task) -> int:
    clusters = list(
        Cluster.objects.present().exclude(state=Cluster.State.UNREACHABLE).values_list("id", flat=True)
    )
    for cluster_id in clusters:
        task.delay(str(cluster_id))
    return len(clusters)
