"""Costs on both bases, against numbers worked out by hand."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal

import pytest

from billing.costs import cost_summary, daily_costs
from billing.prices import price_book
from billing.rating.charges import allocation_charges
from billing.rating.prices import Subject
from billing.usage import usage_series
from tenants import scope
from tenants.services import project_create
from tests.billing.prices import hold, label, list_prices, price, utc
from tests.billing.usage import add_usage
from tests.factories import default_project, make_tenant

pytestmark = pytest.mark.django_db
MAY, JUNE = utc("2026-05-01"), utc("2026-06-01")
LATER = utc("2026-07-01")
D = Decimal


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


def summary(tenant, start=MAY, end=JUNE, now=LATER):
    with scope.tenant(tenant.id):
        return cost_summary(start=start, end=end, now=now)


def days(tenant, start, end, **more):
    with scope.tenant(tenant.id):
        return daily_costs(start=start, end=end, now=LATER, **more)


def test_nothing_costs_nothing(tenant):
    found = summary(tenant)
    assert found.total.allocation == found.total.usage == 0
    assert (found.projects, found.endpoints, found.idle_share, found.unpriced) == ((), (), None, ())
    assert found.total.allocation_per_million_tokens is None


def test_gpu_time_is_split_where_its_price_changes(tenant, project, chat):
    price("gpu_hour", "4.20", utc("2026-05-10T12:00"), gpu_type="h100_sxm")
    hold(project, chat, "2026-05-10T10:00", "2026-05-10T15:00", gpus=2)
    # 2 GPUs: 2 hours at 3.60, 3 hours at 4.20
    assert summary(tenant).total.allocation == D("39.60")
    assert summary(tenant).total.gpu_hours == 10


def test_sums_in_the_database_agree_with_rating_each_interval(tenant, project, chat):
    price("gpu_hour", "4.7777777777", utc("2026-05-10T12:00:00.123457"), region="de-1", gpu_type="h100_sxm")
    intervals = [
        ("2026-04-29T01:02:03", "2026-05-10T15:00:00.000001"),
        ("2026-05-03", "2026-06-03"),
        ("2026-05-31", None),
    ]
    for start, end in intervals:
        hold(project, chat, start, end, gpus=3)
    exact = sum(
        charge.exact
        for start, end in intervals
        for charge in allocation_charges(
            book=price_book("EUR"),
            start=max(utc(start), MAY),
            end=min(utc(end) if end else LATER, JUNE),
            gpus=3,
            subject=Subject(gpu_type="h100_sxm", region="de-1"),
        )
    )
    assert abs(summary(tenant).total.allocation - D(exact.numerator) / D(exact.denominator)) < D("0.000001")


def test_only_the_part_within_the_period_counts(tenant, project, chat):
    hold(project, chat, "2026-04-30T22:00", "2026-05-01T01:00")
    hold(project, chat, "2026-05-31T23:00", None)
    assert summary(tenant).total.allocation == D("7.20")
    assert summary(tenant, now=utc("2026-05-31T23:30")).total.allocation == D("5.40")
    assert summary(tenant, start=utc("2026-04-01"), end=MAY).total.allocation == D("7.20")


def test_tokens_cost_by_kind_with_cached_input_once(tenant, project, chat):
    counts = {"input_tokens": 3_000_000, "cached_tokens": 1_000_000, "output_tokens": 500_000}
    add_usage(project, at=utc("2026-05-03T09:30"), endpoint_id=chat, **counts)
    # 2 M at 0.50, 1 M at 0.10, 0.5 M at 1.50
    found = summary(tenant)
    assert found.total.usage == D("1.85")
    assert found.total.tokens == 3_500_000
    hold(project, chat, "2026-05-03T09:00", "2026-05-03T10:00")
    assert summary(tenant).total.allocation_per_million_tokens == D("3.60") / D("3.5")


def test_tokens_follow_the_price_of_their_hour(tenant, project, chat):
    price("output_tokens", "3.00", utc("2026-05-03T10:30"), model="guide")
    for at in ("2026-05-03T10:45", "2026-05-03T11:00", "2026-05-04T00:00"):
        add_usage(project, at=utc(at), endpoint_id=chat, output_tokens=1_000_000)
    assert summary(tenant).total.usage == D("7.50")  # the hour in which the price changed keeps the old one


def test_first_price_holds_for_the_hour_in_which_it_begins(project, chat, tenant):
    price("output_tokens", "2.00", utc("2026-05-03T10:30"), model="other")
    for at in ("2026-05-03T09:00", "2026-05-03T10:00", "2026-05-03T11:00"):
        add_usage(project, at=utc(at), endpoint_id=chat, model="other", output_tokens=1_000_000)
    found = summary(tenant)
    assert found.total.usage == D("4.00")
    assert found.unpriced == ("no output_tokens price for model other, slo_class standard",)


def test_class_with_a_price_of_its_own(tenant, project, chat):
    price("output_tokens", "0.75", model="guide", slo_class="batch")
    add_usage(project, at=MAY, endpoint_id=chat, slo_class="batch", output_tokens=2_000_000)
    assert summary(tenant).total.usage == D("1.50")


def test_gpus_without_a_price_are_named_and_count_as_nothing(tenant, project, chat):
    hold(project, chat, "2026-05-03T09:00", "2026-05-03T10:00", gpu_type="l40s")
    found = summary(tenant)
    assert found.total.allocation == 0
    assert found.total.gpu_hours == 1
    assert found.unpriced == ("no gpu_hour price for gpu_type l40s, region de-1",)


def test_usage_in_hours_and_whole_days_is_counted_once(tenant, project, chat):
    for hour in range(0, 96, 3):
        add_usage(project, at=MAY + dt.timedelta(hours=hour), endpoint_id=chat, output_tokens=1)
    for start, end in ((0, 96), (1, 95), (5, 7), (23, 25), (3, 48), (24, 72), (25, 47), (26.5, 73.5)):
        found = summary(tenant, MAY + dt.timedelta(hours=start), MAY + dt.timedelta(hours=end))
        assert found.total.output_tokens == sum(start <= hour < end for hour in range(0, 96, 3)), (start, end)


def test_projects_and_endpoints_sum_to_the_total(tenant, project, chat):
    with scope.tenant(tenant.id):
        research = project_create(name="Research", slug="research")
    search = label(research, "search", slo_class="batch")
    hold(project, chat, "2026-05-03T09:00", "2026-05-03T10:00")
    hold(research, search, "2026-05-03T09:00", "2026-05-03T12:00")
    add_usage(research, at=MAY, endpoint_id=search, output_tokens=1_000_000)
    found = summary(tenant)
    assert [(each.project, each.cost.allocation) for each in found.projects] == [
        ("Default", D("3.60")),
        ("Research", D("10.80")),
    ]
    assert [(each.endpoint, each.slo_class, each.cost.usage) for each in found.endpoints] == [
        ("chat", "standard", D("0")),
        ("search", "batch", D("1.50")),
    ]
    assert found.total.allocation == D("14.40")


def test_idle_share_is_gpu_time_in_hours_without_a_request(tenant, project, chat):
    hold(project, chat, "2026-05-03T09:30", "2026-05-03T13:30")
    hold(project, label(project, "unused"), "2026-05-03T09:00", "2026-05-03T10:00")
    add_usage(project, at=utc("2026-05-03T09:59"), endpoint_id=chat)
    add_usage(project, at=utc("2026-05-03T11:00"), endpoint_id=chat)
    # busy: half an hour and one hour of five
    assert summary(tenant).idle_share == D("0.7")


def test_daily_costs_cut_at_utc_midnight(tenant, project, chat):
    hold(project, chat, "2026-05-03T22:00", "2026-05-05T01:00")
    add_usage(project, at=utc("2026-05-04T12:00"), endpoint_id=chat, output_tokens=1_000_000)
    found = days(tenant, utc("2026-05-03"), utc("2026-05-07"))
    assert [(each.day.day, each.cost.allocation, each.cost.usage) for each in found] == [
        (3, D("7.20"), 0),
        (4, D("86.40"), D("1.50")),
        (5, D("3.60"), 0),
        (6, 0, 0),
    ]
    by_endpoint = days(tenant, utc("2026-05-03"), utc("2026-05-07"), group_by="endpoint")
    assert [(each.day.day, each.label) for each in by_endpoint] == [(3, "chat"), (4, "chat"), (5, "chat")]


def test_other_tenants_cost_is_not_seen(tenant, project, chat):
    other = default_project(make_tenant())
    hold(other, label(other, "theirs"), "2026-05-03T09:00", "2026-05-03T10:00")
    add_usage(other, at=MAY, endpoint_id=uuid.uuid4(), output_tokens=1_000_000)
    found = summary(tenant)
    assert found.total.allocation == found.total.usage == 0


def test_usage_series_by_hour_day_and_group(tenant, project, chat):
    add_usage(
        project,
        at=utc("2026-05-03T09:30"),
        endpoint_id=chat,
        output_tokens=5,
        ttft_ms=[0, 4],
        itl_ms=[0, 0, 4],
    )
    add_usage(project, at=utc("2026-05-03T09:40"), endpoint_id=chat, requests=2, outcome="failed")
    add_usage(project, at=utc("2026-05-03T11:00"), endpoint_id=uuid.uuid4(), output_tokens=7)
    with scope.tenant(tenant.id):
        hours = usage_series(start=MAY, end=JUNE)
        assert [(p.bucket.hour, p.requests, p.completed, p.output_tokens) for p in hours] == [
            (9, 3, 1, 5),
            (11, 1, 1, 7),
        ]
        assert hours[0].ttft_p50_ms == 7.5
        assert hours[0].itl_p50_ms == 5.0
        assert (hours[1].ttft_p50_ms, hours[1].itl_p95_ms) == (None, None)
        (day,) = usage_series(start=MAY, end=JUNE, bucket="day", group_by="project")
        assert (day.label, day.requests) == ("Default", 4)
        assert {p.label for p in usage_series(start=MAY, end=JUNE, group_by="endpoint")} >= {"chat"}
        (only,) = usage_series(start=MAY, end=JUNE, endpoint_id=chat)
        assert only.requests == 3
        assert usage_series(start=utc("2026-05-03T10:00"), end=utc("2026-05-03T11:00")) == []
        with pytest.raises(ValueError, match="fortnight"):
            usage_series(start=MAY, end=JUNE, bucket="fortnight")
