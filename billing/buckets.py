"""A period of time cut into buckets: what usage and cost are told by."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Iterator

from billing.quantities import DAY, HOUR, Interval, cut, round_down
from billing.rating.periods import month_containing

MINUTE = dt.timedelta(minutes=1)


class Width(enum.StrEnum):
    """How long one bucket is, by the names of OpenAI's usage API, and a calendar month besides.

    Minutes, hours and days are those of UTC, as usage is kept; months are those of the tenant's zone, as statements.
    """

    MINUTE = "1m"
    HOUR = "1h"
    DAY = "1d"
    MONTH = "1M"


LENGTHS = {Width.MINUTE: MINUTE, Width.HOUR: HOUR, Width.DAY: DAY}


def buckets(start: dt.datetime, end: dt.datetime, width: Width, zone: str = "UTC") -> list[Interval]:
    """Cut ``[start, end)`` where a bucket begins; the first and the last may be parts. Nothing if it is empty."""
    return cut(start, end, _edges(start, end, width, zone))


def _edges(start: dt.datetime, end: dt.datetime, width: Width, zone: str) -> Iterator[dt.datetime]:
    if width == Width.MONTH:
        month = month_containing(start, zone)
        while month.end < end:
            yield month.end
            month = month_containing(month.end, zone)
        return
    length = LENGTHS[width]
    moment = round_down(start, length) + length
    while moment < end:
        yield moment
        moment += length
