"""Costs on both bases, against numbers worked out by hand."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal

import pytest

from billing.buckets import Width
from billing.costs import Dimension, cost_series, cost_summary, narrow_to
from billing.prices import price_book
from billing.rating.charges import allocation_charges
from billing.rating.prices import Subject
from billing.usage import usage_series
from tenants import scope
from tenants.errors import NotFound
from tenants.services import project_create
from tests.billing.held import held_hour
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


def series(tenant, start=MAY, end=JUNE, now=LATER, narrow=None, **more):
    with scope.tenant(tenant.id):
        return cost_series(start=start, end=end, now=now, narrow=narrow_to(narrow or {}), **more)


def test_nothing_costs_nothing(tenant):
    found = summary(tenant)
    assert found.total.allocation == found.total.usage == 0
    assert (found.groups, found.whole, found.total.idle_share, found.unpriced) == ((), (), None, ())
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
    assert [(each.labels, each.cost.allocation, each.cost.usage) for each in found.whole] == [
        (("Research", "search"), D("10.80"), D("1.50")),
        (("Default", "chat"), D("3.60"), 0),
    ]
    assert found.total.allocation == D("14.40")
    by_class = series(tenant, group_by=[Dimension.SLO_CLASS, Dimension.MODEL])
    assert [(each.group, each.cost.allocation) for each in by_class.whole] == [
        (("batch", "guide"), D("10.80")),
        (("standard", "guide"), D("3.60")),
    ]


def test_cost_per_million_tokens_and_per_request_on_both_bases(tenant, project, chat):
    hold(project, chat, "2026-05-03T09:00", "2026-05-03T10:00")
    add_usage(project, at=utc("2026-05-03T09:30"), endpoint_id=chat, output_tokens=2_000_000, requests=4)
    cost = summary(tenant).total
    assert (cost.allocation_per_million_tokens, cost.usage_per_million_tokens) == (D("1.80"), D("1.50"))
    assert (cost.allocation_per_request, cost.usage_per_request) == (D("0.90"), D("0.75"))


def test_idle_is_gpu_time_in_hours_without_a_request(tenant, project, chat):
    hold(project, chat, "2026-05-03T09:30", "2026-05-03T13:30", gpus=2)
    held_hour(project, chat, utc("2026-05-03T09:30"), serving=3600)
    held_hour(project, chat, utc("2026-05-03T10:00"), idle=7200)
    held_hour(project, chat, utc("2026-05-03T11:00"), serving=7200)
    held_hour(project, chat, utc("2026-05-03T12:00"), idle=7200)
    held_hour(project, chat, utc("2026-05-03T13:00"), serving=3600)
    cost = summary(tenant).total
    assert (cost.gpu_hours, cost.idle_gpu_hours, cost.idle_share) == (8, 4, D("0.5"))
    assert (cost.allocation, cost.idle) == (D("28.80"), D("14.40"))
    by_hour = series(tenant, utc("2026-05-03T10:00"), utc("2026-05-03T12:00"), width=Width.HOUR)
    assert [each.cost.idle for each in by_hour.groups] == [D("7.20"), 0]


def test_days_are_cut_at_utc_midnight(tenant, project, chat):
    hold(project, chat, "2026-05-03T22:00", "2026-05-05T01:00")
    add_usage(project, at=utc("2026-05-04T12:00"), endpoint_id=chat, output_tokens=1_000_000)
    found = series(tenant, utc("2026-05-03"), utc("2026-05-07"), width=Width.DAY)
    assert [(each.start.day, each.cost.allocation, each.cost.usage) for each in found.groups] == [
        (3, D("7.20"), 0),
        (4, D("86.40"), D("1.50")),
        (5, D("3.60"), 0),
    ]
    assert len(found.intervals) == 4
    by_endpoint = series(
        tenant, utc("2026-05-03"), utc("2026-05-07"), width=Width.DAY, group_by=[Dimension.ENDPOINT]
    )
    assert [(each.start.day, each.label) for each in by_endpoint.groups] == [
        (3, "chat"), (4, "chat"), (5, "chat"),
    ]  # fmt: skip


def test_months_are_those_of_the_tenants_zone_also_when_clocks_change():
    list_prices()
    tenant = make_tenant(time_zone="Europe/Berlin")
    project = default_project(tenant)
    chat = label(project, "chat")
    hold(project, chat, "2026-02-28T22:00", "2026-04-01")
    # March in Berlin: from 23:00 UTC of the 28th to 22:00 UTC of the 31st, 743 hours.
    found = series(tenant, utc("2026-02-28T22:00"), utc("2026-04-01"), width=Width.MONTH)
    assert [each.cost.gpu_hours for each in found.groups] == [1, 743, 2]
    for hour in ("2026-02-28T22:30", "2026-02-28T23:30", "2026-03-31T21:59", "2026-03-31T22:00"):
        add_usage(project, at=utc(hour), endpoint_id=chat)
    found = series(tenant, utc("2026-02-28T22:00"), utc("2026-04-01"), width=Width.MONTH)
    assert [each.cost.requests for each in found.groups] == [1, 2, 1]


def test_filters_narrow_every_dimension(tenant, project, chat):
    with scope.tenant(tenant.id):
        research = project_create(name="Research", slug="research")
    search = label(research, "search", model="other", slo_class="batch")
    hold(project, chat, "2026-05-03T09:00", "2026-05-03T10:00")
    hold(research, search, "2026-05-03T09:00", "2026-05-03T11:00", region="fi-1")
    add_usage(project, at=MAY, endpoint_id=chat, requests=1, route_id=uuid.UUID(int=9))
    add_usage(
        research, at=MAY, endpoint_id=search, requests=2, model="other", slo_class="batch", region="fi-1"
    )
    for narrow, gpu_hours, requests in (
        ({Dimension.PROJECT: [project.id]}, 1, 1),
        ({Dimension.PROJECT: [project.id, research.id]}, 3, 3),
        ({Dimension.ENDPOINT: [search]}, 2, 2),
        ({Dimension.MODEL: ["other"]}, 2, 2),
        ({Dimension.SLO_CLASS: ["standard"]}, 1, 1),
        ({Dimension.REGION: ["fi-1"]}, 2, 2),
        ({Dimension.MODEL: ["other"], Dimension.SLO_CLASS: ["standard"]}, 0, 0),
    ):
        found = series(tenant, narrow=narrow).total
        assert (found.gpu_hours, found.requests) == (gpu_hours, requests), narrow
    assert series(tenant, narrow={Dimension.ROUTE: [uuid.UUID(int=9)]}).total.requests == 1


def test_what_another_tenant_has_is_not_found(tenant, project):
    other = default_project(make_tenant())
    theirs = label(other, "theirs")
    for narrow in (
        {Dimension.PROJECT: [other.id]},
        {Dimension.ENDPOINT: [theirs]},
        {Dimension.KEY: [theirs]},
    ):
        with pytest.raises(NotFound, match="There is no"):
            series(tenant, narrow=narrow)


def test_however_long_and_however_it_is_cut_a_period_is_read_in_few_statements(
    tenant, project, chat, django_assert_max_num_queries
):
    for month in range(1, 6):
        add_usage(project, at=utc(f"2026-0{month}-03T09:00"), endpoint_id=chat, key_id=uuid.UUID(int=month))
        hold(project, label(project, f"endpoint-{month}"), f"2026-0{month}-01", f"2026-0{month}-09")
    with django_assert_max_num_queries(14):
        series(tenant, utc("2026-01-01"), width=Width.DAY, group_by=[Dimension.ENDPOINT])
    with django_assert_max_num_queries(16):
        series(tenant, utc("2026-01-01"), width=Width.MONTH, group_by=[Dimension.KEY, Dimension.ENDPOINT])


def test_other_tenants_cost_is_not_seen(tenant, project, chat):
    other = default_project(make_tenant())
    hold(other, label(other, "theirs"), "2026-05-03T09:00", "2026-05-03T10:00")
    add_usage(other, at=MAY, endpoint_id=uuid.uuid4(), output_tokens=1_000_000)
    found = summary(tenant)
    assert found.total.allocation == found.total.usage == 0


def test_usage_by_hour_day_and_group(tenant, project, chat):
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
        hours = usage_series(start=MAY, end=JUNE, latency=True)
        assert [(p.start.hour, p.requests, p.completed, p.failed, p.output_tokens) for p in hours] == [
            (9, 3, 1, 2, 5),
            (11, 1, 1, 0, 7),
        ]
        assert hours[0].ttft_p50_ms == 7.5
        assert hours[0].itl_p50_ms == 5.0
        assert (hours[1].ttft_p50_ms, hours[1].itl_p95_ms) == (None, None)
        (day,) = usage_series(start=MAY, end=JUNE, width=Width.DAY, group_by=[Dimension.PROJECT])
        assert (day.labels, day.requests, day.ttft_p50_ms) == (("Default",), 4, None)
        by_both = usage_series(start=MAY, end=JUNE, group_by=[Dimension.ENDPOINT, Dimension.MODEL])
        assert {p.labels for p in by_both} >= {("chat", "guide")}
        (only,) = usage_series(start=MAY, end=JUNE, narrow=narrow_to({Dimension.ENDPOINT: [chat]}))
        assert only.requests == 3
        assert usage_series(start=utc("2026-05-03T10:00"), end=utc("2026-05-03T11:00")) == []


@pytest.mark.parametrize("moved", [False, True], ids=["one project", "moved to another project"])
def test_a_sum_over_endpoints_is_the_sum_of_each_by_itself(tenant, project, chat, moved):
    with scope.tenant(tenant.id):
        research = project_create(name="Research", slug="research")
    price("gpu_hour", "7.77", utc("2026-05-04T10:00"), gpu_type="h100_sxm")
    other = label(project, "other")
    hold(project, chat, "2026-04-28T09:17:03.000001", "2026-05-03T00:00", gpus=3)
    hold(research if moved else project, chat, "2026-05-02T00:00", "2026-06-09T00:00")
    hold(project, other, "2026-05-04T10:10", "2026-05-04T10:20")
    hold(research, label(research, "third"), "2026-05-31T23:59:59", None)
    for day in (1, 4, 20):
        held_hour(project, chat, utc(f"2026-05-{day:02}T08:00"), idle=3600)
    held_hour(project, other, utc("2026-05-04T10:00"), idle=600)
    # The hour amid which a period begins or ends is idle for as long as the GPU was held within it.
    for start, end in ((MAY, JUNE), (MAY, utc("2026-05-20T08:30")), (utc("2026-05-04T10:15"), JUNE)):
        for by in ((), (Dimension.PROJECT,), (Dimension.REGION,)):
            for width in (None, Width.DAY, Width.MONTH):
                found = series(tenant, start, end, width=width, group_by=by)
                apart = series(tenant, start, end, width=width, group_by=(*by, Dimension.ENDPOINT))
                assert found.total == apart.total
                for each in found.groups:
                    parts = [
                        part
                        for part in apart.groups
                        if (part.start, part.group[: len(by)]) == (each.start, each.group)
                    ]
                    for name in ("held", "idle", "time", "unheld", "charged_time"):
                        assert getattr(each.sums, name) == sum(getattr(part.sums, name) for part in parts)
