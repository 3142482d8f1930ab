"""Spans of time that people choose from on pages about usage and cost. Days are UTC."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable
from typing import Final

from billing.quantities import DAY, round_down


@dataclasses.dataclass(frozen=True, kw_only=True)
class Span:
    """From a UTC midnight until now; ``key`` names it in links."""

    key: str
    label: str
    start: dt.datetime
    end: dt.datetime


def _days(count: int) -> Callable[[dt.datetime], dt.datetime]:
    return lambda now: round_down(now, DAY) - (count - 1) * DAY


_SPANS: Final[dict[str, tuple[str, Callable[[dt.datetime], dt.datetime]]]] = {
    "7d": ("7 days", _days(7)),
    "30d": ("30 days", _days(30)),
    "90d": ("90 days", _days(90)),
    "month": ("This month", lambda now: round_down(now, DAY).replace(day=1)),
}
USUAL: Final = "30d"


def span_of(key: str, now: dt.datetime) -> Span:
    """Give the span called ``key`` as of ``now``, the usual one where there is none of that name."""
    key = key if key in _SPANS else USUAL
    label, start = _SPANS[key]
    now = now.astimezone(dt.UTC)
    return Span(key=key, label=label, start=start(now), end=now)


def choices() -> list[tuple[str, str]]:
    """Give names and labels of all spans."""
    return [(key, label) for key, (label, _) in _SPANS.items()]
