"""Months of a tenant's zone as half-open intervals of UTC."""

from __future__ import annotations

import datetime as dt
import itertools
import zoneinfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.rating.periods import PeriodError, month_containing, month_of

HOUR = dt.timedelta(hours=1)
ZONES = sorted(zoneinfo.available_timezones())


def utc(*parts: int) -> dt.datetime:
    return dt.datetime(*parts, tzinfo=dt.UTC)  # type: ignore[arg-type, misc]


def test_month_with_a_short_day_and_one_with_a_long_day() -> None:
    march, october = month_of(2026, 3, "Europe/Berlin"), month_of(2026, 10, "Europe/Berlin")
    assert (march.start, march.end) == (utc(2026, 2, 28, 23), utc(2026, 3, 31, 22))
    assert march.end - march.start == 31 * 24 * HOUR - HOUR
    assert october.end - october.start == 31 * 24 * HOUR + HOUR


def test_leap_february() -> None:
    february = month_of(2028, 2, "America/New_York")
    assert (february.start, february.end) == (utc(2028, 2, 1, 5), utc(2028, 3, 1, 5))
    assert str(february) == "2028-02"


def test_midnight_that_clocks_skip_is_the_instant_of_the_change() -> None:
    # In Paraguay clocks went from 23:59:59 on 30 September 2023 to 01:00 on 1 October.
    october = month_of(2023, 10, "America/Asuncion")
    assert october.start == utc(2023, 10, 1, 4)
    assert october.start.astimezone(zoneinfo.ZoneInfo("America/Asuncion")).hour == 1


def test_first_instant_is_in_and_last_is_not() -> None:
    period = month_of(2026, 5, "Asia/Kathmandu")
    assert period.contains(period.start)
    assert period.contains(period.end - dt.timedelta(microseconds=1))
    assert not period.contains(period.end)
    assert not period.contains(period.start - dt.timedelta(microseconds=1))


def test_utc_days_tile_the_period_with_parts_at_its_ends() -> None:
    period = month_of(2026, 3, "Europe/Berlin")
    days = list(period.utc_days())
    assert (days[0].start, days[-1].end) == (period.start, period.end)
    assert (days[0].date, days[0].end - days[0].start) == (dt.date(2026, 2, 28), HOUR)
    assert (days[-1].date, days[-1].end - days[-1].start) == (dt.date(2026, 3, 31), 22 * HOUR)
    assert all(one.end == two.start for one, two in itertools.pairwise(days))
    assert len({day.date for day in days}) == len(days) == 32


def test_overlap_is_the_common_part() -> None:
    period = month_of(2026, 3, "UTC")
    assert period.overlap(utc(2026, 2, 1), utc(2026, 3, 2)) == (utc(2026, 3, 1), utc(2026, 3, 2))
    assert period.overlap(utc(2026, 4, 1), utc(2026, 5, 1)) is None


def test_what_is_no_period_is_refused() -> None:
    with pytest.raises(PeriodError, match="not a month"):
        month_of(2026, 13, "UTC")
    for name in ("Mars/Olympus", "", "../etc/passwd"):
        with pytest.raises(PeriodError, match="no time zone"):
            month_of(2026, 1, name)
    with pytest.raises(PeriodError, match="time zone"):
        month_of(2026, 1, "UTC").contains(dt.datetime(2026, 1, 1))


def test_boundaries_of_every_zone_are_its_own_midnights() -> None:
    for name in ZONES:
        zone = zoneinfo.ZoneInfo(name)
        months = [month_of(year, month, name) for year in (2023, 2024, 2026) for month in range(1, 13)]
        for one, two in itertools.pairwise(months):
            assert (one.end == two.start) or (one.year, two.year) == (2024, 2026)
        for period in months:
            first = period.start.astimezone(zone)
            before = (period.start - dt.timedelta(seconds=1)).astimezone(zone)
            assert (first.year, first.month, first.day) == (period.year, period.month, 1), (name, period)
            assert (before.year, before.month) != (period.year, period.month), (name, period)


@settings(deadline=None)
@given(
    when=st.datetimes(dt.datetime(1970, 1, 2), dt.datetime(2060, 1, 1), timezones=st.just(dt.UTC)),
    zone=st.sampled_from(ZONES),
)
def test_every_instant_lies_in_the_month_that_contains_it(when: dt.datetime, zone: str) -> None:
    period = month_containing(when, zone)
    assert period.contains(when)
    assert period == month_of(period.year, period.month, zone)
