"""Which GPUs clusters were seen to have, when, and how many of them were not Berth's to give."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest

from billing.models import GpuSupply
from clusters.inventory.drivers import installation_of
from clusters.inventory.reading import NOTE_READ_EVERY, inventory_read
from clusters.inventory.registration import cluster_remove
from clusters.inventory.services import (
    cluster_cordon,
    cluster_register,
    cluster_uncordon,
    pool_add,
    pool_change,
)
from clusters.inventory.supply import supply_sweep
from clusters.models import Cluster, GpuType, NodePool
from tenants import scope
from tests.clusters.inventory.shapes import node, pod

pytestmark = pytest.mark.django_db

NOW = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)
LATER = NOW + dt.timedelta(minutes=5)


@pytest.fixture
def read(cluster):
    def read(*nodes, pods=(), now=NOW):
        return inventory_read(cluster, nodes=list(nodes), pods=list(pods), now=now)

    return read


def supply(**filters):
    """Node, GPUs, the platform's, from and to, of every interval."""
    with scope.platform("a test"):
        rows = GpuSupply.objects.filter(**filters).order_by("started_at", "node")
        return [(row.node, row.gpus, row.platform, row.started_at, row.ended_at) for row in rows]


def test_nodes_are_intervals_from_when_they_are_seen_until_they_are_not(read):
    read(node("a"), node("b", gpus=4))
    assert supply() == [("a", 8, 0, NOW, None), ("b", 4, 0, NOW, None)]
    read(node("a"), now=LATER)
    assert supply() == [("a", 8, 0, NOW, None), ("b", 4, 0, NOW, LATER)]


def test_seeing_the_same_again_writes_nothing(read):
    read(node("a"), pods=[pod("a", 2)])
    before = supply()
    read(node("a"), pods=[pod("a", 2)], now=NOW + NOTE_READ_EVERY)
    assert supply_sweep() == 0
    assert supply() == before


def test_what_others_hold_and_what_is_broken_is_the_platforms(read):
    read(node("a"), pods=[pod("a", 3)])
    read(node("a", usable=6), pods=[pod("a", 3)], now=LATER)
    assert supply() == [("a", 8, 3, NOW, LATER), ("a", 8, 5, LATER, None)]


def test_on_a_cordoned_or_faulty_node_berth_has_what_its_own_pods_hold(read, cluster):
    mine = pod("a", 2, installation=installation_of(cluster))
    read(node("a", cordoned=True), pods=[mine])
    assert supply() == [("a", 8, 6, NOW, None)]
    read(node("a", conditions={"Ready": "False"}), pods=[mine], now=LATER)
    assert supply() == [("a", 8, 6, NOW, None)]
    read(node("a"), pods=[mine], now=LATER)
    assert supply(ended_at=None) == [("a", 8, 0, LATER, None)]


def test_parts_of_gpus_are_a_supply_of_their_own(read):
    read(node("a", resources={"nvidia.com/mig-1g.10gb": 14, "nvidia.com/mig-3g.40gb": 2}))
    with scope.platform("a test"):
        rows = {row.slice: row for row in GpuSupply.objects.all()}
    assert {(row.gpu_type, row.gpus, row.share) for row in rows.values()} == {
        ("h100_sxm-1g-10gb", 14, Decimal("0.14285714")),
        ("h100_sxm-3g-40gb", 2, Decimal("0.5")),
    }


def test_what_operators_keep_back_is_the_platforms(read):
    read(node("a"), node("b"), pods=[pod("b", 7)])
    pool = NodePool.objects.get()
    pool_change(pool=pool, nodes=pool.nodes, reserve=3)
    assert {row[:3] for row in supply(ended_at=None)} == {("a", 8, 2), ("b", 8, 8)}


def test_declared_pools_are_supply_too(region):
    cluster = cluster_register(
        name="here", region=region, driver="local", runtimes=["triton-python"], declared=True
    )
    pool = pool_add(
        cluster=cluster,
        name="l4",
        gpu_type=GpuType.objects.get(name="l4"),
        nodes=2,
        gpus_per_node=4,
        reserve=1,
    )
    assert [row[:3] for row in supply()] == [("0", 4, 0), ("1", 4, 1)]
    pool_change(pool=pool, nodes=1, reserve=0)
    assert [row[:3] for row in supply(ended_at=None)] == [("0", 4, 0)]
    cluster_cordon(cluster=cluster, reason="moving")
    assert [row[:3] for row in supply(ended_at=None)] == [("0", 4, 4)]
    cluster_uncordon(cluster=cluster)
    assert [row[:3] for row in supply(ended_at=None)] == [("0", 4, 0)]
    cluster_remove(cluster=cluster)
    assert supply(ended_at=None) == []


def test_of_a_cluster_that_is_away_nothing_new_is_known(read, cluster):
    read(node("a"))
    Cluster.objects.filter(id=cluster.id).update(state=Cluster.State.UNREACHABLE)
    assert supply_sweep() == 0
    cluster_cordon(cluster=cluster, reason="it is away")
    assert supply() == [("a", 8, 0, NOW, None)]


def test_a_cluster_that_cannot_be_written_down_keeps_no_others_back(read, cluster, monkeypatch, caplog):
    read(node("a"))

    def die(*args, **kwargs):
        raise RuntimeError("strange")

    monkeypatch.setattr("clusters.inventory.supply.supply_write", die)
    assert supply_sweep() == 0
    assert f"what cluster {cluster.name} has cannot be written down" in caplog.text


def test_a_reading_that_fails_leaves_no_half_of_it(read, monkeypatch):
    read(node("a"), node("b"))
    before = supply()

    def die(*args, **kwargs):
        raise RuntimeError("killed")

    monkeypatch.setattr("billing.gpu_time.supply.GpuSupply.objects.bulk_create", die)
    with pytest.raises(RuntimeError):
        read(node("a", gpus=4), node("b"), now=LATER)
    assert supply() == before
