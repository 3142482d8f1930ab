"""Planning a running endpoint anew: for its measured load, in place or beside what runs."""

from __future__ import annotations

import dataclasses

import pytest

from clusters.endpoints import services
from clusters.endpoints.load.measured import figure, load_of
from clusters.endpoints.load.replanning import endpoint_replan
from clusters.endpoints.planning import OrderTerms
from clusters.endpoints.reconcile import reconcile_endpoint
from clusters.models import Condition, EndpointEvent, NodePool, Reservation, Revision, SloClass
from tenants import scope
from tenants.errors import Conflict, Invalid, OverQuota, Stale
from tenants.services import quota_set
from tests.clusters.endpoints.conftest import fresh
from tests.clusters.endpoints.loads import observe, rush_of

pytestmark = pytest.mark.django_db


def replan(tenant, endpoint, **wishes):
    with scope.tenant(tenant.id):
        return endpoint_replan(endpoint=fresh(endpoint), actor="ann", **wishes)


def terms_of(tenant, endpoint, **changes):
    with scope.tenant(tenant.id):
        return dataclasses.replace(OrderTerms.of(fresh(endpoint)), **changes)


def revisions(tenant):
    with scope.tenant(tenant.id):
        return list(Revision.objects.select_related("cluster", "pool").order_by("number"))


def drift_of(tenant, endpoint):
    with scope.tenant(tenant.id):
        return Condition.objects.filter(endpoint=endpoint, type=Condition.Type.LOAD_DRIFT).first()


def test_more_load_of_the_same_shape_adds_engines_in_place(order, settle, tenant, cluster):
    endpoint = settle(order(requests_per_second=1.0))
    rush = rush_of(endpoint)
    observe(endpoint, requests_per_second=rush)
    replan(tenant, endpoint)
    (revision,) = revisions(tenant)
    assert revision.replicas > 1
    changed = settle(endpoint)
    assert (changed.state, changed.requests_per_second, changed.replicas) == ("ready", rush, None)
    assert changed.generation == endpoint.generation + 1
    with scope.tenant(tenant.id):
        assert Reservation.objects.held().gpus() == revision.replicas
        found = load_of(endpoint)
        (event,) = EndpointEvent.objects.filter(endpoint=endpoint, kind="replanned")
    assert (found.drifting_since, found.drift, found.replan) == (None, [], None)
    assert event.actor == "ann"
    assert f"requests per second 1 -> {figure(rush)}" in event.message
    assert drift_of(tenant, endpoint).status == "false"


def test_less_load_gives_engines_back(order, settle, tenant):
    endpoint = settle(order(replicas=3))
    (before,) = revisions(tenant)
    observe(endpoint, requests_per_second=1.0)
    replan(tenant, endpoint)
    settle(endpoint)
    (after,) = revisions(tenant)
    assert after.replicas == 1 < before.replicas


def test_another_shape_is_started_beside_what_serves_until_it_does(order, settle, tenant, cluster):
    endpoint = settle(order())
    replan(tenant, endpoint, terms=terms_of(tenant, endpoint, pins={"gpu": "h100_sxm"}))
    old, new = revisions(tenant)
    assert (old.retired_at, new.gpu_type) == (None, "h100_sxm")
    reconcile_endpoint(endpoint.id)
    assert fresh(endpoint).state == "updating"
    assert settle(endpoint).state == "ready"
    old, new = revisions(tenant)
    assert old.cleaned_at is not None
    assert set(cluster.specs) == {new.deployment}


def test_doing_it_again_is_refused_and_changes_nothing(order, settle, tenant):
    endpoint = settle(order())
    wishes = terms_of(tenant, endpoint, pins={"gpu": "h100_sxm"})
    replan(tenant, endpoint, terms=wishes)
    with pytest.raises(Conflict, match="Nothing would change"):
        replan(tenant, endpoint, terms=wishes)
    assert len(revisions(tenant)) == 2
    settle(endpoint)
    with pytest.raises(Conflict, match="Nothing would change"):
        replan(tenant, endpoint, terms=wishes)
    assert len(revisions(tenant)) == 2


