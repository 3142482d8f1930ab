"""Which bounds hold at a moment of the week, and until when. Plain Python on times in the schedules' own zones."""

from __future__ import annotations

import dataclasses
import datetime as dt
import zoneinfo
from collections.abc import Sequence
from typing import Protocol

_WEEK_DAYS = 8  # of looking ahead: a schedule of one day begins again after seven


class Window(Protocol):
    """Times of the week; ``days`` are 1 (Monday) to 7. One that does not end after it begins ends the day after."""

    days: Sequence[int]
    from_time: dt.time
    until_time: dt.time
    time_zone: str
    floor: int
    ceiling: int | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scheduled:
    """What schedules say: the floor and ceiling that hold, None where none does, and when that changes next."""

    floor: int | None = None
    ceiling: int | None = None
    until: dt.datetime | None = None


def scheduled(windows: Sequence[Window], *, now: dt.datetime) -> Scheduled:
    """Give what holds now. Where several do, the highest floor wins, and of ceilings the highest."""
    spans = [(window, span) for window in windows for span in _spans(window, now)]
    active = [window for window, (begin, end) in spans if begin <= now < end]
    ceilings = [window.ceiling for window in active if window.ceiling is not None]
    return Scheduled(
        floor=max((window.floor for window in active), default=None),
        ceiling=max(ceilings, default=None),
        until=min((moment for _, span in spans for moment in span if moment > now), default=None),
    )


def _spans(window: Window, now: dt.datetime) -> list[tuple[dt.datetime, dt.datetime]]:
    """Give when a window begins and ends, from the one of yesterday on, in UTC.

    A time that a clock skips is the moment after; of one that it shows twice the first counts.
    """
    zone = zoneinfo.ZoneInfo(window.time_zone)
    today = now.astimezone(zone).date()
    overnight = dt.timedelta(days=window.until_time <= window.from_time)
    found = []
    for ahead in range(-1, _WEEK_DAYS):
        day = today + dt.timedelta(days=ahead)
        if day.isoweekday() in window.days:
            begin = dt.datetime.combine(day, window.from_time, zone)
            end = dt.datetime.combine(day + overnight, window.until_time, zone)
            found.append((begin.astimezone(dt.UTC), end.astimezone(dt.UTC)))
    return found
