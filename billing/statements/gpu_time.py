"""GPU time cut into pieces: where prices change, where an endpoint was shared, and by whether it was asked.

Plain arithmetic on microseconds. Idle is GPU time held in UTC hours in which the endpoint got no request.
"""

from __future__ import annotations

import bisect
import dataclasses
import datetime as dt
import itertools
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

from billing.quantities import DAY, HOUR, Interval, round_down, round_up
from billing.statements.inputs import HeldTime

MICROSECOND = dt.timedelta(microseconds=1)
_WHOLE_DAY = (1 << 24) - 1


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Allocated:
    """One allocation, or the part of it that lies in a period."""

    tenant_id: uuid.UUID
    project_id: uuid.UUID
    endpoint_id: uuid.UUID
    gpu_type: str
    region: str
    price_factor: Decimal
    gpus: int
    start: dt.datetime
    end: dt.datetime


def union(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    """Give the same time as intervals that neither overlap nor touch, in order."""
    merged: list[Interval] = []
    for start, end in sorted(intervals):
        if start >= end:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return tuple(merged)


def whole_hours(start: dt.datetime, end: dt.datetime) -> Interval:
    """Give the UTC hours that an interval touches: what is shared in a part of an hour is so in all of it."""
    return round_down(start, HOUR), round_up(end, HOUR)


def pieces(
    allocated: Iterable[Allocated],
    *,
    cuts: Sequence[dt.datetime],
    busy: Sequence[Interval],
    shared: Sequence[Interval],
    apart: bool,
) -> list[HeldTime]:
    """Cut one endpoint's GPU time of a period at ``cuts``, which include the period's start and end, in order.

    ``busy`` and ``shared`` are merged intervals. With ``apart`` each interval of each allocation stands by itself, so
    that commitments can be laid over it; otherwise what is alike within two cuts is one sum.
    """
    sums: defaultdict[tuple, int] = defaultdict(int)
    alone: list[HeldTime] = []
    for each in allocated:
        facts = (each.project_id, each.endpoint_id, each.gpu_type, each.region, each.price_factor)
        for start, end in _between(each.start, each.end, cuts):
            for since, till, is_shared in _flagged(start, end, shared):
                for first, last, is_busy in _flagged(since, till, busy):
                    microseconds = each.gpus * ((last - first) // MICROSECOND)
                    if apart:
                        alone.append(
                            _held(facts, first, last, microseconds, each.gpus, not is_busy, is_shared)
                        )
                    else:
                        place = bisect.bisect_right(cuts, start) - 1
                        sums[(place, facts, not is_busy, is_shared)] += microseconds
    return alone + [
        _held(facts, cuts[place], cuts[place + 1], microseconds, 0, idle, is_shared)
        for (place, facts, idle, is_shared), microseconds in sums.items()
    ]


def _held(
    facts: tuple, start: dt.datetime, end: dt.datetime, microseconds: int, gpus: int, idle: bool, shared: bool
) -> HeldTime:
    project_id, endpoint_id, gpu_type, region, price_factor = facts
    return HeldTime(
        start=start,
        end=end,
        project_id=project_id,
        endpoint_id=endpoint_id,
        gpu_type=gpu_type,
        region=region,
        price_factor=price_factor,
        gpu_seconds=Decimal(microseconds).scaleb(-6),
        gpus=gpus,
        idle=idle,
        shared=shared,
    )


def _between(start: dt.datetime, end: dt.datetime, cuts: Sequence[dt.datetime]) -> Iterator[Interval]:
    first = bisect.bisect_right(cuts, start)
    last = bisect.bisect_left(cuts, end)
    edges = [start, *cuts[first:last], end]
    yield from itertools.pairwise(edges)


def _flagged(
    start: dt.datetime, end: dt.datetime, within: Sequence[Interval]
) -> Iterator[tuple[dt.datetime, dt.datetime, bool]]:
    """Cut an interval into what lies within the merged intervals and what lies outside."""
    place = bisect.bisect_right(within, start, key=lambda interval: interval[1])
    while start < end and place < len(within):
        since, till = within[place]
        if since >= end:
            break
        if start < since:
            yield start, since, False
        start, reached = max(start, since), min(till, end)
        yield start, reached, True
        start, place = reached, place + 1
    if start < end:
        yield start, end, False


def hours_of(days: Iterable[tuple[dt.datetime, int]]) -> tuple[Interval, ...]:
    """Give the hours of UTC days as merged intervals; a day's bits say which, the lowest its first hour."""
    return union(
        interval
        for day, bits in days
        for interval in ([(day, day + DAY)] if bits == _WHOLE_DAY else _hours(day, bits))
    )


def _hours(day: dt.datetime, bits: int) -> Iterator[Interval]:
    for hour in range(24):
        if bits >> hour & 1:
            yield day + hour * HOUR, day + (hour + 1) * HOUR
