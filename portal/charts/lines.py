"""Lines over time, with gaps where nothing was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import plotly.graph_objects as go

from portal.charts.axis import TimeAxis
from portal.charts.bars import short_name
from portal.charts.plain import plain

#: Up to so many buckets each point is marked, so that one between two gaps is seen.
_MARKED: Final = 62
_DASHES: Final = ("solid", "dash", "dot", "dashdot")


def time_lines(
    lines: Mapping[str, Sequence[float | None]],
    *,
    axis: TimeAxis,
    unit: str,
    targets: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Draw one line per name over the buckets of ``axis``; None leaves a gap. Targets are level, dotted lines.

    Lines differ in dash as well as in colour.
    """
    mode = "lines+markers" if len(axis.labels) <= _MARKED else "lines"
    traces = [
        go.Scatter(
            name=short_name(name),
            x=list(axis.labels),
            y=[None if value is None else round(value, 3) for value in values],
            mode=mode,
            line={"dash": _DASHES[number % len(_DASHES)], "width": 2},
            marker={"size": 5},
            connectgaps=False,
            hovertemplate=f"%{{y:,.3~f}} {unit}",
        )
        for number, (name, values) in enumerate(lines.items())
    ]
    traces += [
        go.Scatter(
            name=short_name(name),
            x=list(axis.labels),
            y=[target] * len(axis.labels),
            mode="lines" if len(axis.labels) > 1 else "markers",
            line={"dash": "dot", "width": 1.5},
            hovertemplate=f"%{{y:,.3~f}} {unit}",
        )
        for name, target in (targets or {}).items()
    ]
    layout = go.Layout(
        showlegend=len(traces) > 1,
        xaxis=axis.plotly(),
        yaxis={"title": {"text": unit}, "rangemode": "tozero"},
    )
    return plain(traces, layout)