def test_a_change_under_way_is_given_up_for_another(order, settle, tenant, cluster):
    endpoint = settle(order())
    replan(tenant, endpoint, terms=terms_of(tenant, endpoint, pins={"gpu": "h100_sxm"}))
    reconcile_endpoint(endpoint.id)
    replan(tenant, endpoint, terms=terms_of(tenant, endpoint, pins={}, requests_per_second=rush_of(endpoint)))
    assert settle(endpoint).state == "ready"
    last = [each for each in revisions(tenant) if each.retired_at is None]
    assert [(each.gpu_type, each.replicas > 1) for each in last] == [("l4", True)]
    assert set(cluster.specs) == {last[0].deployment}


def test_a_load_that_needs_nothing_else_is_taken_over_all_the_same(order, settle, tenant):
    endpoint = settle(order(requests_per_second=1.0))
    observe(endpoint, requests_per_second=5.0)
    replan(tenant, endpoint)
    assert len(revisions(tenant)) == 1
    assert settle(endpoint).requests_per_second == 5.0
    assert drift_of(tenant, endpoint).status == "false"
    with pytest.raises(Conflict, match="Nothing would change"):
        replan(tenant, endpoint)


def test_without_a_measured_load_there_is_nothing_to_take_over(order, settle, tenant):
    endpoint = settle(order())
    with pytest.raises(Conflict, match="too few requests"):
        replan(tenant, endpoint)


def test_no_room_and_no_quota_change_nothing(order, settle, tenant):
    endpoint = settle(order(requests_per_second=1.0))
    observe(endpoint, requests_per_second=rush_of(endpoint))
    with scope.tenant(tenant.id):
        quota_set(resource="gpus", limit=1)
    with pytest.raises((Conflict, OverQuota)) as refused:
        replan(tenant, endpoint)
    assert "quota" in refused.value.message
    with scope.tenant(tenant.id):
        quota_set(resource="gpus", limit=6)
    for pool in NodePool.objects.all():
        NodePool.objects.filter(id=pool.id).update(reserve=pool.total_gpus)
    with pytest.raises(Conflict, match="cannot be run so now") as refused:
        replan(tenant, endpoint)
    assert refused.value.extra["refusals"]
    unchanged = fresh(endpoint)
    assert (unchanged.requests_per_second, unchanged.generation) == (1.0, endpoint.generation)
    assert drift_of(tenant, endpoint) is None
    assert revisions(tenant)[0].replicas == 1


def test_only_the_generation_that_was_seen_is_changed(order, settle, tenant):
    endpoint = settle(order(requests_per_second=1.0))
    observe(endpoint, requests_per_second=rush_of(endpoint))
    with pytest.raises(Stale):
        replan(tenant, endpoint, if_generation=endpoint.generation - 1)
    replan(tenant, endpoint, if_generation=endpoint.generation)


def test_what_makes_it_another_order_is_refused(order, settle, tenant):
    endpoint = settle(order())
    batch = SloClass.objects.get(name="batch")
    with pytest.raises(Invalid, match="Slo class cannot be changed") as refused:
        replan(tenant, endpoint, terms=terms_of(tenant, endpoint, slo_class=batch))
    assert set(refused.value.errors) == {"slo_class"}
    with pytest.raises(Invalid):
        replan(tenant, endpoint, terms=terms_of(tenant, endpoint, burstiness=0.5))
    with pytest.raises(Invalid):
        replan(tenant, endpoint, terms=terms_of(tenant, endpoint, pins={"colour": "red"}))


def test_a_paused_endpoint_is_planned_so_when_it_is_resumed(order, settle, tenant):
    endpoint = settle(order(requests_per_second=1.0))
    observe(endpoint, requests_per_second=rush_of(endpoint))
    with scope.tenant(tenant.id):
        services.endpoint_pause(endpoint=endpoint, actor="ann")
    settle(endpoint)
    replan(tenant, endpoint)
    assert settle(endpoint).state == "paused"
    with scope.tenant(tenant.id):
        services.endpoint_resume(endpoint=fresh(endpoint), actor="ann")
    assert settle(endpoint).state == "ready"
    assert revisions(tenant)[-1].replicas > 1
