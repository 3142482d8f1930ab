"""The one range control of a page about usage and cost: which span of time, and in which buckets.

Everything is in the address: ``range`` names a usual span, or ``from`` and ``to`` (the last day) give one of
the reader's own; ``bucket`` chooses how fine, where more than one width fits. Days are UTC days, since usage is kept
by them; this month and last month are those of the tenant's zone, since statements are.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any, Final
from zoneinfo import ZoneInfo

from billing.buckets import Width, buckets
from billing.quantities import DAY, HOUR, Interval, round_down
from billing.rating.periods import month_containing
from portal.charts import TimeAxis, axis_of

USUAL: Final = "30d"
LONGEST: Final = dt.timedelta(days=400)

#: How long a span may be at most to be shown by that width, and how short by a longer one.
_LONGEST_BY: Final = {
    Width.HOUR: dt.timedelta(days=8), Width.DAY: dt.timedelta(days=100), Width.MONTH: LONGEST,
}  # fmt: skip
_SHORTEST_BY: Final = {Width.HOUR: HOUR, Width.DAY: 2 * DAY, Width.MONTH: 45 * DAY}
_WIDTH_LABELS: Final = {Width.HOUR: "Hour", Width.DAY: "Day", Width.MONTH: "Month"}

_Ends = tuple[dt.datetime, dt.datetime]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Span:
    """A half-open span of time; ``key`` names it in links, ``problem`` says why it is not what was asked for."""

    key: str
    label: str
    start: dt.datetime
    end: dt.datetime
    width: Width
    zone: str = "UTC"
    problem: str = ""

    @property
    def intervals(self) -> list[Interval]:
        """Its buckets; the first and the last may be parts."""
        return buckets(self.start, self.end, self.width, self.zone)

    @property
    def axis(self) -> TimeAxis:
        """The axis of its buckets."""
        return axis_of((start for start, _ in self.intervals), self.width, self.zone)

    @property
    def widths(self) -> list[Width]:
        """Every width that fits, finest first."""
        return _fitting(self.end - self.start)

    @property
    def query(self) -> dict[str, str]:
        """What says it in an address."""
        asked = {"range": self.key}
        if self.key == "custom":
            last = self.end - dt.timedelta(microseconds=1)
            asked |= {"from": f"{self.start:%Y-%m-%d}", "to": f"{last:%Y-%m-%d}"}
        return asked | ({"bucket": self.width.value} if self.width != _usual_width(self) else {})

    @property
    def file_name(self) -> str:
        """Its days, for the name of a download."""
        last = self.end - dt.timedelta(microseconds=1)
        return f"{self.start:%Y%m%d}-{last:%Y%m%d}"


def _days(count: int) -> Callable[[dt.datetime, str], _Ends]:
    return lambda now, zone: (round_down(now, DAY) - (count - 1) * DAY, now)


def _this_month(now: dt.datetime, zone: str) -> _Ends:
    return month_containing(now, zone).start, now


def _last_month(now: dt.datetime, zone: str) -> _Ends:
    end = month_containing(now, zone).start
    return month_containing(end - HOUR, zone).start, end


def _twelve_months(now: dt.datetime, zone: str) -> _Ends:
    start = month_containing(now, zone).start
    for _ in range(11):
        start = month_containing(start - HOUR, zone).start
    return start, now


_SPANS: Final[dict[str, tuple[str, Callable[[dt.datetime, str], _Ends]]]] = {
    "24h": ("24 hours", lambda now, zone: (round_down(now, HOUR) - 23 * HOUR, now)),
    "7d": ("7 days", _days(7)),
    "30d": ("30 days", _days(30)),
    "90d": ("90 days", _days(90)),
    "month": ("This month", _this_month),
    "last-month": ("Last month", _last_month),
    "12m": ("12 months", _twelve_months),
}


def span_of(asked: Mapping[str, str], now: dt.datetime, zone: str = "UTC") -> Span:
    """Give the span that an address asks for as of ``now``; the usual one, with a ``problem``, where that is wrong."""
    now = now.astimezone(dt.UTC)
    key = asked.get("range", "")
    problem = ""
    if asked.get("from") or asked.get("to"):
        ends, problem = _own(asked.get("from", ""), asked.get("to", ""), now)
        if ends:
            span = Span(key="custom", label="Dates", start=ends[0], end=ends[1], width=Width.DAY, zone=zone)
            return _in_width(span, asked.get("bucket", ""))
    elif key == "custom":
        problem = "Choose a first day."
    elif key and key not in _SPANS:
        problem = f"There is no span called {key[:40]!r}."
    key = key if key in _SPANS else USUAL
    label, ends_of = _SPANS[key]
    start, end = ends_of(now, zone)
    if start >= end:  # within the first instant of a month
        end = start + dt.timedelta(seconds=1)
    if problem:
        problem = f"{problem} What is shown is {label[:1].lower()}{label[1:]}."
    span = Span(key=key, label=label, start=start, end=end, width=Width.DAY, zone=zone, problem=problem)
    return _in_width(span, asked.get("bucket", ""))


def range_control(span: Span, link: Callable[..., str]) -> dict[str, Any]:
    """Give what ``components/range_control.html`` takes.

    ``link`` gives the page's address with these parameters instead of those of the span, and all others as they are.
    """
    here = {name: value for name, value in span.query.items() if name != "bucket"}
    return {
        "items": [
            {"label": label, "url": link(range=key), "current": key == span.key}
            for key, (label, _) in _SPANS.items()
        ],
        "custom": span.key == "custom",
        "first": f"{span.start:%Y-%m-%d}",
        "last": f"{span.end - dt.timedelta(microseconds=1):%Y-%m-%d}",
        "widths": [
            {
                "label": _WIDTH_LABELS[width],
                "url": link(**here, bucket=width.value),
                "current": width == span.width,
            }
            for width in span.widths
        ]
        if len(span.widths) > 1
        else [],
        "text": _told(span),
        "problem": span.problem,
    }


def _told(span: Span) -> str:
    where = ZoneInfo(span.zone) if span.key in ("month", "last-month", "12m") else dt.UTC
    start, end = span.start.astimezone(where), span.end.astimezone(where)
    name = "UTC" if where is dt.UTC else span.zone
    form = "%Y-%m-%d %H:%M"
    return f"{start:{form}} until {end:{form}}, {name}"


def _own(first: str, last: str, now: dt.datetime) -> tuple[_Ends | None, str]:
    try:
        start = dt.datetime.combine(dt.date.fromisoformat(first), dt.time(), dt.UTC)
        end = (
            dt.datetime.combine(dt.date.fromisoformat(last), dt.time(), dt.UTC) + DAY
            if last
            else round_down(now, DAY) + DAY
        )
    except (ValueError, OverflowError):
        return None, "Write the days as year-month-day, for instance 2026-05-31."
    if start.year < 2000:
        return None, "The first day lies before 2000."
    if start > now:
        return None, "The first day lies in the future."
    if start >= end:
        return None, "The last day lies before the first."
    if end - start > LONGEST:
        return None, f"At most {LONGEST.days} days can be shown at once."
    return (start, min(end, now) if now > start else end), ""


def _fitting(length: dt.timedelta) -> list[Width]:
    fitting = [width for width in _LONGEST_BY if _SHORTEST_BY[width] <= length <= _LONGEST_BY[width]]
    return fitting or [Width.HOUR]


def _usual_width(span: Span) -> Width:
    fitting = span.widths
    if span.end - span.start > 2 * DAY and Width.DAY in fitting:
        return Width.DAY
    return fitting[0]


def _in_width(span: Span, asked: str) -> Span:
    width = _usual_width(span)
    if not asked:
        return dataclasses.replace(span, width=width)
    if asked in span.widths:
        return dataclasses.replace(span, width=Width(asked))
    known = " or ".join(f"{each.value}" for each in span.widths)
    problem = f"This span cannot be shown by {asked[:20]!r}; it can by {known}."
    return dataclasses.replace(span, width=width, problem=" ".join(filter(None, [span.problem, problem])))
