"""Billing periods: months of a tenant's zone as half-open intervals of UTC."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


class PeriodError(ValueError):
    """A period that does not exist; the message says why."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Day:
    """The part of a period that lies in one UTC day."""

    date: dt.date
    start: dt.datetime
    end: dt.datetime


@dataclasses.dataclass(frozen=True, kw_only=True)
class Period:
    """A month of ``zone`` from ``start`` (in it) to ``end`` (not in it), both in UTC."""

    year: int
    month: int
    zone: str
    start: dt.datetime
    end: dt.datetime

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.month:02d}"

    def contains(self, when: dt.datetime) -> bool:
        """Say whether an aware instant lies in the period."""
        return self.start <= _aware(when) < self.end

    def overlap(self, start: dt.datetime, end: dt.datetime) -> tuple[dt.datetime, dt.datetime] | None:
        """Give the part of an interval that lies in the period, None where there is none."""
        first, last = max(self.start, _aware(start)), min(self.end, _aware(end))
        return (first, last) if first < last else None

    def utc_days(self) -> Iterator[Day]:
        """Cut the period at UTC midnights; the first and last day may be parts."""
        start = self.start
        while start < self.end:
            midnight = dt.datetime.combine(start.date() + dt.timedelta(days=1), dt.time(), dt.UTC)
            end = min(midnight, self.end)
            yield Day(date=start.date(), start=start, end=end)
            start = end


def month_of(year: int, month: int, zone: str) -> Period:
    """Give a calendar month of ``zone``. Following months meet without gap or overlap.

    Raises:
        PeriodError: no such month or zone.
    """
    if not (dt.MINYEAR < year < dt.MAXYEAR and 1 <= month <= 12):
        raise PeriodError(f"{year}-{month} is not a month")
    info = _zone(zone)
    following = (year + 1, 1) if month == 12 else (year, month + 1)
    return Period(
        year=year,
        month=month,
        zone=zone,
        start=_day_start(dt.date(year, month, 1), info),
        end=_day_start(dt.date(*following, 1), info),
    )


def month_containing(when: dt.datetime, zone: str) -> Period:
    """Give the month of ``zone`` that an aware instant lies in.

    Raises:
        PeriodError: a naive time, or no such zone.
    """
    local = _aware(when).astimezone(_zone(zone))
    period = month_of(local.year, local.month, zone)
    if when < period.start:
        return month_of(*_neighbour(local, -1), zone)
    if when >= period.end:
        return month_of(*_neighbour(local, 1), zone)
    return period


def _neighbour(local: dt.datetime, step: int) -> tuple[int, int]:
    index = local.year * 12 + local.month - 1 + step
    return index // 12, index % 12 + 1


def _day_start(date: dt.date, zone: ZoneInfo) -> dt.datetime:
    """First instant of a local day that begins a month.

    A midnight that comes twice counts when it first comes. One that clocks skip (as from 23:59 to 01:00)
    is read with the offset before the change, which is the instant of the change; no zone has skipped the
    midnight of a month from before it since 1960.
    """
    return dt.datetime.combine(date, dt.time(), zone).astimezone(dt.UTC)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise PeriodError(f"there is no time zone {name!r}; use a name like Europe/Berlin") from error


def _aware(when: dt.datetime) -> dt.datetime:
    if when.tzinfo is None:
        raise PeriodError(f"{when.isoformat()} needs a time zone")
    return when
