"""A tenant's charts: tokens by day, cost by day on both bases."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import plotly.graph_objects as go

from portal.charts.axis import axis_of_days
from portal.charts.bars import Point
from portal.charts.cards import daily_card, shown
from portal.charts.plain import plain


@dataclasses.dataclass(frozen=True, kw_only=True)
class UsageDay:
    """What one UTC day used and cost; ``input_tokens`` include ``cached_tokens``."""

    day: dt.date
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    allocation: Decimal
    usage: Decimal


def tokens_card(rows: Sequence[UsageDay], *, id: str) -> dict[str, Any] | None:
    """Give a chart of tokens by day, input, cached input and output stacked; None without tokens."""
    kinds = {
        "Input": lambda row: row.input_tokens - row.cached_tokens,
        "Cached input": lambda row: row.cached_tokens,
        "Output": lambda row: row.output_tokens,
    }
    points = [Point(row.day, kind, count(row)) for kind, count in kinds.items() for row in rows if count(row)]
    return daily_card(
        id=id,
        title="Tokens by day",
        points=points,
        days=[row.day for row in rows],
        unit="tokens",
        note="Days are UTC",
    )


def cost_card(rows: Sequence[UsageDay], *, id: str, currency: str) -> dict[str, Any] | None:
    """Give a chart of cost by day on both bases side by side; None where both are 0 throughout."""
    if not any(row.allocation or row.usage for row in rows):
        return None
    days = [row.day for row in rows]
    bases = {
        "GPU time held": [row.allocation for row in rows],
        "Tokens at the price list": [row.usage for row in rows],
    }
    traces = [
        go.Bar(
            name=name,
            x=[day.isoformat() for day in days],
            y=[float(amount) for amount in amounts],
            hovertemplate=f"%{{y:,.4~f}} {currency}",
        )
        for name, amounts in bases.items()
    ]
    layout = go.Layout(
        barmode="group",
        bargap=0.25,
        xaxis=axis_of_days(days).plotly(),
        yaxis={"title": {"text": currency}, "rangemode": "tozero"},
    )
    totals = [
        f"{shown(sum(amounts))} {currency} by {name[0].lower()}{name[1:]}" for name, amounts in bases.items()
    ]
    return {
        "id": id,
        "title": "Cost by day",
        "note": "Days are UTC",
        "figure": plain(traces, layout),
        "summary": f"In {len(days)} days: {' and '.join(totals)}. Only the first is charged.",
        "columns": ["Day", *(f"{name}, {currency}" for name in bases)],
        "rows": [
            [f"{row.day:%Y-%m-%d}", f"{row.allocation:,.4f}", f"{row.usage:,.4f}"] for row in reversed(rows)
        ],
    }
