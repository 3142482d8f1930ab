"""Whether endpoints kept their targets, as pages and downloads show it."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection, Mapping
from fractions import Fraction
from typing import Any, Final

from billing.attainment import EndpointKept, attainments, judge_days, rounded_down
from billing.costs import Names
from billing.rating.attainment import HOURS_SHARE, Target
from portal.charts import StripDay, strip
from portal.pages.ranges import Span
from portal.templatetags.berth import count, ms, percent

CSV_HEADER: Final = [
    "endpoint", "class", "requests", "failed", "availability", "availability_target", "hours", "ttft_share",
    "ttft_target_ms", "itl_share", "itl_target_ms", "kept",
]  # fmt: skip
_MOST_CELLS: Final = 62


def attainment_rows(
    span: Span,
    names: Names,
    classes: Mapping[str, str],
    *,
    endpoint_ids: Collection[uuid.UUID] | None = None,
) -> list[dict[str, Any]]:
    """Give how each endpoint kept its targets on the UTC days that the span touches, missed ones first."""
    first = span.start.astimezone(dt.UTC).date()
    last = (span.end - dt.timedelta(microseconds=1)).astimezone(dt.UTC).date()
    kept = attainments(start=first, end=last + dt.timedelta(days=1), endpoint_ids=endpoint_ids)
    names.read_shared(each.endpoint_id for each in kept)
    rows = [_row(each, names, classes, first, last) for each in kept]
    return sorted(rows, key=lambda row: (row["kept"] is not False, row["endpoint"], str(row["endpoint_id"])))


def _row(
    each: EndpointKept, names: Names, classes: Mapping[str, str], first: dt.date, last: dt.date
) -> dict[str, Any]:
    found = each.judgement
    missed = set(found.missed)
    availability = {
        "value": share(found.availability), "missed": Target.AVAILABILITY in missed,
        "target": percent(each.availability, 3), "note": f"{count(found.failed)} of {count(found.requests)} failed",
    }  # fmt: skip
    return {
        "endpoint_id": each.endpoint_id,
        "endpoint": names.endpoint(each.endpoint_id),
        "own": each.endpoint_id in names.labels,
        "slo_class": classes.get(each.slo_class, each.slo_class),
        "kept": found.kept,
        "availability": availability,
        "ttft": _latency(found.ttft, each.ttft_p95_ms, Target.TTFT in missed),
        "itl": _latency(found.itl, each.itl_p95_ms, Target.ITL in missed),
        "strip": strip(_days(each, first, last)),
        "csv": [
            names.endpoint(each.endpoint_id), each.slo_class, found.requests, found.failed,
            rounded_down(found.availability), each.availability, found.hours, rounded_down(found.ttft),
            each.ttft_p95_ms,            rounded_down(found.itl), each.itl_p95_ms, found.kept,
        ],
    }  # fmt: skip


def _latency(met: Fraction | None, target: int | None, missed: bool) -> dict[str, Any] | None:
    if target is None:
        return None
    return {
        "value": share(met), "missed": missed, "target": percent(float(HOURS_SHARE), 0),
        "note": f"of the hours within {ms(target)}",
    }  # fmt: skip


def _days(each: EndpointKept, first: dt.date, last: dt.date) -> list[StripDay]:
    by_day = {day.day: day for day in each.days}
    number = (last - first).days + 1
    step = -(-number // _MOST_CELLS)
    days = [first + dt.timedelta(days=place) for place in range(number)]
    cells = []
    for place in range(0, number, step):
        part = days[place : place + step]
        found = judge_days(by_day[day] for day in part if day in by_day)
        label = f"{part[0]:%Y-%m-%d}" + (f" to {part[-1]:%Y-%m-%d}" if step > 1 else "")
        text = f"{share(found.availability)} answered" if found.kept is not None else ""
        cells.append(
            StripDay(label, found.kept, f"{'missed' if found.missed else 'kept'}, {text}" if text else "")
        )
    return cells


def share(value: Fraction | None) -> str:
    """Write an exact share as percent, never rounded up to a target that it misses."""
    if value is None:
        return percent(None)
    return percent(rounded_down(value), 3)
