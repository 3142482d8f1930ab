"""What-ifs: for one endpoint on its own history, and over all of them; nothing is ever written."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing.prices import price_set
from clusters.endpoints import services
from clusters.endpoints.what_if.fleet import fleet_what_if
from clusters.endpoints.what_if.one import AddedGpus, Changes, endpoint_what_if
from clusters.models import GpuType, NodePool, Reservation, Revision, SloClass
from clusters.planning.gpus import gpu_catalog
from tenants import scope
from tenants.errors import Invalid
from tests.clusters.endpoints.conftest import fresh
from tests.clusters.endpoints.hours import add_hours
from tests.clusters.endpoints.loads import rush_of
from tests.clusters.endpoints.test_load import writes
from tests.factories import default_project, make_tenant

pytestmark = pytest.mark.django_db


@pytest.fixture
def ask(tenant):
    """Ask a what-if about an endpoint; it must write nothing."""

    def ask(endpoint, **changes):
        with scope.tenant(tenant.id), CaptureQueriesContext(connection) as captured:
            found = endpoint_what_if(endpoint=fresh_with_all(endpoint), changes=Changes(**changes))
        assert writes(captured) == []
        return found

    return ask


def fresh_with_all(endpoint):
    with scope.platform("a test"):
        rows = type(endpoint).objects.select_related("tenant", "project", "model", "slo_class", "cluster")
        return rows.get(id=endpoint.id)


def gpu(name):
    return GpuType.objects.get(name=name)


def test_a_dearer_price_book_is_told_per_hour_day_and_month(order, settle, ask):
    endpoint = settle(order())
    found = ask(endpoint, price_percent=Decimal(20))
    assert found.now.price_per_hour == found.before.price_per_hour == Decimal("0.45")
    assert found.after.price_per_hour == found.held_price == Decimal("0.54")
    assert found.difference_per_hour == Decimal("0.09")
    assert found.after.price_per_day == 24 * found.after.price_per_hour
    assert found.after.price_per_month == 720 * found.after.price_per_hour


def test_without_history_it_says_so_and_takes_the_order(order, settle, ask):
    endpoint = settle(order(requests_per_second=3.0))
    found = ask(endpoint, residency="global")
    assert (found.measured, found.hours) == (False, 0)
    assert found.load.requests_per_second == 3.0
    assert found.before.kept is found.after.kept is None


def test_history_tells_what_share_of_the_hours_keeps_the_targets(order, settle, ask):
    endpoint = settle(order(requests_per_second=1.0))
    until = timezone.now().replace(minute=0, second=0, microsecond=0)
    add_hours(endpoint, until=until, hours=3, rate=rush_of(endpoint))
    add_hours(endpoint, until=until - dt.timedelta(hours=3), hours=9, rate=1.0)
    found = ask(endpoint, price_percent=Decimal(1))
    assert (found.measured, found.hours) == (True, 12)
    assert found.now.kept == pytest.approx(9 / 12), "one replica cannot carry the rush"
    assert found.before.kept == found.after.kept == 1
    assert found.before.running.replicas > found.now.running.replicas == 1


def test_another_class_place_and_precision(order, settle, ask, estate):
    endpoint = settle(order())
    interactive = SloClass.objects.get(name="interactive")
    dearer = ask(endpoint, slo_class=interactive)
    assert dearer.after.slo_class == interactive
    each = Decimal("0.45") * interactive.price_factor
    assert dearer.after.price_per_hour == each * (1 + interactive.spare_replicas)
    there = ask(endpoint, residency="region:us-east-1")
    assert there.after.cluster == "us-a"
    nowhere = ask(endpoint, residency="region:eu-at-9")
    assert nowhere.after.price_per_hour is None
    assert nowhere.after.plan.status == "impossible"
    assert nowhere.difference_per_hour is None
    precise = ask(endpoint, precision=endpoint.model.precisions[0])
    assert precise.after.price_per_hour == precise.before.price_per_hour


def test_a_price_that_is_known_already_can_be_looked_at(order, settle, ask):
    endpoint = settle(order())
    begins = timezone.now() + dt.timedelta(days=20)
    price_set(
        kind="gpu_hour", amount=Decimal("0.90"), currency="EUR", gpu_type="l4", region="eu-de-1",
        effective_from=begins,
    )  # fmt: skip
    price_set(kind="gpu_hour", amount=Decimal("0.90"), currency="EUR", gpu_type="l4", effective_from=begins)
    found = ask(endpoint, prices_at=begins)
    assert found.now.price_per_hour == Decimal("0.45")
    assert found.after.price_per_hour == Decimal("0.90")


def test_more_gpus_place_what_waits(order, tenant, estate, ask):
    NodePool.objects.update(reserve=1000)
    endpoint = order()
    assert fresh(endpoint).state != "ready"
    added = AddedGpus(cluster=estate.clusters["fi-a"], gpu_type=gpu("l4"), nodes=1)
    found = ask(endpoint, added=added)
    assert found.now is None
    assert found.before.plan.status == "no_capacity"
    assert found.after.plan.status == "placed"
    assert found.after.cluster == "fi-a"
    assert NodePool.objects.filter(cluster=estate.clusters["fi-a"]).count() == 1


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({}, None),
        ({"price_percent": Decimal(-101)}, "price_percent"),
        ({"prices_at": dt.datetime(1990, 1, 1, tzinfo=dt.UTC)}, "prices_at"),
    ],
)
def test_what_cannot_be_asked_is_refused(order, ask, changes, field):
    endpoint = order()
    with pytest.raises(Invalid) as refused:
        ask(endpoint, **changes)
    assert field is None or field in refused.value.errors


def test_gpus_of_which_nothing_is_known_are_refused(order, ask, estate):
    endpoint = order()
    unknown = GpuType.objects.create(name="a40", title="A40", memory_gib=48, bandwidth_gbs=696)
    with pytest.raises(Invalid, match="Nothing is known"):
        ask(endpoint, added=AddedGpus(cluster=estate.clusters["fi-a"], gpu_type=unknown, nodes=1))


class TestFleet:
    """Over all tenants, as operators ask."""

    @pytest.fixture
    def other(self, estate):
        tenant = make_tenant("other", gpus=8)

        def order(name="chat", **changes):
            with scope.tenant(tenant.id):
                return services.endpoint_order(
                    project=default_project(tenant), name=name, terms=estate.terms(**changes), actor="a test"
                )

        return order

    @pytest.fixture
    def ask(self):
        def ask(**changes):
            with scope.platform("a test"), CaptureQueriesContext(connection) as captured:
                found = fleet_what_if(changes=Changes(**changes))
            assert writes(captured) == []
            return found

        return ask

    def test_prices_are_summed_by_tenant(self, order, other, settle, ask):
        settle(order())
        settle(order("more", replicas=2))
        settle(other())
        found = ask(price_percent=Decimal(-50))
        by_tenant = {each.tenant.slug: each for each in found.tenants}
        assert {slug: each.endpoints for slug, each in by_tenant.items()} == {"acme": 2, "other": 1}
        assert by_tenant["acme"].difference == -Decimal("0.45") * 3 / 2
        assert by_tenant["other"].price_after == Decimal("0.45") / 2
        assert found.difference == -Decimal("0.45") * 2
        assert found.placeable == found.cheaper == []

    def test_a_delivery_places_who_waits_longest_as_far_as_it_reaches(self, order, other, estate, ask):
        NodePool.objects.update(reserve=1000)
        first, second = order("first", replicas=4), other("second", replicas=3)
        third, fourth = order("third", replicas=3), other("fourth", replicas=1)
        added = AddedGpus(cluster=estate.clusters["fi-a"], gpu_type=gpu("l4"), nodes=1)
        assert gpu_catalog()["l4"].gpus_per_node == 8
        found = ask(added=added)
        assert [each.endpoint for each in found.placeable] == [first, second, fourth], third
        assert {each.configuration.cluster for each in found.placeable} == {"fi-a"}
        assert found.still_waiting == 1
        with scope.platform("a test"):
            assert not Revision.objects.exists()
            assert not Reservation.objects.exists()

    def test_who_would_be_cheaper_on_the_new_gpus_is_told(self, order, settle, estate, tenant, ask):
        with scope.tenant(tenant.id):
            endpoint = settle(order(pins={"gpu": "h100_sxm"}))
            type(endpoint).objects.filter(id=endpoint.id).update(pins={})
        added = AddedGpus(cluster=estate.clusters["fi-a"], gpu_type=gpu("l4"), nodes=1)
        found = ask(added=added)
        (cheaper,) = found.cheaper
        assert cheaper.configuration.gpu == "l4"
        assert cheaper.saves_per_hour == found.saving > 0
        assert (found.placeable, found.still_waiting, found.not_planned) == ([], 0, 0)
