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
from clusters.models import Cluster, EndpointEvent, Gateway, Replica, Reservation, Revision
from tenants import scope
from tenants.errors import Conflict
from tests.clusters.endpoints.conftest import fresh

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
