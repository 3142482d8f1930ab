"""Charts with the same rows as a table and as CSV, in the shape of ``components/chart.html``.

A card's ``columns`` and ``rows`` are what its table shows, newest first; ``csv`` is the same in order of time, with
numbers as they are instead of as they read.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from portal.charts.axis import TimeAxis, axis_of_days
from portal.charts.bars import Point, by_group, stacked_bars
from portal.charts.heat import Share, utilization_map
from portal.charts.lines import time_lines
from portal.charts.ranked import ranked_bars

Card = dict[str, Any]

#: With more groups than these the legend takes so much room that the chart needs more, too.
_FEW_GROUPS: Final = 4
#: So many things stand in the table behind a chart that has one row for each.
MOST_ROWS: Final = 50


def series_card(
    *,
    id: str,
    title: str,
    points: Iterable[Point],
    axis: TimeAxis,
    unit: str,
    note: str = "",
    order: Iterable[str] = (),
    places: int = 2,
) -> Card | None:
    """Give a chart of bars over time, stacked by group; None where every bucket is 0.

    ``order`` puts groups that have one into it, others follow by size. ``places`` are the most decimals of the table.
    """
    groups = by_group(points, order=order)
    totals = {
        at: sum((sums.get(at, Decimal(0)) for sums in groups.values()), Decimal(0)) for at in axis.moments
    }
    if not any(totals.values()):
        return None
    names = list(groups)
    several = len(names) > 1
    labels = dict(zip(axis.moments, axis.labels, strict=True))
    peak = max(axis.moments, key=lambda at: totals[at])
    values = [
        [label, *(groups[name].get(at, Decimal(0)) for name in names), *([totals[at]] if several else [])]
        for at, label in labels.items()
    ]
    columns = [axis.title, *names, *(["All"] if several else [])]
    return {
        "id": id,
        "title": title,
        "note": note,
        "size": "l" if len(names) > _FEW_GROUPS else "",
        "figure": stacked_bars(groups, axis=axis, unit=unit),
        "summary": f"{shown(sum(totals.values()), places)} {unit} in {len(totals)} {axis.unit}s; most on "
        f"{labels[peak]}: {shown(totals[peak], places)} {unit}.",
        "columns": columns,
        "rows": [[row[0], *(shown(value, places) for value in row[1:])] for row in reversed(values)],
        "csv": [columns, *values],
    }


def lines_card(
    *,
    id: str,
    title: str,
    lines: Mapping[str, Sequence[float | None]],
    axis: TimeAxis,
    unit: str,
    note: str = "",
    targets: Mapping[str, float] | None = None,
) -> Card | None:
    """Give a chart of lines over time, with targets as level lines; None where nothing was measured."""
    measured = {name: [value for value in values if value is not None] for name, values in lines.items()}
    if not any(measured.values()):
        return None
    columns = [axis.title, *(f"{name}, {unit}" for name in lines)]
    values = [list(row) for row in zip(axis.labels, *lines.values(), strict=True)]
    told = [
        f"{name} {shown(min(found))} to {shown(max(found))} {unit}"
        for name, found in measured.items()
        if found
    ]
    told += [f"{name} {shown(target)} {unit}" for name, target in (targets or {}).items()]
    return {
        "id": id,
        "title": title,
        "note": note,
        "figure": time_lines(lines, axis=axis, unit=unit, targets=targets),
        "summary": "; ".join(told) + ".",
        "columns": columns,
        "rows": [
            [row[0], *("–" if value is None else shown(value) for value in row[1:])]
            for row in reversed(values)
            if any(value is not None for value in row[1:])
        ],
        "csv": [columns, *values],
    }


def ranked_card(
    *,
    id: str,
    title: str,
    things: Sequence[str],
    series: Mapping[str, Sequence[Decimal | float | None]],
    unit: str,
    note: str = "",
    thing: str = "Group",
    most: int = 12,
) -> Card | None:
    """Give a chart of lying bars, the first ``most`` things on top; None where no thing has a value.

    The table holds the first :data:`MOST_ROWS`, the CSV all of them.
    """
    if not any(value is not None for values in series.values() for value in values):
        return None
    columns = [thing, *(f"{name}, {unit}" for name in series)]
    values = [list(row) for row in zip(things, *series.values(), strict=True)]
    drawn = {name: list(found)[:most] for name, found in series.items()}
    left_out = min(len(things), MOST_ROWS) - most
    return {
        "id": id,
        "title": title,
        "note": f"{note}{'; ' if note else ''}{left_out} more in the table" if left_out > 0 else note,
        "size": "s" if len(things) <= 5 else "l" if len(things) > 9 else "",
        "figure": ranked_bars(things[:most], drawn, unit=unit),
        "summary": f"{things[0]} comes first of {len(things)}." if things else "",
        "columns": columns,
        "rows": [
            [row[0], *("–" if value is None else shown(value, 4) for value in row[1:])]
            for row in values[:MOST_ROWS]
        ],
        "csv": [columns, *values],
    }


def daily_card(
    *, id: str, title: str, points: Iterable[Point], days: Sequence[dt.date], unit: str, note: str = ""
) -> Card | None:
    """Give a chart of bars by day; None where every day is 0."""
    return series_card(id=id, title=title, points=points, axis=axis_of_days(days), unit=unit, note=note)


def utilization_card(
    *,
    id: str,
    title: str,
    shares: Iterable[Share],
    days: Sequence[dt.date],
    things: Sequence[str],
    note: str = "",
) -> Card | None:
    """Give a heat map with one row per thing; None where nothing was ever in use."""
    shares = list(shares)
    if not any(share.value for share in shares):
        return None
    known = {(share.thing, share.day): share.value for share in shares}
    busiest = max(shares, key=lambda share: share.value)
    values = [[f"{day:%Y-%m-%d}", *(known.get((thing, day), 0.0) for thing in things)] for day in days]
    return {
        "id": id,
        "title": title,
        "note": note,
        "size": "s" if len(things) <= 5 else "l" if len(things) > 14 else "",
        "figure": utilization_map(shares, days=days, things=things),
        "summary": f"Busiest: {busiest.thing} on {busiest.day:%Y-%m-%d} with {busiest.value:.0%}.",
        "columns": ["Day", *things],
        "rows": [[row[0], *(f"{value:.0%}" for value in row[1:])] for row in reversed(values)],
        "csv": [["Day", *things], *values],
    }


def shown(value: Decimal | int | float, places: int = 2) -> str:
    """Write a number with at most ``places`` decimal places and thousands apart."""
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
