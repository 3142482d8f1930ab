"""What Celery may wake. Each task takes ids, calls one service and decides when to come again."""

from __future__ import annotations

import datetime as dt
import logging
import uuid

from celery import Task, shared_task
from django.utils import timezone

from clusters.endpoints import wake
from clusters.endpoints.advisor.policy import advice_keep
from clusters.endpoints.advisor.runs import ADVISE, advice_run_execute
from clusters.endpoints.approvals.sweeping import approvals_sweep
from clusters.endpoints.attainment import attainment_keep
from clusters.endpoints.autoscaling.decisions import decisions_expire
from clusters.endpoints.autoscaling.sleeping import AUTOSCALE
from clusters.endpoints.autoscaling.sweeping import autoscale_one, autoscaling_sweep
from clusters.endpoints.budgets import endpoints_stop_spent
from clusters.endpoints.evaluations import runs as evaluations
from clusters.endpoints.evaluations.working import LEASE, run_work
from clusters.endpoints.gateways import reconcile_gateway
from clusters.endpoints.load.observing import load_observe
from clusters.endpoints.reconcile import reconcile_endpoint
from clusters.endpoints.reporting import reports_refresh
from clusters.endpoints.resync import resync_cluster
from clusters.endpoints.savings.keeping import savings_keep
from clusters.endpoints.signals import forget_signals
from clusters.endpoints.watch import remove_leaks
from clusters.inventory import gateways, renewing
from clusters.inventory.supply import supply_sweep
from clusters.models import Cluster, Endpoint, EvaluationRun, Gateway, Wanted
from tenants import scope
from tenants.locks import claimed

log = logging.getLogger(__name__)

MOST_PER_SWEEP = 500
SWEEP_S = 1.0  # how often beat runs the sweep; what may wait that long needs no task of its own
LEASE_S = 5.0
LOADS_AT_A_TIME = 100  # a look takes milliseconds, a re-plan some tenths of a second


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


@shared_task(name=evaluations.WORK)
def evaluate(tenant_id: str, run_id: str) -> None:
    """Work on one evaluation for a while, and enqueue the rest."""
    again = run_work(tenant_id, run_id)
    if again is not None:
        evaluations.enqueue(tenant_id, run_id, delay=again)


@shared_task
def sweep_evaluations() -> int:
    """Enqueue the evaluations that are due; return how many that were."""
    with claimed("sweep:evaluations") as mine:
        if not mine:
            return 0
        now = timezone.now()
        with scope.platform("find evaluations that are due"):
            due = EvaluationRun.objects.due(now).order_by("due_at")
            found = list(due.values_list("tenant_id", "id")[:MOST_PER_SWEEP])
            EvaluationRun.objects.due(now).filter(id__in=[run for _, run in found]).update(due_at=now + LEASE)
    for tenant_id, run_id in found:
        evaluations.enqueue(str(tenant_id), str(run_id))
    return len(found)


@shared_task
def stop_spent() -> int:
    """Pause endpoints whose owner's budget is spent and stops them; return how many that were."""
    with claimed("sweep:budgets") as mine:
        return endpoints_stop_spent(now=timezone.now()) if mine else 0


@shared_task
def keep_approvals() -> int:
    """Let requests expire, remind those who decide, and end exceptions; return how many those were."""
    with claimed("sweep:approvals") as mine:
        return approvals_sweep(now=timezone.now()) if mine else 0


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
def expire_signals() -> int:
    """Remove what silent gateways told long ago; return how many rows that were."""
    return forget_signals(now=timezone.now())


@shared_task
def expire_decisions() -> int:
    """Remove decisions on replicas that nobody looks up any more; return how many those were."""
    return decisions_expire(now=timezone.now())


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
def sweep_loads() -> int:
    """Enqueue a look at the load of every endpoint that serves, some at a time; return how many those are."""
    with claimed("sweep:loads") as mine:
        if not mine:
            return 0
        with scope.platform("find endpoints whose load is to be looked at"):
            serving = Endpoint.objects.live().filter(wanted=Wanted.RUNNING, ready_at__isnull=False)
            found = [
                [str(tenant_id), str(endpoint_id)]
                for tenant_id, endpoint_id in serving.order_by("id").values_list("tenant_id", "id")
            ]
    for first in range(0, len(found), LOADS_AT_A_TIME):
        observe_loads.delay(found[first : first + LOADS_AT_A_TIME])
    return len(found)


@shared_task
def observe_loads(endpoints: list[list[str]]) -> int:
    """Look at the load of these endpoints, given with their tenants; return of how many there was news."""
    news = 0
    for tenant_id, endpoint_id in endpoints:
        try:
            news += _observe_load(tenant_id, endpoint_id)
        except Exception:
            log.exception("the load of endpoint %s cannot be judged", endpoint_id)
    return news


def _observe_load(tenant_id: str, endpoint_id: str) -> bool:
    with claimed(f"load:{endpoint_id}") as mine, scope.tenant(tenant_id):
        rows = Endpoint.objects.live().select_related("tenant", "project", "model", "slo_class", "cluster")
        endpoint = rows.filter(id=endpoint_id).first() if mine else None
        return endpoint is not None and load_observe(endpoint=endpoint)


@shared_task(name=AUTOSCALE)
def autoscale(tenant_id: str, endpoint_id: str) -> int | None:
    """Look at the replicas of one endpoint now; give how many it is to have."""
    return autoscale_one(uuid.UUID(tenant_id), uuid.UUID(endpoint_id), now=timezone.now())


@shared_task
def sweep_autoscaling() -> int:
    """Look at the replicas of the endpoints that are due, some of them a pass; return how many those were."""
    with claimed("sweep:autoscaling") as mine:
        return autoscaling_sweep(now=timezone.now()) if mine else 0


@shared_task
def keep_attainment() -> int:
    """Judge the days that run or changed by the targets of their classes; return how many rows changed."""
    with claimed("attainment:days") as mine:
        return attainment_keep(now=timezone.now()) if mine else 0


@shared_task(name=ADVISE)
def advise(run_id: str) -> None:
    """Plan the fleet anew for a run that was asked for."""
    advice_run_execute(run_id)


@shared_task
def keep_advice() -> int:
    """Carry the advisor's moves on, and do what its policy allows; return how many moves changed."""
    return advice_keep()


@shared_task
def keep_supply() -> int:
    """Write down which GPUs clusters have, where nobody told of a change; return how many intervals changed."""
    with claimed("supply:clusters") as mine:
        return supply_sweep() if mine else 0


@shared_task
def keep_reports() -> int:
    """Make the days of the operators' reports anew that are not up to date; return how many."""
    return reports_refresh()


@shared_task
def find_savings() -> int:
    """Look at the endpoints whose turn it is for what they could save; return how many findings there are of them."""
    return savings_keep(now=timezone.now())


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
