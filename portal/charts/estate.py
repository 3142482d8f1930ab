"""Operators' charts: a heat map over buckets of any width, and lying bars that add up."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import plotly.graph_objects as go

from portal.charts.axis import TimeAxis
from portal.charts.bars import short_name
from portal.charts.cards import Card, shown
from portal.charts.plain import plain

Shares = Mapping[tuple[str, dt.datetime], Decimal | None]


def heat_card(
    *, id: str, title: str, things: Sequence[str], shares: Shares, axis: TimeAxis, note: str = ""
) -> Card | None:
    """Give a heat map of parts of a whole, one row per thing, first on top; None where there are no things.

    ``shares`` are by thing and the start of the bucket, 1 being all; a bucket without one is left blank.
    """
    known = {key: value for key, value in shares.items() if value is not None}
    if not things or not known:
        return None
    trace = go.Heatmap(
        x=list(axis.labels),
        y=[f"{number}. {short_name(thing)}" for number, thing in enumerate(things, start=1)],
        z=[[_percent(known.get((thing, at))) for at in axis.moments] for thing in things],
        zmin=0,
        zmax=100,
        hoverongaps=False,
        hovertemplate="%{y}<br>%{x}: %{z} %<extra></extra>",
        colorbar={"ticksuffix": " %", "thickness": 10, "outlinewidth": 0},
    )
    layout = go.Layout(
        hovermode="closest",
        xaxis=axis.plotly(),
        yaxis={"autorange": "reversed", "type": "category", "showgrid": False},
    )
    values = [
        [label, *(known.get((thing, at)) for thing in things)]
        for at, label in zip(axis.moments, axis.labels, strict=True)
    ]
    (thing, at), most = max(known.items(), key=lambda item: item[1])
    label = dict(zip(axis.moments, axis.labels, strict=True)).get(at, "")
    return {
        "id": id,
        "title": title,
        "note": note,
        "size": "s" if len(things) <= 5 else "l" if len(things) > 14 else "",
        "figure": plain([trace], layout),
        "summary": f"Most: {thing} in {label} with {most:.0%}.",
        "columns": [axis.title, *things],
        "rows": [
            [row[0], *("–" if value is None else f"{value:.0%}" for value in row[1:])]
            for row in reversed(values)
        ],
        "csv": [[axis.title, *things], *values],
    }


def parts_card(
    *,
    id: str,
    title: str,
    things: Sequence[str],
    parts: Mapping[str, Sequence[Decimal]],
    unit: str,
    thing: str,
    note: str = "",
) -> Card | None:
    """Give a lying bar per thing, made of ``parts``, first thing on top; None where all is 0."""
    if not any(value for values in parts.values() for value in values):
        return None
    traces = [
        go.Bar(
            name=short_name(name),
            y=[f"{number}. {short_name(each)}" for number, each in enumerate(things, start=1)],
            x=[float(value) for value in values],
            orientation="h",
            hovertemplate=f"%{{x:,.4~f}} {unit}",
        )
        for name, values in parts.items()
    ]
    layout = go.Layout(
        barmode="stack",
        bargap=0.3,
        hovermode="closest",
        showlegend=len(traces) > 1,
        xaxis={"title": {"text": unit}, "rangemode": "tozero", "showgrid": True},
        yaxis={"autorange": "reversed", "type": "category", "showgrid": False},
    )
    columns = [thing, *(f"{name}, {unit}" for name in parts)]
    values = [list(row) for row in zip(things, *parts.values(), strict=True)]
    return {
        "id": id,
        "title": title,
        "note": note,
        "size": "s" if len(things) <= 5 else "l" if len(things) > 9 else "",
        "figure": plain(traces, layout),
        "summary": f"{things[0]} comes first of {len(things)}.",
        "columns": columns,
        "rows": [[row[0], *(shown(value) for value in row[1:])] for row in values],
        "csv": [columns, *values],
    }


def months_card(
    *,
    id: str,
    title: str,
    months: Sequence[str],
    series: Mapping[str, Sequence[Decimal]],
    unit: str,
    note: str = "",
) -> Card | None:
    """Give bars side by side for each calendar month; None where all is 0."""
    if not any(value for values in series.values() for value in values):
        return None
    traces: list[Any] = [
        go.Bar(
            name=short_name(name),
            x=list(months),
            y=[float(value) for value in values],
            hovertemplate=f"%{{y:,.2f}} {unit}",
        )
        for name, values in series.items()
    ]
    layout = go.Layout(
        barmode="group",
        bargap=0.25,
        xaxis={"type": "category"},
        yaxis={"title": {"text": unit}, "rangemode": "tozero"},
    )
    columns = ["Month", *(f"{name}, {unit}" for name in series)]
    values = [list(row) for row in zip(months, *series.values(), strict=True)]
    totals = ", ".join(f"{name} {shown(sum(found))} {unit}" for name, found in series.items())
    return {
        "id": id,
        "title": title,
        "note": note,
        "figure": plain(traces, layout),
        "summary": f"In {len(months)} months: {totals}.",
        "columns": columns,
        "rows": [[row[0], *(shown(value) for value in row[1:])] for row in reversed(values)],
        "csv": [columns, *values],
    }


def _percent(value: Decimal | None) -> float | None:
    return None if value is None else round(float(100 * value), 1)
