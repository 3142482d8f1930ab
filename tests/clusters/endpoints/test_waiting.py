"""Waiting for capacity: who comes first, how long it may take, what could be had at once."""

from __future__ import annotations

import datetime as dt

import pytest
from django.utils import timezone

from clusters.endpoints import services, waiting
from clusters.endpoints.reconcile import reconcile_endpoint
from clusters.models import CapacityWait, Reservation, Revision
from tenants import scope
from tenants.services import quota_set
from tests.clusters.endpoints.conftest import fresh
from tests.factories import default_project, make_tenant

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant(db):
    return make_tenant("acme", gpus=40)


@pytest.fixture
def full(order, cluster):
    """An endpoint that holds all four L4 of ``fi-a``."""
    return order("full", replicas=4, residency="region:eu-fi-1")


@pytest.fixture
def waits(order, full):
    """Order an endpoint that waits for GPUs of ``fi-a``."""

    def waits(name, **changes):
        endpoint = order(name, residency="region:eu-fi-1", **changes)
        assert reconcile_endpoint(endpoint.id) is not None
        assert fresh(endpoint).state == "waiting-for-capacity"
        return fresh(endpoint)

    return waits


def capacity(endpoint) -> waiting.CapacityAnswer | None:
    with scope.tenant(endpoint.tenant_id):
        return waiting.capacity_of(fresh(endpoint))


def free(endpoint) -> None:
    """Let an endpoint let go of everything at once."""
    with scope.tenant(endpoint.tenant_id):
        services.endpoint_pause(endpoint=endpoint, actor="a test")
        Reservation.objects.held().filter(endpoint=endpoint).update(released_at=timezone.now())
        Revision.objects.filter(endpoint=endpoint).update(cleaned_at=timezone.now())


def holds(endpoint) -> int:
    with scope.tenant(endpoint.tenant_id):
        return Reservation.objects.held().filter(endpoint=endpoint).gpus()


def test_one_that_waits_is_told_its_place_and_what_could_be_had_at_once(waits, full):
    first, second = waits("first"), waits("second")
    assert (capacity(first).position, capacity(first).waiting) == (1, 2)
    told = capacity(second)
    assert (told.position, told.waiting) == (2, 2)
    assert told.pools == ("fi-a/l4",)
    assert told.estimate.startswith("unknown: nobody waited")
    germany = next(each for each in told.alternatives if each["value"] == "region:eu-de-1")
    assert (germany["gpu"], germany["price_per_hour"]) == ("l4", "0.45")
    assert capacity(full) is None


def test_a_class_of_higher_priority_comes_before_one_that_waited_longer(waits):
    early, urgent = waits("early", slo_class="batch"), waits("urgent", slo_class="standard")
    assert capacity(urgent).position == 1
    assert capacity(early).position == 2


def test_only_those_that_could_use_the_same_pools_are_counted(waits, order):
    here = waits("here")
    with scope.tenant(here.tenant_id):
        CapacityWait.objects.filter(endpoint=here).update(pools=["de-a/h100"])
    assert (capacity(waits("there")).position, capacity(here).waiting) == (1, 1)


def test_a_quote_without_capacity_says_where_it_would_come(waits, estate, tenant):
    waits("first", slo_class="standard")
    with scope.tenant(tenant.id):
        for slo_class, position in (("interactive", 1), ("batch", 2)):
            terms = estate.terms(residency="region:eu-fi-1", slo_class=slo_class)
            answer = waiting.capacity_for(services.endpoint_quote(terms=terms), slo_class=terms.slo_class)
            assert (answer.position, answer.since) == (position, None)
        elsewhere = estate.terms()
        placed = services.endpoint_quote(terms=elsewhere)
        assert waiting.capacity_for(placed, slo_class=elsewhere.slo_class) is None


def test_an_estimate_comes_from_those_who_waited_for_these_gpus(waits, full):
    now = timezone.now()
    with scope.tenant(full.tenant_id):
        for minutes, pool, days in ((10, "fi-a/l4", 1), (20, "fi-a/l4", 2), (60, "fi-a/l4", 3),
                                    (900, "", 1), (900, "fi-a/l4", 40)):  # fmt: skip
            ended = now - dt.timedelta(days=days)
            wait = CapacityWait.objects.create(endpoint=full, pools=["fi-a/l4"], ended_at=ended, pool=pool)
            CapacityWait.objects.filter(id=wait.id).update(created_at=ended - dt.timedelta(minutes=minutes))
    told = capacity(waits("late"))
    assert told.sample == 3
    assert told.estimate_s == pytest.approx(1200, abs=5)
    assert told.at_most_s == pytest.approx(3600, abs=5)
    assert "about 20 minutes" in told.estimate


