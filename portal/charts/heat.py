"""A heat map of how busy things were, day by day."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any

import plotly.graph_objects as go

from portal.charts.axis import axis_of_days
from portal.charts.plain import escaped, plain


@dataclasses.dataclass(frozen=True)
class Share:
    """Which part of a thing was in use on one UTC day, 0..1."""

    day: dt.date
    thing: str
    value: float


def utilization_map(
    shares: Iterable[Share], *, days: Sequence[dt.date], things: Sequence[str]
) -> dict[str, Any]:
    """Draw one row per thing, first on top, and one column per day, in percent; what is not given counts as 0."""
    known = {(share.thing, share.day): share.value for share in shares}
    trace = go.Heatmap(
        x=[day.isoformat() for day in days],
        y=[escaped(thing) for thing in things],
        z=[[round(100 * known.get((thing, day), 0.0), 1) for day in days] for thing in things],
        zmin=0,
        zmax=100,
        hovertemplate="%{y}<br>%{x|%a %-d %b %Y}: %{z} %<extra></extra>",
        colorbar={"ticksuffix": " %", "thickness": 10, "outlinewidth": 0},
    )
    layout = go.Layout(
        hovermode="closest",
        xaxis=axis_of_days(days).plotly(),
        yaxis={"autorange": "reversed", "type": "category", "showgrid": False},
    )
    return plain([trace], layout)
