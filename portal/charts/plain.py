"""From Plotly's objects to plain dicts."""

from __future__ import annotations

import html
import json
from typing import Any

import plotly.graph_objects as go


def plain(traces: list[Any], layout: go.Layout) -> dict[str, Any]:
    """Give ``data`` and ``layout`` as JSON would carry them, without Plotly's own theme."""
    figure = json.loads(go.Figure(data=traces, layout=layout).to_json())
    figure["layout"].pop("template", None)
    return {"data": figure["data"], "layout": figure["layout"]}


def escaped(name: str) -> str:
    """Write a name that people chose so that Plotly, which reads some HTML in labels, shows it as it is."""
    return html.escape(name, quote=False)
