"""Charts with the same rows as a table, in the shape of ``components/chart.html``."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from portal.charts.bars import Point, by_group, daily_bars
from portal.charts.heat import Share, utilization_map


def daily_card(
    *, id: str, title: str, points: Iterable[Point], days: Sequence[dt.date], unit: str, note: str = ""
) -> dict[str, Any] | None:
    """Give a chart of bars by day; None where every day is 0."""
    points = list(points)
    groups = by_group(points)
    totals = {day: sum((sums.get(day, Decimal(0)) for sums in groups.values()), Decimal(0)) for day in days}
    if not any(totals.values()):
        return None
    names = list(groups)
    several = len(names) > 1
    peak = max(days, key=lambda day: totals[day])
    return {
        "id": id,
        "title": title,
        "note": note,
        "figure": daily_bars(points, days=days, unit=unit),
        "summary": f"{shown(sum(totals.values()))} {unit} in {len(days)} days; most on {peak:%Y-%m-%d}: "
        f"{shown(totals[peak])} {unit}.",
        "columns": ["Day", *names, *(["All"] if several else [])],
        "rows": [
            [
                f"{day:%Y-%m-%d}",
                *(shown(groups[name].get(day, Decimal(0))) for name in names),
                *([shown(totals[day])] if several else []),
            ]
            for day in reversed(days)
        ],
    }


def utilization_card(
    *,
    id: str,
    title: str,
    shares: Iterable[Share],
    days: Sequence[dt.date],
    things: Sequence[str],
    note: str = "",
) -> dict[str, Any] | None:
    """Give a heat map with one row per thing; None where nothing was ever in use."""
    shares = list(shares)
    if not any(share.value for share in shares):
        return None
    known = {(share.thing, share.day): share.value for share in shares}
    busiest = max(shares, key=lambda share: share.value)
    return {
        "id": id,
        "title": title,
        "note": note,
        "size": "s" if len(things) <= 5 else "l" if len(things) > 14 else "",
        "figure": utilization_map(shares, days=days, things=things),
        "summary": f"Busiest: {busiest.thing} on {busiest.day:%Y-%m-%d} with {busiest.value:.0%}.",
        "columns": ["Day", *things],
        "rows": [
            [f"{day:%Y-%m-%d}", *(f"{known.get((thing, day), 0.0):.0%}" for thing in things)]
            for day in reversed(days)
        ],
    }


def shown(value: Decimal | int | float) -> str:
    """Write a number with at most two decimal places and thousands apart."""
    text = f"{value:,.2f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
