"""What a window of a budget will have cost when it ends. Plain Python.

GPU time is known ahead: what is held goes on costing what it costs. Requests are not: the days before say how much a
day costs, by weekday once two weeks of them are known, and how far days lay from that.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import itertools
import zoneinfo
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Final

#: Fewer whole days than these say nothing.
FEWEST_DAYS: Final = 3
#: From so many on, each weekday has a mean of its own.
WEEKDAYS_FROM: Final = 14
#: So many days back are looked at.
MOST_DAYS: Final = 28
#: Four in five of normally distributed values lie within so many standard deviations.
_FOUR_IN_FIVE: Final = Decimal("1.2816")
_ZERO: Final = Decimal(0)


class Method(enum.StrEnum):
    """How a forecast was reached."""

    RUNNING = "running"  # what is held goes on
    WEEKDAYS = "weekdays"  # the mean of the same weekday
    DAYS = "days"  # the mean of all days that are known
    NONE = "none"  # not enough history


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forecast:
    """What is spent when the window ends, between ``low`` and ``high``; None where too little is known.

    ``reached_at`` is when the limit is expected to be reached, None if it is not within the window.
    """

    expected: Decimal | None
    low: Decimal | None
    high: Decimal | None
    reached_at: dt.datetime | None
    method: Method
    note: str


@dataclasses.dataclass(frozen=True)
class Flow:
    """Spending at an even rate: ``amount`` over [``start``, ``end``)."""

    start: dt.datetime
    end: dt.datetime
    amount: Decimal


def forecast_running(
    *, settled: Decimal, reserved: Decimal, running: Sequence[Flow], limit: Decimal, now: dt.datetime
) -> Forecast:
    """Forecast GPU time: ``running`` is what the GPUs that are held now cost until the window's end, in any order.

    ``reserved`` is what the orders hold at least until then. Where autoscaling or a start under way makes the two
    differ, they are the low and the high end.
    """
    ahead = sum((flow.amount for flow in running), _ZERO)
    expected = settled + ahead
    ends = (settled + reserved, expected)
    return Forecast(
        expected=expected,
        low=min(ends),
        high=max(ends),
        reached_at=_reached(settled, limit, running, now),
        method=Method.RUNNING,
        note="As long as what runs now goes on and nothing is ordered, scaled or paused.",
    )


def forecast_usage(
    *,
    settled: Decimal,
    days: Sequence[Decimal],
    limit: Decimal,
    now: dt.datetime,
    end: dt.datetime,
    time_zone: str,
) -> Forecast:
    """Forecast requests: ``days`` are what the whole days before today cost in ``time_zone``, the oldest first.

    Days before the first that cost anything are no history. The rest of the window is expected to cost the mean of
    each of its days; ``low`` and ``high`` enclose four windows in five if days differ from their mean independently, as
    much as they did.
    """
    zone = zoneinfo.ZoneInfo(time_zone)
    today = now.astimezone(zone).date()
    known = _dated(days[-MOST_DAYS:], today)
    if len(known) < FEWEST_DAYS:
        return Forecast(
            expected=None,
            low=None,
            high=None,
            reached_at=now if settled >= limit else None,
            method=Method.NONE,
            note=f"Not enough history: {len(known)} of {FEWEST_DAYS} whole days with requests are known.",
        )
    by_weekday = len(known) >= WEEKDAYS_FROM
    means = {weekday: _mean_of(known, weekday if by_weekday else None) for weekday in range(7)}
    flows, whole_days = [], _ZERO
    for start, stop, share, weekday in _days_ahead(now, end, zone):
        flows.append(Flow(start, stop, means[weekday] * share))
        whole_days += share
    expected = settled + sum((flow.amount for flow in flows), _ZERO)
    strayed = sum(((amount - means[day.weekday()]) ** 2 for day, amount in known), _ZERO) / len(known)
    spread = _FOUR_IN_FIVE * (strayed * whole_days).sqrt()
    pattern = "of the same weekday" if by_weekday else "of all days that are known"
    return Forecast(
        expected=expected,
        low=max(settled, expected - spread),
        high=expected + spread,
        reached_at=_reached(settled, limit, flows, now),
        method=Method.WEEKDAYS if by_weekday else Method.DAYS,
        note=f"By the mean {pattern}, over the last {len(known)} days; four windows in five end between low and high "
        "if days go on differing as they did.",
    )


def _dated(days: Sequence[Decimal], today: dt.date) -> list[tuple[dt.date, Decimal]]:
    first = today - dt.timedelta(days=len(days))
    dated = [(first + dt.timedelta(days=index), amount) for index, amount in enumerate(days)]
    while dated and not dated[0][1]:
        dated.pop(0)
    return dated


def _mean_of(known: list[tuple[dt.date, Decimal]], weekday: int | None) -> Decimal:
    amounts = [amount for day, amount in known if weekday is None or day.weekday() == weekday]
    return sum(amounts, _ZERO) / len(amounts)


def _days_ahead(
    now: dt.datetime, end: dt.datetime, zone: zoneinfo.ZoneInfo
) -> Iterator[tuple[dt.datetime, dt.datetime, Decimal, int]]:
    """Give each day that is left: from when to when, which part of it that is, and its weekday."""
    day = now.astimezone(zone).date()
    while (begin := _midnight(day, zone)) < end:
        following = _midnight(day + dt.timedelta(days=1), zone)
        start, stop = max(now, begin), min(end, following)
        if start < stop:
            yield start, stop, _seconds(stop - start) / _seconds(following - begin), day.weekday()
        day += dt.timedelta(days=1)


def _reached(settled: Decimal, limit: Decimal, flows: Sequence[Flow], now: dt.datetime) -> dt.datetime | None:
    """Give when spending passes the limit. Between two edges of flows it goes at one rate."""
    if settled >= limit:
        return now
    edges = sorted({moment for flow in flows for moment in (flow.start, flow.end)})
    for start, stop in itertools.pairwise(edges):
        seconds = _seconds(stop - start)
        rate = sum(
            (
                flow.amount / _seconds(flow.end - flow.start)
                for flow in flows
                if flow.start <= start and flow.end >= stop
            ),
            _ZERO,
        )
        if rate and settled + rate * seconds >= limit:
            return start + dt.timedelta(seconds=float((limit - settled) / rate))
        settled += rate * seconds
    return None


def _seconds(length: dt.timedelta) -> Decimal:
    return Decimal(length // dt.timedelta(microseconds=1)) / 1_000_000


def _midnight(day: dt.date, zone: zoneinfo.ZoneInfo) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), zone).astimezone(dt.UTC)
