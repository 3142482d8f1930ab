"""What a look at a cluster's nodes writes down: pools, places of nodes, GPUs that are free."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from clusters.inventory.capacity import capacities
from clusters.inventory.drivers import installation_of
from clusters.inventory.nodes import Unread
from clusters.inventory.reading import NOTE_READ_EVERY, PLACE_KEPT, inventory_read, inventory_unread
from clusters.inventory.selectors import node_uses
from clusters.inventory.services import pool_change
from clusters.models import GpuType, Node, NodePool
from tenants.errors import Invalid
from tests.clusters.inventory.holding import hold
from tests.clusters.inventory.shapes import H100, node, pod

pytestmark = pytest.mark.django_db

NOW = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)
LATER = NOW + dt.timedelta(minutes=5)


@pytest.fixture
def read(cluster):
    """Read nodes and pods of the cluster; gives what changed."""

    def read(*nodes, pods=(), now=NOW):
        return inventory_read(cluster, nodes=list(nodes), pods=list(pods), now=now)

    return read


def pool(name=None):
    return NodePool.objects.get(**({"name": name} if name else {}))


def places():
    """Name, index and whether it is there, of every node."""
    return [(each.name, each.index, each.gone_at is None) for each in Node.objects.order_by("index")]


def capacity():
    (found,) = capacities()
    return found


def test_nodes_of_one_shape_are_a_pool(read):
    read(node("gpu-1"), node("gpu-2", driver="580.95.05"), node("l4-1", product="NVIDIA-L4", gpus=4))
    h100, l4 = NodePool.objects.order_by("name")
    assert (h100.name, h100.gpu_type.name, h100.nodes, h100.gpus_per_node) == (
        "h100-sxm-x8",
        "h100_sxm",
        2,
        8,
    )
    assert h100.discovered
    assert h100.selector == {"nvidia.com/gpu.product": H100, "nvidia.com/gpu.count": "8"}
    assert h100.driver_version == "580.95.05"  # the oldest
    assert (l4.name, l4.nodes, l4.gpus_per_node) == ("l4-x4", 1, 4)


def test_reading_the_same_again_writes_nothing(read):
    nodes = [node("gpu-1"), node("gpu-2", conditions={"XIDErrors": "True"}), node("odd", product="Tesla-T4")]
    pods = [pod("gpu-1", 2)]
    assert read(*nodes, pods=pods).rows > 0
    with CaptureQueriesContext(
        connection,
    ) as asked:
        assert read(*nodes, pods=pods, now=NOW + NOTE_READ_EVERY / 2).rows == 0
    written = [query["sql"] for query in asked if query["sql"].startswith(("INSERT", "UPDATE", "DELETE"))]
    assert written == []


def test_when_it_was_read_is_noted_now_and_then(read, cluster):
    read(node("gpu-1"))
    read(node("gpu-1"), now=NOW + NOTE_READ_EVERY)
    cluster.refresh_from_db()
    assert cluster.read_at == NOW + NOTE_READ_EVERY


def test_the_operators_label_makes_pools_of_their_own(read):
    read(node("a"), node("b", labels={"berth.dev/pool": "chat"}))
    assert set(NodePool.objects.values_list("name", "nodes")) == {("h100-sxm-x8", 1), ("chat", 1)}
    assert pool("chat").selector["berth.dev/pool"] == "chat"
    # Another shape under the same label is another pool.
    read(
        node("a"),
        node("b", labels={"berth.dev/pool": "chat"}),
        node("c", gpus=4, labels={"berth.dev/pool": "chat"}),
    )
    assert set(NodePool.objects.values_list("name", "gpus_per_node")) == {
        ("h100-sxm-x8", 8),
        ("chat", 8),
        ("chat-2", 4),
    }


def test_mig_makes_gpu_types_of_its_own(read):
    read(node("a", resources={"nvidia.com/mig-1g.10gb": 56}))
    made = pool()
    assert (made.gpu_type.name, made.resource, made.gpus_per_node) == (
        "h100_sxm-1g-10gb", "nvidia.com/mig-1g.10gb", 56,
    )  # fmt: skip
    assert GpuType.objects.get(name="h100_sxm-1g-10gb").title == "H100 SXM MIG 1g.10gb"


def test_a_node_that_returns_gets_its_place_back(read):
    read(node("a"), node("b"), node("c"))
    assert places() == [("a", 0, True), ("b", 1, True), ("c", 2, True)]
    change = read(node("a"), node("c"), now=LATER)
    assert places() == [("a", 0, True), ("b", 1, False), ("c", 2, True)]
    assert change.lost == {(pool().id, 1)}
    assert capacity().free_per_node == (8, 0, 8)
    assert capacity().total == 16
    read(node("a"), node("c"), node("d"), now=LATER)  # a new one does not take it
    read(node("a"), node("b"), node("c"), node("d"), now=LATER)
    assert places() == [("a", 0, True), ("b", 1, True), ("c", 2, True), ("d", 3, True)]


def test_the_place_of_a_node_that_stays_away_is_given_up_unless_it_is_counted_on(read, cluster, tenant):
    read(node("a"), node("b"), node("c"))
    hold(tenant, pool(), nodes=[1], gpus=2)
    read(node("a"), now=NOW)
    read(node("a"), now=NOW + PLACE_KEPT + dt.timedelta(seconds=1))
    assert places() == [("a", 0, True), ("b", 1, False)]
    read(node("a"), node("new"), now=NOW + 2 * PLACE_KEPT)
    assert ("new", 2, True) in places()


def test_a_pool_without_nodes_goes_unless_something_refers_to_it(read, tenant):
    read(node("a"), node("l4", product="NVIDIA-L4", gpus=4))
    hold(tenant, pool("h100-sxm-x8"), nodes=[0], gpus=4)
    pool_change(pool=pool("l4-x4"), nodes=1, reserve=1)
    read(node("b200", product="NVIDIA-B200"), now=LATER)
    read(now=LATER)
    # B200: gone at once. H100: somebody holds GPUs there. L4: an operator's reserve is kept for its nodes' return.
    assert set(NodePool.objects.values_list("name", "nodes")) == {("h100-sxm-x8", 0), ("l4-x4", 0)}
    by_name = {found.pool.name: found for found in capacities()}
    assert (by_name["h100-sxm-x8"].free, by_name["h100-sxm-x8"].held, by_name["h100-sxm-x8"].total) == (
        0,
        4,
        0,
    )


def test_free_is_what_is_healthy_and_nobodys(read, cluster, tenant):
    broken = node("c", conditions={"XIDErrors": "True"})
    pods = [pod("a", 2), pod("a", 4, installation=installation_of(cluster))]
    read(node("a"), node("b", usable=5), broken, node("d", cordoned=True), pods=pods)
    hold(tenant, pool(), nodes=[0, 0], gpus=2)
    now = capacity()
    assert now.free_per_node == (8 - 2 - 4, 5, 0, 0)
    assert (now.total, now.held, now.foreign, now.faulty) == (32, 4, 2, 3 + 8)
    uses = {use.name: use for use in node_uses(now)}
    assert (uses["a"].held, uses["a"].foreign, uses["a"].free, uses["a"].reserve) == (4, 2, 2, 0)
    assert uses["a"].holders[0].tenant == tenant.name
    assert (uses["b"].faulty, uses["b"].free) == (3, 5)
    assert "XID" in uses["c"].fault
    assert "Cordoned" in uses["d"].fault


def test_the_operators_reserve_is_taken_from_discovered_nodes(read):
    read(node("a"), node("b"), pods=[pod("a", 6)])
    pool_change(pool=pool(), nodes=2, reserve=3)
    assert capacity().free_per_node == (0, 7)
    assert sum(use.reserve for use in node_uses(capacity())) == 3


def test_a_node_that_is_gone_is_shown_while_somebody_holds_gpus_there(read, tenant):
    read(node("a"), node("b"))
    hold(tenant, pool(), nodes=[1], gpus=2)
    read(now=LATER)
    (use,) = node_uses(capacity())
    assert (use.name, use.held, use.free) == ("b", 2, 0)
    assert "Gone" in use.fault


def test_a_fault_is_told_once_and_since_when(read):
    read(node("a"), node("b"))
    # A cordon lets engines run on, a fault does not: also under a cordon it is told.
    assert read(node("a", cordoned=True), node("b")).lost == frozenset()
    broken = node("a", conditions={"GpuEccErrors": "True"}, cordoned=True)
    assert read(broken, node("b"), now=LATER).lost == {(pool().id, 0)}
    assert Node.objects.get(name="a").fault_since == LATER
    assert read(broken, node("b"), now=LATER + dt.timedelta(minutes=1)).lost == frozenset()
    read(node("a"), node("b"), now=LATER + dt.timedelta(minutes=2))
    healed = Node.objects.get(name="a")
    assert (healed.fault, healed.fault_since) == ("", None)


def unlabelled(name, **how):
    """A node as it looks while GPU Feature Discovery is away."""
    bare = node(name, **how)
    labels = bare["metadata"]["labels"]
    bare["metadata"]["labels"] = {key: value for key, value in labels.items() if "nvidia.com" not in key}
    return bare


@pytest.mark.parametrize(
    "now_there",
    [
        unlabelled("a"),
        unlabelled("a", resources={}),
        node("a", product="NVIDIA-H100-NVL"),
        node("a", gpus=32, labels={"nvidia.com/gpu.replicas": "4"}),
    ],
    ids=["no labels", "no GPUs", "unknown product", "time-slicing"],
)
def test_a_node_that_cannot_be_read_is_not_gone_and_takes_nothing_new(read, now_there):
    read(node("a"), node("b"))
    change = read(now_there, node("b"), now=LATER)
    assert change.lost == frozenset()
    assert places() == [("a", 0, True), ("b", 1, True)]
    assert capacity().free_per_node == (0, 8)
    assert (capacity().total, capacity().faulty) == (16, 8)
    assert pool().nodes == 2
    read(node("a"), node("b"), now=LATER)
    assert capacity().free_per_node == (8, 8)
    assert Node.objects.get(name="a").fault_since is None


def test_a_pool_whose_nodes_can_all_not_be_read_stays(read):
    read(node("a"), node("b"))
    before = pool().id
    read(unlabelled("a"), unlabelled("b"), now=LATER)
    assert (pool().id, pool().nodes, capacity().free) == (before, 2, 0)


def test_a_broken_gpu_is_seen_where_the_node_cannot_be_read(read):
    read(node("a"))
    change = read(unlabelled("a", conditions={"XIDErrors": "True"}), now=LATER)
    assert change.lost == {(pool().id, 0)}
    assert "XID" in Node.objects.get(name="a").fault


@pytest.mark.parametrize(
    ("other", "total"),
    [
        (node("a", labels={"berth.dev/pool": "chat"}), 8),
        (node("a", gpus=7), 7),
        (node("a", resources={"nvidia.com/mig-1g.10gb": 56}), 56),
    ],
    ids=["label", "capacity", "MIG"],
)
def test_a_node_that_changes_its_pool_leaves_nothing_behind_in_the_old_one(read, other, total):
    read(node("a"), node("b"))
    old = pool()
    change = read(other, node("b"), now=LATER)
    assert change.lost == frozenset()
    new = NodePool.objects.exclude(id=old.id).get()
    assert list(Node.objects.values_list("name", "pool", "fault")) == [("b", old.id, ""), ("a", new.id, "")]
    by_pool = {found.pool.id: found for found in capacities()}
    assert (by_pool[old.id].total, by_pool[new.id].total) == (8, total)


def test_what_engines_of_the_old_pool_hold_is_not_free_in_the_new_one(read, tenant):
    read(node("a"), node("b"))
    old = pool()
    hold(tenant, old, nodes=[0], gpus=6)
    read(node("a", labels={"berth.dev/pool": "chat"}), node("b"), now=LATER)
    by_name = {found.pool.name: found for found in capacities()}
    assert by_name["chat"].free_per_node == (2,)
    assert by_name["h100-sxm-x8"].free_per_node == (0, 8)
    assert (by_name["h100-sxm-x8"].total, by_name["h100-sxm-x8"].held) == (8, 6)
    (only,) = capacities(pool_ids=[pool("chat").id])
    assert only.free_per_node == (2,)
    (use,) = node_uses(only)
    assert (use.foreign, use.free, use.reserve) == (6, 2, 0)


def test_how_long_a_fault_lasts_is_counted_anew_for_another_kind(read):
    minute = dt.timedelta(minutes=1)
    silent, dark = node("a", usable=0), node("a", conditions={"Ready": "Unknown"})
    read(node("a"), node("b"))
    read(silent, node("b"), now=NOW + minute)
    assert read(dark, node("b"), now=NOW + 2 * minute).lost == {(pool().id, 0)}
    assert Node.objects.get(name="a").fault_since == NOW + 2 * minute
    read(dark, node("b"), now=NOW + 3 * minute)
    assert Node.objects.get(name="a").fault_since == NOW + 2 * minute


def test_after_a_blackout_the_nodes_that_return_last_have_their_grace_from_then_on(read):
    def nodes(*dark):
        return [node(name, conditions={"Ready": "Unknown"} if name in dark else {}) for name in "abc"]

    read(*nodes())
    read(*nodes("a", "b", "c"), now=LATER)
    read(*nodes("a", "b"), now=LATER + dt.timedelta(minutes=10))
    assert Node.objects.get(name="a").fault_since == LATER
    end = LATER + dt.timedelta(minutes=20)
    read(*nodes("a"), now=end)
    assert Node.objects.get(name="a").fault_since == end


def test_pools_are_locked_in_the_order_in_which_orders_lock_them(read):
    read(node("a"), node("b", gpus=4))
    with CaptureQueriesContext(connection) as asked:
        read(node("a", usable=7), node("b", gpus=4, usable=3), now=LATER)
    told = [query["sql"] for query in asked]
    locks = next(n for n, sql in enumerate(told) if "nodepool" in sql and "FOR NO KEY UPDATE" in sql)
    assert told[locks].startswith('SELECT "clusters_nodepool"."id"')
    assert "ORDER BY 1 ASC" in told[locks]
    assert locks < min(n for n, sql in enumerate(told) if sql.startswith(("UPDATE", "INSERT")))


def test_what_could_not_be_read_is_kept_for_people(read, cluster):
    read(node("a", product="Tesla-T4"), node("b", product="Tesla-T4"))
    cluster.refresh_from_db()
    (note,) = cluster.unread
    assert note["what"] == "Nodes a, b"
    assert "Tesla-T4" in note["why"]
    read(node("a"))
    cluster.refresh_from_db()
    assert cluster.unread == []


def test_a_list_that_fails_leaves_the_pools_as_they_were(read, cluster):
    read(node("a"))
    inventory_unread(cluster, [Unread(what="nodes", why="403", todo="grant it")], now=LATER)
    cluster.refresh_from_db()
    assert cluster.unread == [{"what": "nodes", "why": "403", "todo": "grant it"}]
    assert cluster.read_at == NOW  # how old the pools are can be seen
    assert capacity().free_per_node == (8,)


def test_the_nodes_of_a_discovered_pool_cannot_be_typed_in(read):
    read(node("a"))
    with pytest.raises(Invalid, match="read from its cluster"):
        pool_change(pool=pool(), nodes=5, reserve=0)


def test_declared_pools_are_left_alone(read, cluster):
    declared = NodePool.objects.create(
        cluster=cluster, name="by-hand", gpu_type=GpuType.objects.get(name="l4"), nodes=2, gpus_per_node=4
    )
    read(node("a"))
    read(now=LATER)
    declared.refresh_from_db()
    assert (declared.nodes, declared.discovered) == (2, False)
    assert [found.free_per_node for found in capacities()] == [(4, 4)]
