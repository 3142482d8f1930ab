"""Moving, restoring, replacing: what changes while an endpoint serves."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing.models import Allocation
from clusters.drivers.base import Away
from clusters.endpoints import restoring, services
from clusters.endpoints.reconcile import reconcile_endpoint
from clusters.endpoints.resync import resync_cluster
from clusters.endpoints.selectors import configuration_diff, revision_configuration
from clusters.endpoints.snapshot import build_snapshot
from clusters.endpoints.wake import wake
from clusters.inventory.selectors import NOT_READY_GRACE
from clusters.inventory.tuning import tuning_change
from clusters.models import (
    Cluster,
    Endpoint,
    EndpointEvent,
    Node,
    NodePool,
    Replica,
    Reservation,
    Revision,
    SloClass,
)
from clusters.specs import DeploymentSpec
from tenants import scope
from tenants.errors import Conflict, Invalid
from tests.clusters.endpoints.conftest import fresh

pytestmark = pytest.mark.django_db


def revisions(tenant):
    with scope.tenant(tenant.id):
        return list(Revision.objects.select_related("cluster", "pool").order_by("number"))


def move(tenant, endpoint, cluster):
    with scope.tenant(tenant.id):
        return services.endpoint_move(endpoint=fresh(endpoint), cluster=cluster, actor="an operator")


def restore(tenant, endpoint, number, **how):
    with scope.tenant(tenant.id):
        return restoring.endpoint_restore(endpoint=fresh(endpoint), number=number, actor="a test", **how)


@pytest.fixture
def elsewhere(estate, tenant):
    """The EU cluster with L4s that the first revision does not run on."""

    def elsewhere():
        (first, *_) = revisions(tenant)
        return estate.clusters["fi-a" if first.cluster.name == "de-a" else "de-a"]

    return elsewhere


def test_a_moved_endpoint_serves_from_the_old_place_until_the_new_one_does(
    order, settle, tenant, cluster, estate, elsewhere
):
    endpoint = settle(order())
    (old,) = revisions(tenant)
    target = elsewhere()
    move(tenant, endpoint, target)
    reconcile_endpoint(endpoint.id)
    old, new = revisions(tenant)
    assert new.cluster == target
    assert old.retired_at is None
    state = fresh(endpoint)
    assert state.state == "updating"
    assert "serves until" in state.state_reason
    routed = {route.revision_id for each in build_snapshot(estate.gateway).endpoints for route in each.routes}
    assert routed == {str(old.id)}

    assert settle(endpoint).state == "ready"
    old, new = revisions(tenant)
    assert old.cleaned_at is not None
    assert set(cluster.specs) == {new.deployment}
    with scope.tenant(tenant.id):
        (held,) = Reservation.objects.held()
        assert held.pool.cluster == target
        assert Allocation.objects.filter(ended_at=None).count() == 1


def test_a_move_to_where_there_is_no_room_changes_nothing(order, settle, tenant, estate):
    endpoint = settle(order(residency="zone:EU"))
    with pytest.raises(Conflict, match="us-a cannot take"):
        move(tenant, endpoint, estate.clusters["us-a"])
    assert len(revisions(tenant)) == 1
    assert fresh(endpoint).cluster is None


def test_a_moved_endpoint_does_not_need_twice_its_quota(order, settle, tenant, elsewhere):
    endpoint = settle(order(replicas=4))  # of the quota's 6 GPUs
    move(tenant, endpoint, elsewhere())
    assert settle(endpoint).state == "ready"


def test_a_paused_endpoint_goes_to_its_new_cluster_when_resumed(order, settle, tenant, elsewhere):
    endpoint = settle(order())
    target = elsewhere()
    with scope.tenant(tenant.id):
        services.endpoint_pause(endpoint=endpoint, actor="a test")
    settle(endpoint)
    move(tenant, endpoint, target)
    with scope.tenant(tenant.id):
        services.endpoint_resume(endpoint=fresh(endpoint), actor="a test")
    assert settle(endpoint).state == "ready"
    assert revisions(tenant)[-1].cluster == target


def test_pausing_in_the_middle_of_a_move_leaves_nothing(order, settle, tenant, cluster, elsewhere):
    endpoint = settle(order())
    move(tenant, endpoint, elsewhere())
    reconcile_endpoint(endpoint.id)
    with scope.tenant(tenant.id):
        services.endpoint_pause(endpoint=fresh(endpoint), actor="a test")
    assert settle(endpoint).state == "paused"
    assert cluster.specs == {}
    with scope.tenant(tenant.id):
        assert not Reservation.objects.held().exists()


def test_a_restored_revision_runs_with_the_settings_of_then(order, settle, tenant, cluster):
    endpoint = settle(order())
    tuning_change(slo_class=SloClass.objects.get(name="standard"), max_num_tokens=1234)
    with scope.tenant(tenant.id):
        services.endpoint_pause(endpoint=endpoint, actor="a test")
    settle(endpoint)
    with scope.tenant(tenant.id):
        services.endpoint_resume(endpoint=fresh(endpoint), actor="a test")
    settle(endpoint)
    restore(tenant, endpoint, 1)
    assert settle(endpoint).state == "ready"
    first, second, third = revisions(tenant)
    assert third.restored_from == 1
    tunings = [revision.spec["tuning"]["max_num_tokens"] for revision in (first, second, third)]
    assert tunings[1] == 1234
    assert tunings[0] == tunings[2] != 1234
    assert set(cluster.specs) == {third.deployment}


def test_a_restore_without_room_beside_is_refused_and_can_be_done_in_place(order, settle, tenant):
    endpoint = settle(order())
    with scope.tenant(tenant.id):
        services.endpoint_pause(endpoint=endpoint, actor="a test")
    settle(endpoint)
    with scope.tenant(tenant.id):
        services.endpoint_resume(endpoint=fresh(endpoint), actor="a test")
    settle(endpoint)
    pool = revisions(tenant)[0].pool
    NodePool.objects.filter(id=pool.id).update(reserve=pool.total_gpus - 1)
    with pytest.raises(Conflict, match="in place"):
        restore(tenant, endpoint, 1)
    assert len(revisions(tenant)) == 2
    restore(tenant, endpoint, 1, in_place=True)
    assert settle(endpoint).state == "ready"
    assert revisions(tenant)[-1].restored_from == 1
    assert fresh(endpoint).restoring is None


def test_restoring_what_runs_or_what_never_was_is_refused(order, settle, tenant):
    endpoint = settle(order())
    with pytest.raises(Invalid, match="is the one that runs"):
        restore(tenant, endpoint, 1)
    with pytest.raises(Invalid, match="no revision 9"):
        restore(tenant, endpoint, 9)


def test_every_revisions_configuration_is_kept_and_compared(order, settle, tenant):
    endpoint = settle(order())
    with scope.tenant(tenant.id):
        (revision,) = Revision.objects.filter(endpoint=endpoint)
        kept = revision_configuration(revision)
    assert kept
    assert configuration_diff(kept, kept) == []
    ((name, text),) = configuration_diff(kept, kept | {"more": "a: 1\n"})
    assert (name, "+a: 1" in text) == ("more", True)


def test_a_replica_on_a_faulty_node_is_replaced_and_its_cost_ends(order, settle, tenant, cluster):
    cluster.nodes = ["node-0", "node-1"]
    endpoint = settle(order())
    (revision,) = revisions(tenant)
    node = Node.objects.create(pool=revision.pool, name="node-0", index=0, capacity=4, usable=4)
    with scope.tenant(tenant.id):
        before = Replica.objects.get(gone_at=None)
    Node.objects.filter(id=node.id).update(fault="XID 79: GPU has fallen off the bus")
    cluster.nodes = ["node-1"]
    reconcile_endpoint(endpoint.id)
    with scope.tenant(tenant.id):
        hit = Replica.objects.get(id=before.id)
        assert (hit.phase, hit.trouble) == ("failed", "NodeFault")
        assert "XID 79" in hit.message
        assert Allocation.objects.get(replica_id=before.replica_id).ended_at is not None
    assert settle(endpoint).state == "ready"
    with scope.tenant(tenant.id):
        assert Replica.objects.get(gone_at=None).node == "node-1"


def test_a_node_that_is_not_ready_for_a_moment_costs_no_engine(order, settle, tenant, cluster):
    cluster.nodes = ["node-0"]
    endpoint = settle(order())
    (revision,) = revisions(tenant)
    since = timezone.now() - NOT_READY_GRACE / 2
    node = Node.objects.create(
        pool=revision.pool,
        name="node-0",
        index=0,
        capacity=4,
        usable=4,
        fault="Not ready.",
        fault_since=since,
    )
    with scope.tenant(tenant.id):
        before = Replica.objects.get(gone_at=None)
    again = reconcile_endpoint(endpoint.id)
    assert 0 < again <= NOT_READY_GRACE.total_seconds() / 2
    with scope.tenant(tenant.id):
        assert Replica.objects.get(id=before.id).phase == "ready"
    Node.objects.filter(id=node.id).update(fault_since=timezone.now() - NOT_READY_GRACE)
    reconcile_endpoint(endpoint.id)
    with scope.tenant(tenant.id):
        assert Replica.objects.get(id=before.id).phase == "failed"


def test_an_engine_stays_on_a_node_that_changed_its_pool(order, settle, tenant, cluster):
    cluster.nodes = ["node-0"]
    endpoint = settle(order())
    (revision,) = revisions(tenant)
    whole = {"name": "node-0", "index": 0, "capacity": 4, "usable": 4}
    Node.objects.create(pool=revision.pool, gone_at=timezone.now(), **whole)
    other = NodePool.objects.create(
        cluster=revision.cluster, name="other", gpu_type=revision.pool.gpu_type, nodes=1, gpus_per_node=4,
        discovered=True,
    )  # fmt: skip
    Node.objects.create(pool=other, **whole)
    with scope.tenant(tenant.id):
        before = Replica.objects.get(gone_at=None)
    assert reconcile_endpoint(endpoint.id) is None
    with scope.tenant(tenant.id):
        assert Replica.objects.get(gone_at=None).replica_id == before.replica_id


def test_reservations_follow_the_nodes_that_replicas_really_took(order, settle, tenant, cluster):
    cluster.nodes = ["node-b"]
    endpoint = settle(order())
    (revision,) = revisions(tenant)
    for index, name in enumerate(["node-a", "node-b"]):
        Node.objects.create(pool=revision.pool, name=name, index=index, capacity=4, usable=4)
    reconcile_endpoint(endpoint.id)
    with scope.tenant(tenant.id):
        assert Reservation.objects.get(revision=revision).nodes == [1]
    with CaptureQueriesContext(connection) as queries:
        assert reconcile_endpoint(endpoint.id) is None
    assert not [q for q in queries if q["sql"].startswith(("INSERT", "UPDATE", "DELETE"))]


def test_a_replica_that_outlives_another_does_not_shorten_its_bill(order, settle, tenant, cluster):
    endpoint = settle(order(replicas=2))
    (name,) = cluster.specs
    older, younger = cluster.replicas[name]
    cluster.replicas[name] = [younger]  # its index moves up where indexes follow age
    with scope.tenant(tenant.id):
        started = Replica.objects.get(replica_id=younger.replica_id).started_at
    reconcile_endpoint(endpoint.id)
    with scope.tenant(tenant.id):
        ended = Allocation.objects.get(replica_id=older.replica_id).ended_at
    assert ended > started


def test_a_cluster_that_does_not_answer_is_dialled_once_and_destroys_nothing(
    order, settle, tenant, cluster, estate
):
    endpoint = settle(order())
    (revision,) = revisions(tenant)
    cluster.away = Away("connection timed out")
    with scope.tenant(tenant.id):
        services.endpoint_scale(endpoint=fresh(endpoint), replicas=2, actor="a test")
    reconcile_endpoint(endpoint.id)
    assert fresh(endpoint).state == "unreachable"
    assert Cluster.objects.get(id=revision.cluster_id).state == "unreachable"
    cluster.away = AssertionError("dialled again")
    reconcile_endpoint(endpoint.id)
    assert fresh(endpoint).state == "unreachable"
    with scope.tenant(tenant.id):
        assert Replica.objects.filter(gone_at=None).count() == 1
        assert Allocation.objects.filter(ended_at=None).count() == 1
    cluster.away = None
    Cluster.objects.filter(id=revision.cluster_id).update(state="active", state_reason="")
    assert settle(endpoint).state == "ready"


def test_a_leftover_on_a_dead_cluster_does_not_make_the_endpoint_unreachable(
    order, settle, tenant, cluster, elsewhere
):
    endpoint = settle(order())
    (old,) = revisions(tenant)
    move(tenant, endpoint, elsewhere())
    for _ in range(6):
        reconcile_endpoint(endpoint.id)
        cluster.make_ready()
        Cluster.objects.filter(id=old.cluster_id).update(state="unreachable", state_reason="gone dark")
    with scope.tenant(tenant.id):
        Revision.objects.filter(id=old.id).update(retired_at=old.created_at)
    reconcile_endpoint(endpoint.id)
    state = fresh(endpoint)
    assert state.state != "unreachable"
    assert state.due_at is not None  # it keeps trying to remove what is left
    assert revisions(tenant)[0].cleaned_at is None


def test_a_resync_finds_what_drifted_writes_nothing_itself_and_has_it_repaired(
    order, settle, tenant, cluster
):
    endpoint = settle(order("one"))
    settle(order("two"))
    first = next(each for each in revisions(tenant) if each.endpoint_id == endpoint.id)
    assert resync_cluster(first.cluster) == 0
    del cluster.specs[first.deployment]  # somebody removed it there
    before = len(cluster.writes)
    assert resync_cluster(first.cluster) == 1
    assert cluster.writes[before:] == []
    with scope.tenant(tenant.id):
        assert EndpointEvent.objects.filter(endpoint=endpoint, kind="drift").count() == 1
    settle(endpoint)
    assert [name for _, name in cluster.writes[before:]] == [first.deployment]


def test_a_change_that_does_not_come_up_is_undone_and_told(order, settle, tenant, cluster, elsewhere):
    endpoint = settle(order())
    (old,) = revisions(tenant)
    move(tenant, endpoint, elsewhere())
    reconcile_endpoint(endpoint.id)
    new = revisions(tenant)[-1]
    cluster.fail(new.deployment, "CUDA out of memory")
    reconcile_endpoint(endpoint.id)
    state = settle(endpoint)
    assert state.state == "update-failed"
    assert "CUDA out of memory" in state.state_reason
    assert state.cluster is None
    move(tenant, endpoint, old.cluster)
    assert settle(endpoint).state == "ready"
    assert len(revisions(tenant)) == 2
    assert set(cluster.specs) == {old.deployment}
    with scope.tenant(tenant.id):
        (held,) = Reservation.objects.held()
        assert held.revision_id == old.id


def test_one_change_at_a_time_holds_gpus_for_one_change(order, settle, tenant, cluster, estate):
    endpoint = settle(order(replicas=2))
    with scope.tenant(tenant.id):
        services.endpoint_pause(endpoint=endpoint, actor="a test")
    settle(endpoint)
    with scope.tenant(tenant.id):
        services.endpoint_resume(endpoint=fresh(endpoint), actor="a test")
    settle(endpoint)
    for _ in range(4):
        restore(tenant, endpoint, 1)
        with scope.tenant(tenant.id):
            assert Reservation.objects.held().gpus() <= 4
    assert settle(endpoint).state == "ready"
    with scope.tenant(tenant.id):
        assert Reservation.objects.held().gpus() == 2
    assert len(cluster.specs) == 1


def test_a_restore_keeps_to_where_operators_moved_it(order, settle, tenant, elsewhere):
    endpoint = settle(order())
    move(tenant, endpoint, elsewhere())
    settle(endpoint)
    with pytest.raises(Conflict, match="on another one"):
        restore(tenant, endpoint, 1)
    assert len(revisions(tenant)) == 2


def test_a_pause_forgets_a_restore_that_waits(order, settle, tenant):
    endpoint = settle(order())
    with scope.tenant(tenant.id):
        services.endpoint_pause(endpoint=endpoint, actor="a test")
    settle(endpoint)
    with scope.tenant(tenant.id):
        services.endpoint_resume(endpoint=fresh(endpoint), actor="a test")
    settle(endpoint)
    restore(tenant, endpoint, 1, in_place=True)
    assert fresh(endpoint).restoring == 1
    with scope.tenant(tenant.id):
        services.endpoint_pause(endpoint=fresh(endpoint), actor="a test")
    settle(endpoint)
    assert fresh(endpoint).restoring is None


def test_a_replica_that_was_out_of_sight_is_billed_again_from_when_it_is_back(order, settle, tenant, cluster):
    endpoint = settle(order())
    (name,) = cluster.specs
    (seen,) = cluster.replicas[name]
    cluster.replicas[name] = []
    reconcile_endpoint(endpoint.id)
    with scope.tenant(tenant.id):
        first = Allocation.objects.get(replica_id=seen.replica_id)
        assert first.ended_at is not None
    cluster.replicas[name] = [seen]
    assert settle(endpoint).state == "ready"
    with scope.tenant(tenant.id):
        assert Replica.objects.get(replica_id=seen.replica_id).gone_at is None
        again = Allocation.objects.get(replica_id=seen.replica_id, ended_at=None)
    assert again.started_at >= first.ended_at


def test_a_revision_that_cannot_be_read_says_so(order, tenant, cluster, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr(DeploymentSpec, "to_document", lambda spec: {"written": "by an earlier version"})
        endpoint = order()
    reconcile_endpoint(endpoint.id)
    state = fresh(endpoint)
    assert state.state == "failed"
    assert "pause and resume" in state.state_reason
    assert resync_cluster(revisions(tenant)[0].cluster) == 0


def test_what_is_left_on_a_dead_cluster_does_not_keep_an_endpoint_from_running_elsewhere(
    order, settle, tenant, cluster
):
    endpoint = settle(order())
    (old,) = revisions(tenant)
    with scope.tenant(tenant.id):
        services.endpoint_pause(endpoint=endpoint, actor="a test")
    Cluster.objects.filter(id=old.cluster_id).update(state="unreachable", state_reason="gone dark")
    reconcile_endpoint(endpoint.id)
    with scope.tenant(tenant.id):
        services.endpoint_resume(endpoint=fresh(endpoint), actor="a test")
    for _ in range(6):
        reconcile_endpoint(endpoint.id)
        cluster.make_ready()
    _, new = revisions(tenant)
    assert new.cluster != old.cluster


def test_a_pass_that_outlasts_its_lease_still_writes_what_it_found(
    order, settle, tenant, cluster, monkeypatch
):
    endpoint = order()
    observe = cluster.observe

    def slow(name):
        with scope.platform("the sweep leases it anew"):
            Endpoint.objects.filter(id=endpoint.id).update(due_at=timezone.now() + dt.timedelta(seconds=5))
        return observe(name)

    monkeypatch.setattr(cluster, "observe", slow)
    assert settle(endpoint).state == "ready"
    assert fresh(endpoint).due_at is None


def test_who_wakes_it_during_a_pass_gets_another_look(order, settle, cluster, monkeypatch):
    endpoint = settle(order())
    observe = cluster.observe

    def woken(name):
        with scope.platform("somebody wakes it"):
            wake(endpoint)
        return observe(name)

    monkeypatch.setattr(cluster, "observe", woken)
    reconcile_endpoint(endpoint.id)
    assert fresh(endpoint).due_at is not None
