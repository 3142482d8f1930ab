"""A tenant's charts: cost, tokens and requests over time, cost per unit by group, and latency against its target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Final

from portal.charts.axis import TimeAxis
from portal.charts.bars import Moment, Point
from portal.charts.cards import Card, lines_card, ranked_card, series_card

TOKENS: Final = ("Input", "Cached input", "Output")
OUTCOMES: Final = ("Completed", "Cancelled", "Failed", "Refused")


def cost_card(
    points: Iterable[Point], *, axis: TimeAxis, currency: str, title: str, order: Iterable[str] = ()
) -> Card | None:
    """Give a chart of cost by bucket, stacked by group."""
    return series_card(id="cost", title=title, points=points, axis=axis, unit=currency, places=4, order=order)


def tokens_card(
    counts: Mapping[Moment, tuple[int, int, int]], *, axis: TimeAxis, id: str = "tokens"
) -> Card | None:
    """Give a chart of tokens by bucket; ``counts`` are input (cached ones among them), cached and output tokens."""
    points = [
        Point(at, kind, value)
        for at, (input_tokens, cached, output) in counts.items()
        for kind, value in zip(TOKENS, (input_tokens - cached, cached, output), strict=True)
        if value
    ]
    return series_card(id=id, title="Tokens", points=points, axis=axis, unit="tokens", order=TOKENS, places=0)


def requests_card(counts: Mapping[Moment, Sequence[int]], *, axis: TimeAxis) -> Card | None:
    """Give a chart of requests by bucket, by how they ended: ``counts`` in the order of :data:`OUTCOMES`."""
    points = [
        Point(at, outcome, value)
        for at, found in counts.items()
        for outcome, value in zip(OUTCOMES, found, strict=True)
        if value
    ]
    return series_card(
        id="requests", title="Requests by outcome", points=points, axis=axis, unit="requests", order=OUTCOMES,
        places=0,
    )  # fmt: skip


def per_unit_card(
    *,
    id: str,
    title: str,
    things: Sequence[str],
    allocation: Sequence[Decimal | None],
    usage: Sequence[Decimal | None],
    currency: str,
    thing: str,
) -> Card | None:
    """Give a chart of what a unit costs by group, on both bases."""
    series = {"GPU time held": allocation, "Tokens, list": usage}
    return ranked_card(id=id, title=title, things=things, series=series, unit=currency, thing=thing)


def latency_card(
    *,
    id: str,
    title: str,
    median: Sequence[float | None],
    high: Sequence[float | None],
    axis: TimeAxis,
    targets: Mapping[str, float],
) -> Card | None:
    """Give a chart of a latency's 50th and 95th percentile, in milliseconds, against targets for the latter."""
    return lines_card(
        id=id, title=title, lines={"p50": median, "p95": high}, axis=axis, unit="ms", targets=targets
    )