def test_freed_gpus_go_to_the_first_in_the_queue_whoever_looks_first(waits, full):
    batch, late = waits("batch", slo_class="batch", replicas=2), waits("late", replicas=3)
    urgent = waits("urgent", slo_class="interactive", replicas=2)
    free(full)
    reconcile_endpoint(batch.id)
    assert holds(batch) == 0, "a batch endpoint took what an interactive one waits for"
    assert fresh(urgent).due_at <= timezone.now()
    assert "comes before it" in fresh(batch).state_reason
    reconcile_endpoint(urgent.id)
    assert holds(urgent) == 2
    # Two are left: too few for the next, who holds up nobody.
    reconcile_endpoint(batch.id)
    assert holds(batch) == 2
    assert holds(late) == 0


def test_another_tenants_endpoint_that_waited_longer_comes_first(waits, full, estate):
    stranger = make_tenant("globex", gpus=8)
    with scope.tenant(stranger.id):
        theirs = services.endpoint_order(
            project=default_project(stranger), name="theirs", actor="a test",
            terms=estate.terms(residency="region:eu-fi-1", replicas=4),
        )  # fmt: skip
    reconcile_endpoint(theirs.id)
    ours = waits("ours")
    assert capacity(ours).position == 2
    free(full)
    reconcile_endpoint(ours.id)
    assert holds(ours) == 0
    reconcile_endpoint(theirs.id)
    assert holds(theirs) == 4


def test_one_that_is_over_its_quota_holds_up_nobody(waits, full, estate):
    poor = make_tenant("globex", gpus=8)
    with scope.tenant(poor.id):
        theirs = services.endpoint_order(
            project=default_project(poor), name="theirs", actor="a test",
            terms=estate.terms(residency="region:eu-fi-1", slo_class="interactive", replicas=2),
        )  # fmt: skip
    reconcile_endpoint(theirs.id)
    with scope.tenant(poor.id):
        quota_set(resource="gpus", limit=1)
    ours = waits("ours")
    free(full)
    reconcile_endpoint(ours.id)
    assert holds(ours) == 1


def test_a_wait_ends_when_it_gets_gpus_and_when_nobody_wants_it_any_more(waits, full):
    got, gone = waits("got", replicas=4), waits("gone", slo_class="batch")
    with scope.tenant(gone.tenant_id):
        services.endpoint_delete(endpoint=gone, actor="a test")
    free(full)
    reconcile_endpoint(got.id)
    with scope.tenant(got.tenant_id):
        waits_of = {wait.endpoint_id: wait for wait in CapacityWait.objects.all()}
    assert waits_of[got.id].pool == "fi-a/l4"
    assert waits_of[got.id].ended_at is not None
    assert waits_of[gone.id].pool == ""
    assert waits_of[gone.id].ended_at is not None


def test_a_second_look_at_the_same_wait_writes_nothing(waits):
    endpoint = waits("still")
    with scope.tenant(endpoint.tenant_id):
        before = CapacityWait.objects.get(endpoint=endpoint)
    reconcile_endpoint(endpoint.id)
    with scope.tenant(endpoint.tenant_id):
        assert CapacityWait.objects.get(endpoint=endpoint).created_at == before.created_at
        assert CapacityWait.objects.filter(endpoint=endpoint).count() == 1


def test_a_new_order_does_not_pass_one_that_waits(waits, full, order):
    first = waits("first", replicas=4)
    free(full)
    late = order("late", residency="region:eu-fi-1")
    assert holds(late) == 0
    reconcile_endpoint(first.id)
    assert holds(first) == 4


def test_one_that_does_not_take_what_it_is_left_is_passed_over(waits, full):
    stuck, next_one = waits("stuck", replicas=4), waits("next")
    free(full)
    reconcile_endpoint(next_one.id)
    assert holds(next_one) == 0
    with scope.tenant(stuck.tenant_id):
        long_ago = timezone.now() - waiting.PATIENCE - dt.timedelta(seconds=1)
        assert CapacityWait.objects.filter(endpoint=stuck, offered_at__isnull=False).update(
            offered_at=long_ago
        )
    reconcile_endpoint(next_one.id)
    assert holds(next_one) == 1
    # It looks again by itself: then it is in the queue as before.
    reconcile_endpoint(stuck.id)
    with scope.tenant(stuck.tenant_id):
        assert CapacityWait.objects.get(endpoint=stuck).offered_at is None
