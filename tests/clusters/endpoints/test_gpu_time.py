"""What replicas do with GPUs, as a fake cluster shows it pass by pass, and the hours that come of it."""

from __future__ import annotations

import dataclasses
import datetime as dt
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing.gpu_time.hours import hours_compute
from billing.models import Allocation, AllocationPhase, ClusterHour, GpuSupply, GpuWait, HeldHour
from clusters.endpoints import services
from clusters.endpoints.lost import cluster_lost
from clusters.endpoints.reconcile import reconcile_endpoint
from clusters.inventory.services import pool_add
from clusters.models import Cluster, Endpoint, GpuType, Replica
from clusters.specs import Phase
from tenants import scope
from tests.billing.prices import price

pytestmark = pytest.mark.django_db
WRITES = ("INSERT", "UPDATE", "DELETE")


@pytest.fixture
def show(cluster):
    """Let the only replica of the only deployment be shown otherwise."""

    def show(endpoint, **changes):
        (name,) = cluster.replicas
        cluster.replicas[name] = [dataclasses.replace(each, **changes) for each in cluster.replicas[name]]
        reconcile_endpoint(endpoint.id)

    return show


def rows(tenant, model):
    with scope.tenant(tenant.id):
        return list(model.objects.order_by("started_at", "created_at"))


def phases(tenant):
    """The phases of all allocations; checks that they tile each."""
    for allocation in rows(tenant, Allocation):
        mine = [each for each in rows(tenant, AllocationPhase) if each.allocation_id == allocation.id]
        edges = [allocation.started_at, *(each.ended_at for each in mine)]
        assert [each.started_at for each in mine] == edges[:-1]
        assert edges[-1] == allocation.ended_at
    return [each.phase for each in rows(tenant, AllocationPhase)]


def begin(order):
    endpoint = order()
    reconcile_endpoint(endpoint.id)
    reconcile_endpoint(endpoint.id)
    return endpoint


def test_a_replica_waits_loads_serves_and_drains(order, show, tenant, cluster):
    cluster.pending = True
    endpoint = begin(order)
    began = timezone.now() - dt.timedelta(minutes=5)
    show(endpoint, phase=Phase.STARTING, started_at=began)
    answers = began + dt.timedelta(minutes=3)
    show(endpoint, phase=Phase.READY, ready_at=answers)
    show(endpoint, phase=Phase.STARTING, ready_at=None, restarts=1)
    show(endpoint, phase=Phase.READY, ready_at=timezone.now())
    show(endpoint, phase=Phase.DRAINING)
    assert phases(tenant) == ["loading", "serving", "loading", "serving", "draining"]
    loading, serving = rows(tenant, AllocationPhase)[:2]
    assert (loading.started_at, loading.ended_at, serving.started_at) == (began, answers, answers)
    show(endpoint, phase=Phase.FAILED)
    assert phases(tenant)[-1] == "draining"
    with scope.tenant(tenant.id):
        assert not Allocation.objects.filter(ended_at=None).exists()
        assert not AllocationPhase.objects.filter(ended_at=None).exists()


def test_what_is_pending_holds_nothing(order, show, tenant, cluster, estate):
    cluster.pending = True
    endpoint = begin(order)
    (wait,) = rows(tenant, GpuWait)
    assert (wait.ended_at, wait.gpus, wait.pool) == (None, 1, "l4")
    assert rows(tenant, Allocation) == []
    began = timezone.now()
    show(endpoint, phase=Phase.STARTING, started_at=began)
    (wait,), (held,) = rows(tenant, GpuWait), rows(tenant, Allocation)
    assert (wait.ended_at, held.started_at) == (began, began)
    with scope.tenant(tenant.id):
        services.endpoint_delete(endpoint=endpoint, actor="a test")
    reconcile_endpoint(endpoint.id)
    assert rows(tenant, Allocation)[0].ended_at is not None


def test_seeing_the_same_again_writes_nothing(order, settle, tenant):
    endpoint = settle(order(replicas=2))
    before = phases(tenant)
    with CaptureQueriesContext(connection) as queries:
        reconcile_endpoint(endpoint.id)
    assert [q["sql"] for q in queries if q["sql"].startswith(WRITES)] == []
    assert phases(tenant) == before


