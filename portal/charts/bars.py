"""Bars by day, stacked by group."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final

import plotly.graph_objects as go

from portal.charts.plain import day_axis, escaped, plain

#: As many groups as the style sheet has colours; the smallest share the last one.
MOST_GROUPS: Final = 6
REST: Final = "All others"


@dataclasses.dataclass(frozen=True)
class Point:
    """A quantity of one group on one UTC day."""

    day: dt.date
    group: str
    value: Decimal | int


def by_group(points: Iterable[Point]) -> dict[str, dict[dt.date, Decimal]]:
    """Sum points by group and day, largest group first; past the sixth, groups are summed as one."""
    sums: dict[str, dict[dt.date, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for point in points:
        sums[point.group][point.day] += point.value
    ranked = sorted(sums, key=lambda group: (-sum(sums[group].values()), group))
    if len(ranked) <= MOST_GROUPS:
        return {group: dict(sums[group]) for group in ranked}
    kept, folded = ranked[: MOST_GROUPS - 1], ranked[MOST_GROUPS - 1 :]
    rest: dict[dt.date, Decimal] = defaultdict(Decimal)
    for group in folded:
        for day, value in sums[group].items():
            rest[day] += value
    return {group: dict(sums[group]) for group in kept} | {REST: dict(rest)}


def daily_bars(points: Iterable[Point], *, days: Sequence[dt.date], unit: str) -> dict[str, Any]:
    """Draw one bar per day of ``days``, stacked by group; a day without a point counts as 0."""
    groups = by_group(points)
    traces = [
        go.Bar(
            name=escaped(group),
            x=[day.isoformat() for day in days],
            y=[float(sums.get(day, 0)) for day in days],
            hovertemplate=f"%{{y:,.2~f}} {unit}",
        )
        for group, sums in groups.items()
    ]
    layout = go.Layout(
        barmode="stack",
        bargap=0.25,
        showlegend=len(groups) > 1,
        xaxis=day_axis(days),
        yaxis={"title": {"text": unit}, "rangemode": "tozero"},
    )
    return plain(traces, layout)
