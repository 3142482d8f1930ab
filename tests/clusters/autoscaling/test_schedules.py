"""Schedules: which bounds hold when, across midnight, zones and clock changes."""

from __future__ import annotations

import dataclasses
import datetime as dt
import zoneinfo

import pytest

from clusters.endpoints.autoscaling.schedules import Scheduled, scheduled

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
EVERY_DAY = (1, 2, 3, 4, 5, 6, 7)


@dataclasses.dataclass(frozen=True)
class Window:
    from_time: dt.time
    until_time: dt.time
    days: tuple[int, ...] = EVERY_DAY
    time_zone: str = "Europe/Berlin"
    floor: int = 2
    ceiling: int | None = None


OFFICE = Window(dt.time(8), dt.time(18), days=(1, 2, 3, 4, 5))
NIGHT = Window(dt.time(22), dt.time(6), floor=0)


def at(day: int, hour: int, minute: int = 0, *, month: int = 11) -> dt.datetime:
    return dt.datetime(2026, month, day, hour, minute, tzinfo=BERLIN).astimezone(dt.UTC)


@pytest.mark.parametrize(
    ("now", "floor", "until"),
    [
        (at(27, 7, 59), None, at(27, 8)),  # a Friday
        (at(27, 8), 2, at(27, 18)),
        (at(27, 17, 59), 2, at(27, 18)),
        (at(27, 18), None, at(30, 8)),  # until Monday
        (at(29, 12), None, at(30, 8)),
    ],
)
def test_office_hours(now, floor, until):
    assert scheduled([OFFICE], now=now) == Scheduled(floor=floor, until=until)


def test_a_night_lasts_into_the_next_day():
    assert scheduled([NIGHT], now=at(27, 23)).floor == 0
    assert scheduled([NIGHT], now=at(28, 5, 59)).floor == 0
    assert scheduled([NIGHT], now=at(28, 6)).floor is None
    sundays = dataclasses.replace(NIGHT, days=(7,))
    assert scheduled([sundays], now=at(30, 3)).floor == 0, "Monday morning is of Sunday's night"
    assert scheduled([sundays], now=at(29, 3)).floor is None


def test_where_several_hold_the_highest_floor_wins():
    whole = dataclasses.replace(OFFICE, floor=1, ceiling=3)
    both = [dataclasses.replace(OFFICE, floor=4), whole, NIGHT]
    assert scheduled(both, now=at(27, 9)) == Scheduled(floor=4, ceiling=3, until=at(27, 18))


def test_one_that_ends_when_it_begins_lasts_a_day():
    always = Window(dt.time(0), dt.time(0), days=(6, 7))
    assert scheduled([always], now=at(28, 0)).floor == 2
    assert scheduled([always], now=at(29, 23, 59)).floor == 2
    assert scheduled([always], now=at(30, 0)).floor is None


def test_clocks_that_change_change_the_moment_and_not_the_time():
    early = Window(dt.time(8), dt.time(9))
    before, after = at(24, 8, 30, month=10), at(26, 8, 30, month=10)
    assert after - before == dt.timedelta(days=2, hours=1)
    assert scheduled([early], now=before).floor == scheduled([early], now=after).floor == 2
    night = Window(dt.time(1), dt.time(4))
    assert scheduled([night], now=at(25, 1, month=10)).until == at(25, 4, month=10)


def test_no_schedule_says_nothing_and_never_changes():
    assert scheduled([], now=at(27, 9)) == Scheduled()
