"""Bars that lie, one per thing: what costs most per unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import plotly.graph_objects as go

from portal.charts.bars import short_name
from portal.charts.plain import plain


def ranked_bars(
    things: Sequence[str], series: Mapping[str, Sequence[Decimal | float | None]], *, unit: str
) -> dict[str, Any]:
    """Draw a lying bar per thing and series, first thing on top; None has no bar."""
    traces = [
        go.Bar(
            name=short_name(name),
            y=[f"{number}. {short_name(thing)}" for number, thing in enumerate(things, start=1)],
            x=[None if value is None else float(value) for value in values],
            orientation="h",
            hovertemplate=f"%{{x:,.4~f}} {unit}",
        )
        for name, values in series.items()
    ]
    layout = go.Layout(
        barmode="group",
        bargap=0.3,
        hovermode="closest",
        showlegend=len(traces) > 1,
        xaxis={"title": {"text": unit}, "rangemode": "tozero", "showgrid": True},
        yaxis={"autorange": "reversed", "type": "category", "showgrid": False},
    )
    return plain(traces, layout)
