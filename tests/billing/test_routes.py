"""Usage by named route: kept apart in every rollup, and what a route saved."""

from __future__ import annotations

import uuid
from decimal import Decimal

import pytest

from billing.metering.ingest import ingest
from billing.models import UsageDay, UsageHour
from billing.routes import route_costs
from tenants import scope
from tests.billing.prices import label, list_prices, price, utc
from tests.billing.usage import NOW, add_usage, batch, roll_up_until, segment
from tests.factories import default_project, make_tenant

MAY, JUNE = utc("2026-05-01"), utc("2026-06-01")
ROUTE, OTHER = uuid.UUID(int=70), uuid.UUID(int=71)
MILLION = 1_000_000


def test_equal_usage_adds_up_by_route_and_without_one_as_before(committed_db):
    tenant = make_tenant()
    routes = [None, None, str(ROUTE), str(ROUTE), str(OTHER)]
    first, second = routes[:3], routes[3:]
    sequence = iter(range(1, 6))
    for some in (first, second):
        ingest(batch=batch(*(segment(tenant, next(sequence), route_id=each) for each in some)), now=NOW)
        roll_up_until(tenant, 9 if some is first else 15)
    with scope.tenant(tenant.id):
        for model in (UsageHour, UsageDay):
            rows = dict(model.objects.values_list("route_id", "requests"))
            assert rows == {None: 6, ROUTE: 6, OTHER: 3}


@pytest.mark.django_db
def test_a_route_that_is_no_uuid_is_refused():
    tenant = make_tenant()
    receipt = ingest(batch=batch(segment(tenant, 1, route_id="x"), segment(tenant, 2)), now=NOW)
    assert (receipt.inserted, [each.reason for each in receipt.refused]) == (1, ["'x' is not a UUID"])


@pytest.fixture
def project(db):
    list_prices()
    price("input_tokens", "5.00", model="large")
    price("output_tokens", "15.00", model="large")
    return default_project(make_tenant())


def costs(project, *targets: uuid.UUID):
    with scope.tenant(project.tenant_id):
        return route_costs(route_id=ROUTE, targets=targets, start=MAY, end=JUNE)


def test_the_saving_is_against_the_dearest_target(project):
    small, large = label(project, "small"), label(project, "large", model="large")
    at = utc("2026-05-10T10:00")
    add_usage(project, at=at, endpoint_id=small, route_id=ROUTE, requests=3, input_tokens=2 * MILLION)
    add_usage(
        project, at=at, endpoint_id=large, route_id=ROUTE, model="large", requests=1, input_tokens=MILLION,
        output_tokens=MILLION,
    )  # fmt: skip
    add_usage(project, at=at, endpoint_id=small, route_id=OTHER, input_tokens=9 * MILLION)
    found = costs(project, small, large)
    assert found.total.usage == Decimal("21")  # 2 x 0.50 + 5 + 15
    assert [each.all_here for each in found.targets] == [Decimal("3.00"), Decimal("30.00")]
    assert (found.dearest, found.saving) == (large, Decimal("9"))
    assert [each.request_share for each in found.targets] == [Decimal("0.75"), Decimal("0.25")]
    assert [each.token_share for each in found.targets] == [Decimal("0.5"), Decimal("0.5")]


def test_a_target_of_old_is_told_and_one_without_prices_is_not_the_dearest(project):
    small, old = label(project, "small"), label(project, "old")
    unpriced = label(project, "unpriced", model="nobody")
    add_usage(project, at=utc("2026-05-10"), endpoint_id=old, route_id=ROUTE, input_tokens=MILLION)
    found = costs(project, small, unpriced)
    assert [each.endpoint for each in found.targets] == ["small", "unpriced", "old"]
    assert [each.all_here for each in found.targets] == [Decimal("0.50"), None, Decimal("0.50")]
    assert found.saving == 0


def test_without_usage_there_is_nothing_to_share_or_save(project):
    found = costs(project, label(project, "small"))
    assert (found.dearest, found.saving, found.targets[0].request_share) == (None, None, None)


def test_another_tenants_route_is_empty(project):
    small = label(project, "small")
    add_usage(project, at=utc("2026-05-10"), endpoint_id=small, route_id=ROUTE, input_tokens=MILLION)
    assert costs(default_project(make_tenant()), small).total.requests == 0
