"""Whether endpoints kept their targets, as pages and downloads show it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

from billing.attainment import EndpointKept, attainments, rounded_down
from billing.costs import Names
from billing.rating.attainment import HOURS_SHARE, DayKept, Target, judge
from portal.charts import StripDay, strip
from portal.pages.ranges import Span
from portal.templatetags.berth import count, ms, percent

CSV_HEADER: Final = [
    "endpoint", "class", "requests", "failed", "availability", "availability_target", "hours", "ttft_share",
    "ttft_target_ms", "itl_share", "itl_target_ms", "kept",
]  # fmt: skip
_MOST_CELLS: Final = 62

Row = dict[str, Any]


def attainment_rows(
    kept: Sequence[EndpointKept], span: Span, names: Names, classes: Mapping[str, str], most: int
) -> list[Row]:
    """Give how endpoints kept their targets on the days of :func:`days_of` a span: ``most`` of them, missed first."""
    first, after = days_of(span)
    last = after - dt.timedelta(days=1)
    shown = _missed_first(kept, names)[:most]
    by_day = attainments(start=first, end=after, endpoint_ids=[each.endpoint_id for each in shown])
    days = {each.endpoint_id: each.days for each in by_day}
    return [_row(each, names, classes, _days(days[each.endpoint_id], first, last)) for each in shown]


def attainment_csv(kept: Sequence[EndpointKept], names: Names) -> list[Sequence[object]]:
    """Give the same of all of them, with a heading."""
    return [CSV_HEADER, *(_csv(each, names) for each in _missed_first(kept, names))]


def _missed_first(kept: Sequence[EndpointKept], names: Names) -> list[EndpointKept]:
    names.read_shared(each.endpoint_id for each in kept)
    return sorted(
        kept,
        key=lambda each: (
            each.judgement.kept is not False, names.endpoint(each.endpoint_id), str(each.endpoint_id),
        ),
    )  # fmt: skip


def _csv(each: EndpointKept, names: Names) -> list[object]:
    found, last = each.judgement, each.last
    return [
        names.endpoint(each.endpoint_id), each.slo_class, found.requests, found.failed,
        rounded_down(found.availability), last.availability, found.hours, rounded_down(found.ttft),
        last.ttft_p95_ms, rounded_down(found.itl), last.itl_p95_ms, found.kept,
    ]  # fmt: skip


def days_of(span: Span) -> tuple[dt.date, dt.date]:
    """Give the UTC days that a span touches: the first, and the one after the last."""
    last = (span.end - dt.timedelta(microseconds=1)).astimezone(dt.UTC).date()
    return span.start.astimezone(dt.UTC).date(), last + dt.timedelta(days=1)


def _row(each: EndpointKept, names: Names, classes: Mapping[str, str], days: Sequence[StripDay]) -> Row:
    found = each.judgement
    missed = set(found.missed)
    availability = {
        "value": share(found.availability), "missed": Target.AVAILABILITY in missed,
        "target": percent(each.last.availability, 3),
        "note": f"{count(found.failed)} of {count(found.requests)} failed",
    }  # fmt: skip
    return {
        "endpoint_id": each.endpoint_id,
        "endpoint": names.endpoint(each.endpoint_id),
        "own": each.endpoint_id in names.labels,
        "slo_class": classes.get(each.slo_class, each.slo_class),
        "kept": found.kept,
        "availability": availability,
        "ttft": _latency(found.ttft, each.last.ttft_p95_ms, Target.TTFT in missed),
        "itl": _latency(found.itl, each.last.itl_p95_ms, Target.ITL in missed),
        "strip": strip(days),
    }  # fmt: skip


def _latency(met: Fraction | None, target: int | None, missed: bool) -> dict[str, Any] | None:
    if target is None:
        return None
    return {
        "value": share(met), "missed": missed, "target": percent(float(HOURS_SHARE), 0),
        "note": f"of hours within {ms(target)}",
    }  # fmt: skip


def _days(kept: Sequence[DayKept], first: dt.date, last: dt.date) -> list[StripDay]:
    by_day = {day.day: day for day in kept}
    number = (last - first).days + 1
    step = -(-number // _MOST_CELLS)
    days = [first + dt.timedelta(days=place) for place in range(number)]
    return [
        judge(by_day[day] for day in days[place : place + step] if day in by_day).kept
        for place in range(0, number, step)
    ]


def share(value: Fraction | None) -> str:
    """Write an exact share as percent, never rounded up to a target that it misses."""
    if value is None:
        return percent(None)
    return percent(rounded_down(value), 3)
