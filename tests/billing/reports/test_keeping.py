"""The reports' rows say what the hours, the usage and the prices say."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from fractions import Fraction

import pytest
from django.db.models import Sum
from hypothesis import given
from hypothesis import strategies as st

from billing.costs import cost_summary
from billing.models import (
    EndpointDay,
    EndpointMonth,
    HeldDay,
    HeldHour,
    ModelDay,
    ReportDay,
    UsageDay,
)
from billing.reports.keeping import day_make, reports_keep, shared_out
from tenants import scope
from tests.billing.reports.estate import CHAT, DAY_ONE, DAY_TWO, NOW, REVISIONS, report_estate
from tests.billing.usage import add_usage

SECONDS = ("queued", "loading", "serving", "idle", "draining", "held")


@pytest.fixture
def reported(db):
    return report_estate()


def sums(rows, *names) -> dict:
    return rows.aggregate(**{f"all_{name}": Sum(name) for name in names})


def test_days_models_and_months_sum_to_the_hours(reported):
    with scope.platform("look"):
        hours = sums(HeldHour.objects.all(), *SECONDS)
        costs = HeldHour.objects.aggregate(cost=Sum("cost"), idle=Sum("idle_cost"))
        for model in (EndpointDay, EndpointMonth, ModelDay):
            assert sums(model.objects.all(), *SECONDS) == hours, model
            found = model.objects.aggregate(cost=Sum("asset_cost"), idle=Sum("idle_asset_cost"))
            assert found == costs, model


def test_tokens_and_money_are_those_of_usage_and_costs(reported):
    start, end = dt.datetime(2026, 5, 1, tzinfo=dt.UTC), NOW
    names = ("requests", "input_tokens", "output_tokens", "cached_tokens")
    with scope.platform("look"):
        used = sums(UsageDay.objects.all(), *names)
        for model in (EndpointDay, EndpointMonth, ModelDay):
            assert sums(model.objects.all(), *names) == used, model
    for tenant in (reported.nord, reported.sued):
        with scope.tenant(tenant.id):
            charged = cost_summary(start=start, end=end, now=NOW).total.allocation
            for model in (EndpointDay, EndpointMonth):
                assert model.objects.aggregate(found=Sum("amount"))["found"] == charged > 0


def test_a_day_by_hand(reported):
    with scope.platform("look"):
        row = EndpointDay.objects.get(endpoint_id=CHAT, day=DAY_ONE)
    assert (row.serving, row.idle, row.held) == (7_200, 7_200, 14_400)
    assert (row.model, row.slo_class, row.currency) == ("guide", "interactive", reported.nord.currency)
    assert row.amount == 8  # 2 GPUs for 2 hours at 2
    assert row.asset_cost == 4
    assert (row.planned_seconds, row.planned_tokens) == (7_200, 360_000)


def test_making_a_day_again_changes_nothing(reported):
    def rows():
        return [
            sorted(map(repr, model.objects.values_list(*names)))
            for model, names in (
                (EndpointDay, ("day", "endpoint_id", "held", "amount", "asset_cost", "output_tokens")),
                (EndpointMonth, ("month", "endpoint_id", "held", "amount", "asset_cost", "output_tokens")),
                (ModelDay, ("day", "model", "gpu_type", "held", "amount", "output_tokens")),
            )
        ]

    with scope.platform("make a day again"):
        day_make(day=DAY_ONE, now=NOW)
        before = rows()
        day_make(day=DAY_ONE, now=NOW)
        assert rows() == before


def test_a_month_is_the_sum_of_its_days_alone(reported):
    with scope.platform("look"):
        months = {row.month: row.held for row in EndpointMonth.objects.filter(endpoint_id=CHAT)}
    assert months == {dt.date(2026, 5, 1): 14_400, dt.date(2026, 6, 1): 14_400}


def test_usage_of_a_recent_day_is_taken_up_at_the_next_look(reported):
    at = dt.datetime.combine(DAY_TWO, dt.time(10), tzinfo=dt.UTC)
    add_usage(
        reported.projects["nord"], at=at, endpoint_id=CHAT, revision_id=REVISIONS[CHAT], slo_class="interactive",
        requests=5, output_tokens=1,
    )  # fmt: skip
    reports_keep(now=NOW)
    with scope.platform("look"):
        assert EndpointDay.objects.get(endpoint_id=CHAT, day=DAY_TWO).requests == 15


def test_a_tenant_sees_its_own_days_only(reported):
    with scope.tenant(reported.sued.id):
        assert {row.tenant_id for row in EndpointDay.objects.all()} == {reported.sued.id}
        assert not ModelDay.objects.exists()


@given(
    amount=st.fractions(min_value=0, max_value=10**9),
    parts=st.lists(st.integers(min_value=0, max_value=10**9), min_size=1, max_size=20),
)
def test_shares_of_an_amount_sum_to_it(amount: Fraction, parts: list[int]):
    shares = shared_out(amount, [Fraction(part) for part in parts])
    if sum(parts):
        assert abs(Fraction(sum(shares)) - amount) <= Fraction(1, 2 * 10**15)
        assert all(share > -(Decimal(10) ** -13) for share in shares)
    else:
        assert not any(shares)


def test_what_was_made_and_changed_since_is_due(reported):
    def due() -> int:
        return reports_keep(now=NOW + dt.timedelta(days=20))

    due()  # the recent days themselves
    with scope.platform("look"):
        ReportDay.objects.update(kept_at=NOW + dt.timedelta(days=1000))
    assert due() == 2
    with scope.platform("a late hour"):
        HeldDay.objects.filter(endpoint_id=CHAT, bucket__date=DAY_ONE).update(serving=14_400, idle=0)
    assert due() == 3
    with scope.platform("look"):
        assert EndpointDay.objects.get(endpoint_id=CHAT, day=DAY_ONE).serving == 14_400
        ReportDay.objects.update(kept_at=NOW + dt.timedelta(days=1000))
        ReportDay.objects.filter(day=DAY_TWO).update(kept_at=NOW - dt.timedelta(days=1000))
    assert due() == 3


def test_parts_of_gpus_count_as_their_share_of_a_whole_one(reported):
    with scope.platform("look"):
        HeldDay.objects.filter(endpoint_id=CHAT).update(share=Decimal("0.5"))
        day_make(day=DAY_ONE, now=NOW)
        row = EndpointDay.objects.get(endpoint_id=CHAT, day=DAY_ONE)
    assert (row.serving, row.held, row.amount) == (3_600, 7_200, 8)
