"""Forecasts: what runs goes on; requests go on as their days did, by weekday once two weeks are known."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.budgets.forecast import Flow, Method, forecast_running, forecast_usage
from gateway import contract
from tests.billing.prices import utc

NOW = utc("2026-05-20 12:00")  # a Wednesday
END = utc("2026-06-01")
HOUR = dt.timedelta(hours=1)


def usage(days, *, settled: str = "0", limit: str = "1000", now=NOW, end=END, time_zone: str = "UTC"):
    return forecast_usage(
        settled=Decimal(settled), days=list(map(Decimal, days)), limit=Decimal(limit), now=now, end=end,
        time_zone=time_zone,
    )  # fmt: skip


def test_what_runs_goes_on_and_what_is_reserved_is_the_other_end():
    flows = [Flow(NOW, NOW + 10 * HOUR, Decimal(20)), Flow(NOW, NOW + 10 * HOUR, Decimal(10))]
    found = forecast_running(
        settled=Decimal(5), reserved=Decimal(24), running=flows, limit=Decimal(17), now=NOW
    )
    assert (found.expected, found.low, found.high) == (35, 29, 35)
    assert found.reached_at == NOW + 4 * HOUR
    assert found.method == Method.RUNNING


def test_a_price_change_ahead_moves_when_the_limit_is_reached():
    flows = [Flow(NOW, NOW + HOUR, Decimal(1)), Flow(NOW + HOUR, NOW + 2 * HOUR, Decimal(4))]
    found = forecast_running(
        settled=Decimal(0), reserved=Decimal(5), running=flows, limit=Decimal(3), now=NOW
    )
    assert found.reached_at == NOW + 1.5 * HOUR


@pytest.mark.parametrize("days", [[], [0] * 28, [0] * 26 + [5, 5]])
def test_too_few_days_are_said_to_be_too_few(days):
    found = usage(days)
    assert (found.expected, found.low, found.high, found.method) == (None, None, None, Method.NONE)
    assert "Not enough history" in found.note


def test_even_days_go_on_evenly_and_leave_no_doubt():
    found = usage([0] * 10 + [10] * 5, settled="200", limit="255")
    assert found.expected == 200 + Decimal("11.5") * 10
    assert found.low == found.high == found.expected
    assert found.reached_at == utc("2026-05-26 00:00")
    assert found.method == Method.DAYS


def test_from_two_weeks_on_each_weekday_has_a_mean_of_its_own():
    weekdays = [(NOW.date() - dt.timedelta(days=back)).weekday() for back in range(28, 0, -1)]
    days = [100 if weekday < 5 else 0 for weekday in weekdays]
    days[0] = 100
    found = usage(days)
    # Half of Wednesday, Thursday, Friday, a week, and no weekend.
    assert found.expected == 50 + 200 + 500
    assert found.method == Method.WEEKDAYS
    assert usage(days[-13:]).method == Method.DAYS


def test_days_that_differ_leave_room_for_doubt():
    found = usage([5, 15] * 5, settled="100")
    assert found.low < found.expected < found.high
    assert found.high - found.expected == pytest.approx(Decimal("1.2816") * 5 * Decimal("11.5").sqrt())
    assert usage([1, 199] * 5, settled="90", end=NOW + 12 * HOUR).low == 90


def test_a_limit_that_is_spent_is_reached_now():
    assert usage([10] * 5, settled="1000").reached_at == NOW
    assert usage([], settled="1000").reached_at == NOW


@settings(max_examples=200, deadline=None)
@given(
    zone=st.sampled_from(sorted(zoneinfo.available_timezones())),
    period=st.sampled_from(list(contract.BudgetPeriod)),
    minutes=st.integers(0, 366 * 24 * 60),
    days=st.lists(st.integers(1, 10**6), min_size=3, max_size=28),
    settled=st.integers(0, 10**7),
)
def test_in_every_zone_and_over_every_clock_change_what_is_left_is_told(zone, period, minutes, days, settled):
    """A day's mean for each day that is left: of 23 hours or 25, one day is one day."""
    now = utc("2026-01-01") + dt.timedelta(minutes=minutes)
    start, end = contract.budget_window(period, zone, now)
    found = usage(days, settled=str(settled), limit=str(10**9), now=now, end=end, time_zone=zone)
    assert settled <= found.low <= found.expected <= found.high
    mean_at_most, mean_at_least = max(days), min(days)
    left = (end - now) / dt.timedelta(days=1)
    ahead = float(found.expected - settled)
    assert mean_at_least * (left * 0.95 - 0.1) <= ahead + 1e-6
    assert ahead <= mean_at_most * (left * 1.05 + 0.1) + 1e-6
    assert start <= now < end
