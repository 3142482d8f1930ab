"""Windows of budgets by the calendar of their zone, and amounts that never lose a digit."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract import BudgetPeriod, BudgetUnit, budget_window, from_units, to_units

ZONES = sorted(zoneinfo.available_timezones())
MOMENTS = st.datetimes(
    min_value=dt.datetime(1975, 1, 1), max_value=dt.datetime(2060, 1, 1), timezones=st.just(dt.UTC)
)


@given(period=st.sampled_from(BudgetPeriod), zone=st.sampled_from(ZONES), moment=MOMENTS)
def test_windows_of_all_zones_follow_each_other_without_gap_or_overlap(
    period: BudgetPeriod, zone: str, moment: dt.datetime
) -> None:
    begin, end = budget_window(period, zone, moment)

    assert begin <= moment < end
    assert budget_window(period, zone, begin) == (begin, end)
    assert budget_window(period, zone, end - dt.timedelta(microseconds=1)) == (begin, end)
    assert budget_window(period, zone, end)[0] == end


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29T12:00", 23),
        ("Europe/Berlin", "2026-10-25T12:00", 25),
        ("America/Sao_Paulo", "2018-11-04T15:00", 23),  # no midnight: the day begins at one
        ("America/St_Johns", "2010-11-06T15:00", 24),  # put back at a minute past midnight
        ("America/St_Johns", "2010-11-07T15:00", 25),
        ("Pacific/Apia", "2011-12-29T15:00", 24),  # the next day was left out
        ("UTC", "2028-02-29T12:00", 24),
    ],
)
def test_days_on_which_clocks_are_changed(zone: str, day: str, hours: int) -> None:
    moment = dt.datetime.fromisoformat(day).replace(tzinfo=zoneinfo.ZoneInfo(zone))

    begin, end = budget_window(BudgetPeriod.DAY, zone, moment)

    assert end - begin == dt.timedelta(hours=hours)


def test_while_clocks_are_put_back_over_midnight_every_minute_has_one_window() -> None:
    first = dt.datetime(2010, 11, 7, 1, tzinfo=dt.UTC)
    for minute in range(240):
        moment = first + dt.timedelta(minutes=minute)
        begin, end = budget_window(BudgetPeriod.DAY, "America/St_Johns", moment)
        assert begin <= moment < end


def test_weeks_begin_on_monday_and_months_on_the_first() -> None:
    moment = dt.datetime(2026, 5, 31, 22, 30, tzinfo=dt.UTC)  # 1 June in Berlin, a Monday

    week = budget_window(BudgetPeriod.WEEK, "Europe/Berlin", moment)
    month = budget_window(BudgetPeriod.MONTH, "Europe/Berlin", moment)

    assert week[0] == month[0] == dt.datetime(2026, 5, 31, 22, tzinfo=dt.UTC)
    assert week[1] - week[0] == dt.timedelta(days=7)
    assert month[1] == dt.datetime(2026, 6, 30, 22, tzinfo=dt.UTC)
    assert budget_window(BudgetPeriod.MONTH, "UTC", moment)[0].month == 5


@given(units=st.integers(0, 10**28))
def test_amounts_pass_the_wire_unchanged(units: int) -> None:
    for unit in BudgetUnit:
        assert to_units(from_units(units, unit), unit) == units
    assert Decimal(from_units(units, BudgetUnit.MONEY)) * 10**16 == Decimal(units)


@given(price=st.decimals(min_value=0, max_value=10**9, places=10), tokens=st.integers(0, 10**7))
def test_tokens_times_price_is_a_whole_number_of_units(price: Decimal, tokens: int) -> None:
    units = to_units(f"{price:f}", BudgetUnit.MONEY)

    assert units % 1_000_000 == 0
    exact = from_units(units // 1_000_000 * tokens, BudgetUnit.MONEY)
    assert Decimal(exact) == Decimal(f"{price:f}") * tokens / 1_000_000


@pytest.mark.parametrize("amount", ["1.5", "NaN", "Infinity", "one", "", "0.00000000000000001"])
def test_what_is_no_whole_amount_is_refused(amount: str) -> None:
    with pytest.raises(ValueError, match="no amount"):
        to_units(amount, BudgetUnit.TOKENS)
