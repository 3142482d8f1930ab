"""From Plotly's objects to plain dicts."""

from __future__ import annotations

import datetime as dt
import html
import json
from collections.abc import Sequence
from typing import Any, Final

import plotly.graph_objects as go

_DAY_MS: Final = 86_400_000
_MOST_TICKS: Final = 10


def plain(traces: list[Any], layout: go.Layout) -> dict[str, Any]:
    """Give ``data`` and ``layout`` as JSON would carry them, without Plotly's own theme."""
    figure = json.loads(go.Figure(data=traces, layout=layout).to_json())
    figure["layout"].pop("template", None)
    return {"data": figure["data"], "layout": figure["layout"]}


def escaped(name: str) -> str:
    """Write a name that people chose so that Plotly, which reads some HTML in labels, shows it as it is."""
    return html.escape(name, quote=False)


def day_axis(days: Sequence[dt.date]) -> dict[str, Any]:
    """Give the x axis of whole days, with at most ten labels."""
    every = max(1, -(-len(days) // _MOST_TICKS))
    axis = {"type": "date", "tickformat": "%-d %b", "dtick": every * _DAY_MS, "hoverformat": "%a %-d %b %Y"}
    return axis | ({"tick0": days[0].isoformat()} if days else {})
