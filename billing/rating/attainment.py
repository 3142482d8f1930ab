"""Whether an endpoint kept the targets of its class in a month, from what was counted day by day."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import functools
import operator
from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Final

#: The share of the hours with requests in which a latency target must be met.
HOURS_SHARE: Final = Fraction(95, 100)
_DAY: Final = operator.attrgetter("day")


class Target(enum.StrEnum):
    """What a class promises."""

    AVAILABILITY = "availability"
    TTFT = "ttft"
    ITL = "itl"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DayKept:
    """One day against the targets of its class as of then.

    ``failed`` of ``requests`` failed by our fault. ``hours`` had requests; in ``ttft_met`` and ``itl_met`` of them the
    95th percentile was within the target, in all of them where there is no target (None). ``availability`` is a
    share, 0.999 for 99.9 %; ``credit_percent`` is of the charge of a month that misses a target.
    """

    day: dt.date
    availability: Decimal
    ttft_p95_ms: int | None
    itl_p95_ms: int | None
    credit_percent: Decimal
    requests: int
    failed: int
    hours: int
    ttft_met: int
    itl_met: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judgement:
    """What days together came to. Shares are exact, 0..1, None where there is nothing to judge by.

    ``availability_target`` is the mean of the days' targets by their requests. ``ttft`` and ``itl`` are shares of the
    hours with requests, to be held against :data:`HOURS_SHARE`; None without a target, too. ``credit_percent`` is 0
    where nothing is ``missed``, else that of the last day.
    """

    requests: int
    failed: int
    hours: int
    availability: Fraction | None
    availability_target: Fraction | None
    ttft: Fraction | None
    itl: Fraction | None
    missed: tuple[Target, ...]
    credit_percent: Decimal

    @property
    def kept(self) -> bool | None:
        """Whether every target was kept; None where there were no requests to judge by."""
        return None if not self.requests else not self.missed


def judge(days: Iterable[DayKept]) -> Judgement:
    """Judge one endpoint's days of one month together, or any other days.

    Availability is missed when 1 - failed / requests is below the target; where the target changed within the
    month, each day's requests are held to the target of their day. A latency is missed when fewer than
    :data:`HOURS_SHARE` of the hours with requests met it; there is one to miss where the last day has one. A day
    without requests changes nothing.

    Raises:
        ValueError: a day has more failures than requests, or more hours met than there were.
    """
    days = sorted((_checked(day) for day in days), key=_DAY)
    days = [day for day in days if day.requests]
    requests = sum(day.requests for day in days)
    failed = sum(day.failed for day in days)
    hours = sum(day.hours for day in days)
    by_target: defaultdict[Decimal, int] = defaultdict(int)
    for day in days:
        by_target[day.availability] += day.requests
    promised = sum((count * _exact(target) for target, count in by_target.items()), Fraction(0))
    last = days[-1] if days else None
    ttft = itl = None
    if last is not None and last.ttft_p95_ms is not None:
        ttft = Fraction(sum(day.ttft_met for day in days), hours)
    if last is not None and last.itl_p95_ms is not None:
        itl = Fraction(sum(day.itl_met for day in days), hours)
    missed = []
    if requests - failed < promised:
        missed.append(Target.AVAILABILITY)
    if ttft is not None and ttft < HOURS_SHARE:
        missed.append(Target.TTFT)
    if itl is not None and itl < HOURS_SHARE:
        missed.append(Target.ITL)
    return Judgement(
        requests=requests,
        failed=failed,
        hours=hours,
        availability=Fraction(requests - failed, requests) if requests else None,
        availability_target=promised / requests if requests else None,
        ttft=ttft,
        itl=itl,
        missed=tuple(missed),
        credit_percent=last.credit_percent if last is not None and missed else Decimal(0),
    )


@functools.lru_cache(maxsize=256)
def _exact(share: Decimal) -> Fraction:
    return Fraction(share)


def _checked(day: DayKept) -> DayKept:
    if not 0 <= day.failed <= day.requests:
        raise ValueError(f"{day.failed} of {day.requests} requests cannot have failed")
    if not (0 <= day.ttft_met <= day.hours and 0 <= day.itl_met <= day.hours):
        raise ValueError(f"targets cannot be met in {day.ttft_met} and {day.itl_met} of {day.hours} hours")
    if bool(day.requests) != bool(day.hours):
        raise ValueError(f"{day.requests} requests cannot have come in {day.hours} hours")
    return day
