"""Quantities over time by group: bars stacked, and lines."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

import plotly.graph_objects as go

from portal.charts.axis import TimeAxis
from portal.charts.plain import escaped, plain

#: As many groups as the style sheet has colours; the smallest share the last one.
MOST_GROUPS: Final = 8
REST: Final = "All others"

#: Longest name in a legend; the table behind the chart has it whole.
_MOST_LETTERS: Final = 22

Moment = dt.datetime | dt.date


@dataclasses.dataclass(frozen=True)
class Point:
    """A quantity of one group in the bucket that begins at ``at``."""

    at: Moment
    group: str
    value: Decimal | int


Groups = dict[str, dict[Moment, Decimal]]


def by_group(points: Iterable[Point], *, order: Iterable[str] = ()) -> Groups:
    """Sum points by group and bucket, largest group first, or as in ``order``; past the eighth they are one."""
    sums: dict[str, dict[Moment, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for point in points:
        sums[point.group][point.at] += point.value
    given = {group: place for place, group in enumerate(order)}
    ranked = sorted(sums, key=lambda group: (given.get(group, len(given)), -sum(sums[group].values()), group))
    if len(ranked) <= MOST_GROUPS:
        return {group: dict(sums[group]) for group in ranked}
    kept, folded = ranked[: MOST_GROUPS - 1], ranked[MOST_GROUPS - 1 :]
    rest: dict[Moment, Decimal] = defaultdict(Decimal)
    for group in folded:
        for at, value in sums[group].items():
            rest[at] += value
    return {group: dict(sums[group]) for group in kept} | {REST: dict(rest)}


def stacked_bars(
    groups: Mapping[str, Mapping[Moment, Decimal]], *, axis: TimeAxis, unit: str
) -> dict[str, Any]:
    """Draw one bar per bucket, stacked by group; a bucket without a value counts as 0."""
    traces = [
        go.Bar(
            name=short_name(group),
            x=list(axis.labels),
            y=[float(sums.get(at, 0)) for at in axis.moments],
            hovertemplate=f"%{{y:,.4~f}} {unit}",
        )
        for group, sums in groups.items()
    ]
    layout = go.Layout(
        barmode="stack",
        bargap=0.25,
        showlegend=len(groups) > 1,
        xaxis=axis.plotly(),
        yaxis={"title": {"text": unit}, "rangemode": "tozero"},
    )
    return plain(traces, layout)


def short_name(name: str) -> str:
    """Write a group's name for a legend: escaped, and where it is long cut in the middle, as ends tell names apart."""
    if len(name) > _MOST_LETTERS:
        kept = _MOST_LETTERS - 1
        name = f"{name[: kept - kept // 2]}…{name[-(kept // 2) :]}"
    return escaped(name)
