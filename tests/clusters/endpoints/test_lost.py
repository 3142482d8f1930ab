"""A cluster that is gone for good: what ran there ends, is no longer billed, and is placed elsewhere."""

from __future__ import annotations

import datetime as dt

import pytest
from django.utils import timezone

from billing.models import Allocation
from clusters.endpoints import services
from clusters.endpoints.lost import cluster_loss, cluster_lost
from clusters.endpoints.watch import remove_leaks
from clusters.inventory.registration import cluster_remove
from clusters.models import (
    Cluster,
    EndpointEvent,
    Gateway,
    NodePool,
    Replica,
    Reservation,
    Revision,
)
from tenants import scope
from tenants.errors import Conflict
from tests.clusters.endpoints.conftest import fresh
from tests.clusters.endpoints.rollouts import NIGHT, Rolling, at, canary, crowd

pytestmark = pytest.mark.django_db

ACTOR = "operator olga@example.org"


def only_revision(tenant) -> Revision:
    with scope.tenant(tenant.id):
        return Revision.objects.select_related("cluster").get(cleaned_at=None)


def lose(cluster: Cluster, seen_at: dt.datetime) -> Cluster:
    Cluster.objects.filter(id=cluster.id).update(
        state=Cluster.State.UNREACHABLE, state_reason="no answer", last_seen_at=seen_at
    )
    return Cluster.objects.get(id=cluster.id)


def test_what_ran_there_ends_when_it_was_last_seen_and_is_placed_elsewhere(order, settle, tenant):
    endpoint = settle(order(replicas=2))
    before = only_revision(tenant)
    now = timezone.now()
    with scope.tenant(tenant.id):
        first, second = Allocation.objects.all()
        Allocation.objects.filter(id=first.id).update(started_at=now - dt.timedelta(hours=2))
        Allocation.objects.filter(id=second.id).update(started_at=now - dt.timedelta(minutes=10))
    seen_at = now - dt.timedelta(hours=1)
    gone = lose(before.cluster, seen_at)
    Gateway.objects.create(
        name="gw-there", region=gone.region, cluster=gone, token_digest="0" * 64, state="running"
    )
    told = cluster_loss(gone)
    assert (list(told.endpoint_ids), list(told.gateways), told.replicas) == ([endpoint.id], ["gw-there"], 2)

    cluster_lost(cluster=gone, actor=ACTOR)
    with scope.tenant(tenant.id):
        ends = {each.id: (each.started_at, each.ended_at) for each in Allocation.objects.all()}
        assert ends[first.id][1] == seen_at
        assert ends[second.id][0] == ends[second.id][1]  # never before its start
        assert not Replica.objects.filter(gone_at=None).exists()
        assert not Reservation.objects.held().exists()
        assert EndpointEvent.objects.filter(endpoint=endpoint, kind="cluster-lost", actor=ACTOR).count() == 1
    assert fresh(endpoint).due_at is not None
    assert not Gateway.objects.filter(name="gw-there").exists()
    assert settle(endpoint).state == "ready"
    assert only_revision(tenant).cluster != before.cluster


def test_an_endpoint_that_was_being_deleted_there_is_gone(order, settle, tenant, cluster):
    endpoint = settle(order())
    gone = lose(only_revision(tenant).cluster, timezone.now())
    with scope.tenant(tenant.id):
        services.endpoint_delete(endpoint=endpoint, actor="a test")
    cluster_lost(cluster=gone, actor=ACTOR)
    assert settle(endpoint).state == "deleted"
    assert cluster.writes[-1][0] != "delete"
    cluster_remove(cluster=gone)
    assert Cluster.objects.get(id=gone.id).removed_at is not None


def test_a_pin_to_it_is_given_up(order, settle, tenant, estate):
    endpoint = settle(order())
    with scope.tenant(tenant.id):
        services.endpoint_move(endpoint=endpoint, cluster=estate.clusters["fi-a"], actor="a test")
        services.endpoint_pause(endpoint=endpoint, actor="a test")
    cluster_lost(cluster=lose(estate.clusters["fi-a"], timezone.now()), actor=ACTOR)
    assert fresh(endpoint).cluster is None


def test_only_a_cluster_that_does_not_answer_is_given_up(order, settle, estate, tenant):
    settle(order())
    with pytest.raises(Conflict, match="does not answer"):
        cluster_lost(cluster=only_revision(tenant).cluster, actor=ACTOR)
    assert only_revision(tenant).retired_at is None