def test_gpus_are_counted_as_they_are_seen_not_as_they_were_ordered(order, show, tenant):
    endpoint = begin(order)
    show(endpoint, gpus=3)
    show(endpoint, gpus=3, phase=Phase.READY, ready_at=timezone.now())
    held = rows(tenant, Allocation)
    assert [each.gpus for each in held] == [1, 3]
    assert held[0].ended_at == held[1].started_at
    show(endpoint, gpus=0)
    assert rows(tenant, Allocation)[-1].ended_at is not None
    phases(tenant)


def test_an_engine_that_is_killed_while_it_is_written_down_leaves_nothing_half(
    order, show, tenant, monkeypatch
):
    endpoint = begin(order)
    before = [dataclasses.astuple(_facts(each)) for each in rows(tenant, AllocationPhase)]

    def die(*args, **kwargs):
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr("clusters.endpoints.reconcile.replicas.announce", die)
        with pytest.raises(RuntimeError):
            show(endpoint, phase=Phase.READY, ready_at=timezone.now())
    assert [dataclasses.astuple(_facts(each)) for each in rows(tenant, AllocationPhase)] == before
    with scope.tenant(tenant.id):
        assert not Replica.objects.filter(phase="ready").exists()
    reconcile_endpoint(endpoint.id)
    assert phases(tenant) == ["loading", "serving"]


@dataclasses.dataclass
class _Facts:
    phase: str
    started_at: dt.datetime
    ended_at: dt.datetime | None


def _facts(row) -> _Facts:
    return _Facts(row.phase, row.started_at, row.ended_at)


def test_parts_of_a_gpu_are_allocated_and_accounted_as_such(order, settle, tenant, estate, cluster):
    # Parts of an H100 are all that is left for an order.
    Cluster.objects.exclude(name="de-a").update(cordon_reason="away", state="cordoned")
    there = estate.clusters["de-a"]
    with scope.platform("a test"):
        there.pools.all().delete()
    part, _ = GpuType.objects.get_or_create(
        name="h100_sxm-1g-10gb", defaults={"title": "part", "memory_gib": "9.5", "bandwidth_gbs": "418"}
    )
    pool_add(
        cluster=there,
        name="parts",
        gpu_type=part,
        nodes=1,
        gpus_per_node=7,
        resource="nvidia.com/mig-1g.10gb",
    )
    price("gpu_hour", "0.60", gpu_type=part.name, currency=tenant.currency)
    settle(order(replicas=2))
    held = rows(tenant, Allocation)
    assert {(each.gpu_type, each.slice, each.share, each.pool, each.gpus) for each in held} == {
        ("h100_sxm-1g-10gb", "1g.10gb", Decimal("0.14285714"), "parts", 1)
    }
    with scope.platform("a test"):
        hour = dt.timedelta(hours=1)
        GpuSupply.objects.update(started_at=timezone.now() - hour)
        now = timezone.now() + hour
        hours_compute(now=now, wait=True)
        mine = ClusterHour.objects.filter(pool="parts")
        assert {row.share for row in mine} == {Decimal("0.14285714")}
        assert sum(row.seen for row in mine) == sum(row.held + row.idle + row.platform for row in mine)
        assert sum(row.held for row in mine) == sum(
            int((now - each.started_at) / dt.timedelta(microseconds=1)) for each in held
        ) / Decimal(10**6)
        assert all(row.excess == 0 for row in mine)
        assert sum(row.idle for row in HeldHour.objects.all()) > 0  # nobody asked it


def test_a_lost_cluster_had_its_gpus_until_it_was_last_seen(order, settle, tenant, estate):
    settle(order())
    with scope.tenant(tenant.id):
        name = Allocation.objects.get().cluster
    seen_at = timezone.now() + dt.timedelta(seconds=1)
    Cluster.objects.filter(name=name).update(state="unreachable", last_seen_at=seen_at)
    cluster_lost(cluster=Cluster.objects.get(name=name), actor="a test")
    with scope.platform("a test"):
        assert {row.ended_at for row in GpuSupply.objects.filter(cluster=name)} == {seen_at}
        assert Endpoint.objects.exists()
