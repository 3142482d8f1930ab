"""GPU time split over the keys and routes that used it: by tokens at the price book, day by day, idle apart."""

from __future__ import annotations

import uuid
from decimal import Decimal
from fractions import Fraction

import pytest

from billing.buckets import Width
from billing.costs import Dimension, Narrow, cost_series
from tenants import scope
from tests.billing.held import held_hour
from tests.billing.prices import hold, label, list_prices, price, utc
from tests.billing.usage import add_usage
from tests.factories import default_project, make_tenant

pytestmark = pytest.mark.django_db
D = Decimal
ONE, TWO, THREE = (uuid.UUID(int=number) for number in (1, 2, 3))
START, END = utc("2026-05-01"), utc("2026-06-01")


@pytest.fixture
def tenant():
    list_prices()
    return make_tenant()


@pytest.fixture
def project(tenant):
    return default_project(tenant)


@pytest.fixture
def chat(project):
    return label(project, "chat")


def costs(tenant, *by, narrow=None, start=START, end=END, **more):
    with scope.tenant(tenant.id):
        return cost_series(
            start=start, end=end, group_by=by, narrow=Narrow.of(narrow or {}), now=utc("2026-07-01"), **more
        )


def by_key(found) -> dict[str, Decimal]:
    return {each.group[0]: each.cost.allocation for each in found.whole}


def test_each_day_is_split_by_what_its_tokens_cost(tenant, project, chat):
    hold(project, chat, "2026-05-03", "2026-05-05")  # 86.40 a day
    add_usage(
        project, at=utc("2026-05-03T09:00"), endpoint_id=chat, key_id=ONE, input_tokens=3_000_000
    )  # 1.50
    add_usage(
        project, at=utc("2026-05-03T10:00"), endpoint_id=chat, key_id=TWO, output_tokens=1_000_000
    )  # 1.50
    add_usage(
        project, at=utc("2026-05-04T10:00"), endpoint_id=chat, key_id=TWO, cached_tokens=10, input_tokens=10
    )
    assert by_key(costs(tenant, Dimension.KEY)) == {str(ONE): D("43.20"), str(TWO): D("129.60")}


def test_by_tokens_where_nothing_has_a_price_and_by_requests_where_there_are_no_tokens(tenant, project, chat):
    hold(project, chat, "2026-05-03", "2026-05-05")
    unpriced = {"model": "unlisted", "endpoint_id": chat}
    add_usage(project, at=utc("2026-05-03T09:00"), key_id=ONE, output_tokens=300, **unpriced)
    add_usage(project, at=utc("2026-05-03T09:00"), key_id=TWO, input_tokens=100, **unpriced)
    add_usage(project, at=utc("2026-05-04T09:00"), key_id=ONE, requests=1, outcome="failed", **unpriced)
    add_usage(project, at=utc("2026-05-04T09:00"), key_id=TWO, requests=3, outcome="failed", **unpriced)
    assert by_key(costs(tenant, Dimension.KEY)) == {str(ONE): D("86.40"), str(TWO): D("86.40")}


def test_idle_hours_and_days_without_a_request_are_nobodys(tenant, project, chat):
    hold(project, chat, "2026-05-03T22:00", "2026-05-04T02:00")
    held_hour(project, chat, utc("2026-05-03T22:00"), serving=3600)
    held_hour(project, chat, utc("2026-05-03T23:00"), idle=3600)
    add_usage(project, at=utc("2026-05-03T22:10"), endpoint_id=chat, key_id=ONE, output_tokens=10)
    found = costs(tenant, Dimension.KEY)
    assert by_key(found) == {str(ONE): D("3.60"), "": D("10.80")}
    assert {each.label: each.cost.idle for each in found.whole} == {str(ONE): 0, "(no key: idle)": D("10.80")}
    assert by_key(costs(tenant, Dimension.KEY, narrow={Dimension.KEY: [ONE]})) == {str(ONE): D("3.60")}


def test_a_share_is_the_same_in_whatever_buckets_it_is_asked_for(tenant, project, chat):
    price("gpu_hour", "7.77", utc("2026-05-04T10:30"), gpu_type="h100_sxm")
    price("output_tokens", "9.99", utc("2026-05-04T11:30"), model="guide")
    hold(project, chat, "2026-05-01T05:00:00.000001", "2026-05-09T17:31", gpus=3)
    hold(project, chat, "2026-05-02", "2026-05-04", gpus=1, gpu_type="l4")
    for day, key, tokens in (
        (1, ONE, 7),
        (1, TWO, 11),
        (3, THREE, 13),
        (4, ONE, 17),
        (5, ONE, 19),
        (5, TWO, 23),
    ):
        add_usage(
            project, at=utc(f"2026-05-0{day}T09:00"), endpoint_id=chat, key_id=key, output_tokens=tokens
        )
    whole = by_key(costs(tenant, Dimension.KEY))
    for width in (Width.DAY, Width.MONTH):
        found = costs(tenant, Dimension.KEY, width=width)
        for key, amount in whole.items():
            told = sum(each.cost.allocation for each in found.groups if each.group == (key,))
            assert abs(told - amount) <= D("0.00001"), (width, key)


def test_shares_sum_to_the_whole_exactly(tenant, project, chat):
    hold(project, chat, "2026-05-01T05:00:00.000001", "2026-05-09T17:31", gpus=3)
    held_hour(project, chat, utc("2026-05-02T03:00"), idle=10800)
    for day in range(1, 9):
        for key in (ONE, TWO, THREE):
            add_usage(
                project,
                at=utc(f"2026-05-0{day}T09:00"),
                endpoint_id=chat,
                key_id=key,
                output_tokens=key.int * 7 + day,
            )
    whole, parts = costs(tenant).total, costs(tenant, Dimension.KEY)
    assert parts.total.allocation == whole.allocation
    assert parts.total.gpu_hours == whole.gpu_hours
    seconds = sum(Fraction(each.cost.gpu_hours) for each in parts.whole)
    assert abs(seconds - Fraction(whole.gpu_hours)) <= Fraction(len(parts.whole), 10**6)


def test_by_route_and_by_key_and_route(tenant, project, chat):
    route = uuid.UUID(int=9)
    hold(project, chat, "2026-05-03", "2026-05-04")
    add_usage(
        project, at=utc("2026-05-03T09:00"), endpoint_id=chat, key_id=ONE, output_tokens=30, route_id=route
    )
    add_usage(project, at=utc("2026-05-03T09:00"), endpoint_id=chat, key_id=ONE, output_tokens=10)
    assert by_key(costs(tenant, Dimension.ROUTE)) == {str(route): D("64.80"), "": D("21.60")}
    both = costs(tenant, Dimension.KEY, Dimension.ROUTE)
    assert {each.group: each.cost.allocation for each in both.whole} == {
        (str(ONE), str(route)): D("64.80"),
        (str(ONE), ""): D("21.60"),
    }
    narrowed = costs(tenant, Dimension.ENDPOINT, narrow={Dimension.ROUTE: [route]})
    assert [(each.label, each.cost.allocation) for each in narrowed.whole] == [("chat", D("64.80"))]
