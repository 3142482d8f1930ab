"""Which nodes engines have to leave, and when."""

from __future__ import annotations

import datetime as dt

import pytest

from clusters.inventory.reading import inventory_read
from clusters.inventory.selectors import NOT_READY_GRACE, STALE_AFTER, Unfit, unfit_nodes
from tests.clusters.inventory.holding import hold
from tests.clusters.inventory.shapes import node

pytestmark = pytest.mark.django_db

NOW = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)
DARK = {"Ready": "Unknown"}
SECOND = dt.timedelta(seconds=1)


@pytest.fixture
def read(cluster):
    def read(*nodes, now=NOW):
        inventory_read(cluster, nodes=list(nodes), pods=[], now=now)

    return read


@pytest.fixture
def unfit(cluster):
    def unfit(*names, now=NOW):
        return unfit_nodes(cluster.id, names or ("a", "b", "c"), now=now)

    return unfit


@pytest.mark.parametrize("condition", ["XIDErrors", "GpuEccErrors", "GPUMissing"])
def test_a_broken_gpu_has_to_be_left_at_once(read, unfit, condition):
    read(node("a"), node("b", conditions={condition: "True"}))
    assert list(unfit().faults) == ["b"]
    assert unfit("a") == Unfit(faults={})


def test_a_node_that_is_gone_has_to_be_left_at_once(read, unfit):
    read(node("a"), node("b"))
    read(node("a"), now=NOW + SECOND)
    assert unfit().faults == {"b": "the cluster shows it no more"}


def test_a_node_that_is_not_ready_has_its_grace(read, unfit):
    read(node("a"), node("b"), node("c"))
    read(node("a"), node("b", conditions=DARK), node("c"))
    assert unfit(now=NOW + NOT_READY_GRACE - SECOND) == Unfit(faults={}, look_again=SECOND)
    after = unfit(now=NOW + NOT_READY_GRACE)
    assert (list(after.faults), after.look_again) == (["b"], None)
    read(node("a"), node("b"), node("c"), now=NOW + SECOND)
    assert unfit(now=NOW + NOT_READY_GRACE) == Unfit(faults={})


def test_a_broken_gpu_in_a_node_that_is_not_ready_waits_for_nothing(read, unfit):
    read(node("a", conditions=DARK | {"XIDErrors": "True"}), node("b"))
    assert list(unfit().faults) == ["a"]


def test_while_most_nodes_are_not_ready_none_has_to_be_left(read, unfit):
    read(node("a", conditions=DARK), node("b", conditions=DARK), node("c"))
    assert unfit(now=NOW + 2 * NOT_READY_GRACE) == Unfit(faults={}, look_again=NOT_READY_GRACE)
    read(node("a", conditions=DARK), node("b"), node("c"), now=NOW + NOT_READY_GRACE)
    assert unfit(now=NOW + 2 * NOT_READY_GRACE - SECOND).faults == {}
    assert list(unfit(now=NOW + 2 * NOT_READY_GRACE).faults) == ["a"]


def test_of_two_nodes_both_can_be_lost(read, unfit):
    read(node("a", conditions=DARK), node("b", conditions=DARK))
    assert set(unfit(now=NOW + NOT_READY_GRACE).faults) == {"a", "b"}


@pytest.mark.parametrize(
    "now_there",
    [
        node("a", usable=0),
        node("a", product="NVIDIA-H100-NVL"),
        node("a", labels={"berth.dev/pool": "chat"}),
        node("a", gpus=7),
        node("a", cordoned=True),
    ],
    ids=["none offered", "unreadable", "another pool", "another capacity", "cordoned"],
)
def test_what_only_bars_planning_lets_engines_run(read, unfit, tenant, cluster, now_there):
    read(node("a"))
    hold(tenant, cluster.pools.get(), nodes=[0], gpus=1)
    read(now_there)
    assert unfit(now=NOW + STALE_AFTER) == Unfit(faults={})


def test_a_fault_counts_where_a_node_is_now_and_not_where_it_was(read, unfit, tenant, cluster):
    read(node("a"))
    hold(tenant, cluster.pools.get(), nodes=[0], gpus=1)
    read(node("a", gpus=7, conditions={"XIDErrors": "True"}))
    assert "XID" in unfit().faults["a"]


def test_an_old_inventory_sends_nobody_away(read, unfit):
    read(node("a", conditions={"XIDErrors": "True"}), node("b"))
    assert unfit(now=NOW + STALE_AFTER).faults
    assert unfit(now=NOW + STALE_AFTER + SECOND) == Unfit(faults={})