def test_if_it_comes_back_what_still_runs_there_is_deleted(order, settle, tenant, cluster):
    settle(order())
    before = only_revision(tenant)
    gone = lose(before.cluster, timezone.now())
    cluster_lost(cluster=gone, actor=ACTOR)
    gone.refresh_from_db()
    assert gone.cordon_reason.startswith(f"Declared lost by {ACTOR}")
    assert before.deployment in cluster.specs
    assert remove_leaks(gone) == 1
    assert before.deployment not in cluster.specs


@pytest.fixture
def rolling(order, settle, estate, cluster):
    """An endpoint that serves, in a class with a canary that replaces only at night."""

    def rolling(**terms):
        canary(**NIGHT)
        return Rolling(estate=estate, cluster=cluster, endpoint=settle(order(**terms)))

    return rolling


def lose_for_good(cluster: Cluster) -> None:
    cluster_lost(cluster=lose(cluster, timezone.now()), actor=ACTOR)


def serves_elsewhere(it, tenant, gone: Cluster) -> Revision:
    """Check that an endpoint serves by its order before the change, on another cluster than the lost one."""
    runs = only_revision(tenant)
    assert runs.cluster != gone
    assert runs.terms["pins"] == {}
    assert (it.shown.pins, it.shown.cluster, it.weights()) == ({}, None, {runs.number: 100})
    assert it.shown.state == "update-failed"
    return runs


@pytest.mark.parametrize("pinned", [False, True])
def test_lost_while_a_replacement_starts_the_order_before_it_is_placed_anew(rolling, tenant, estate, pinned):
    it = rolling(cluster=estate.clusters["fi-a"] if pinned else None)
    it.now = at(3)
    gone = only_revision(tenant).cluster
    crowd(only_revision(tenant))
    it.change(pins={"max_batch_size": 4})
    it.look(passes=3, ready=False)
    assert (it.rollout.phase, it.rollout.revision.cluster) == ("starting", gone)
    NodePool.objects.update(reserve=0)
    lose_for_good(gone)
    found = it.look(12)
    assert (found.phase, found.revision.number) == ("failed", 2)
    assert "its cluster was lost" in found.reason
    assert serves_elsewhere(it, tenant, gone).number == 3


def test_lost_while_a_replacement_waits_the_order_before_it_waits_for_room_anywhere(rolling, tenant):
    it = rolling()
    it.now = at(12)
    gone = only_revision(tenant).cluster
    crowd(only_revision(tenant))
    it.change(pins={"max_batch_size": 4})
    it.look()
    lose_for_good(gone)
    assert it.look().phase == "failed"
    assert it.shown.state == "waiting-for-capacity"
    NodePool.objects.update(reserve=0)
    it.look(5)
    serves_elsewhere(it, tenant, gone)


@pytest.fixture
def apart(rolling, tenant):
    """An endpoint that is changed: what ran before is in ``fi-a``, the new revision comes in ``de-a``."""
    NodePool.objects.filter(cluster__name="de-a", gpu_type__name="l4").update(reserve=4)
    it = rolling(pins={"gpu": "l4"})
    it.change(pins={"gpu": "h100_sxm"})
    assert (it.rollout.before.cluster.name, it.rollout.revision.cluster.name) == ("fi-a", "de-a")
    return it


def test_lost_with_a_canary_there_what_ran_before_serves_on(apart, estate):
    assert apart.look().phase == "canary"
    lose_for_good(estate.clusters["de-a"])
    assert apart.look().phase == "failed"
    assert apart.weights() == {1: 100}
    assert (apart.shown.state, apart.shown.pins) == ("update-failed", {"gpu": "l4"})


def test_lost_with_what_ran_before_the_canary_is_promoted(apart, estate):
    assert apart.look().phase == "canary"
    lose_for_good(estate.clusters["fi-a"])
    assert apart.look().phase == "promoted"
    assert apart.weights() == {2: 100}
    assert (apart.shown.state, apart.shown.pins) == ("ready", {"gpu": "h100_sxm"})


def test_lost_with_what_ran_before_what_does_not_come_up_is_not_left_in_its_place(apart, estate, cluster):
    apart.look(passes=3, ready=False)
    NodePool.objects.update(reserve=0)
    lose_for_good(estate.clusters["fi-a"])
    cluster.fail(apart.rollout.revision.deployment, "CUDA out of memory")
    apart.look(passes=2, ready=False)
    assert apart.look(12).phase == "failed"
    assert apart.weights() == {3: 100}
    assert (apart.shown.state, apart.shown.pins) == ("update-failed", {"gpu": "l4"})
