"""The charts and the table of usage and cost, made from one counting: page, endpoint's tab and CSV show the same."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from billing.attainment import EndpointKept
from billing.costs import CostGroup, Costs, Dimension, Narrow, cost_series
from billing.usage import UsagePoint, usage_series
from portal.charts import Card, Point, TimeAxis
from portal.charts.bars import MOST_GROUPS, REST
from portal.charts.usage import cost_card, latency_card, per_unit_card, requests_card, tokens_card
from portal.pages.usage_asked import BASES, Asked

TABLE: Final = "groups"
#: With more endpoints than these, not each of them is counted over time.
_MANY: Final = 50


def counted(asked: Asked, now: dt.datetime) -> Costs:
    """Count what the page shows of cost and quantities."""
    return cost_series(
        start=asked.span.start, end=asked.span.end, width=asked.span.width, group_by=[asked.group],
        narrow=asked.narrow, now=now, names=asked.names,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Charted:
    """What the charts are drawn from.

    ``costs`` have the whole and its groups, ``over_time`` groups by bucket that sum to it, ``points`` the cost by
    bucket and group, ``order`` how groups are stacked where it is not by their size.
    """

    costs: Costs
    over_time: Sequence[CostGroup]
    points: Sequence[Point]
    order: Sequence[str] = ()


def charted(asked: Asked, now: dt.datetime) -> Charted:
    """Count what the charts show: of many endpoints, those over time that a chart has colours for, and all others."""
    many = asked.group is Dimension.ENDPOINT and len(asked.names.labels) > _MANY
    if not many or asked.narrow.values(Dimension.ENDPOINT) is not None:
        costs = counted(asked, now)
        return Charted(costs=costs, over_time=costs.groups, points=_cost_points(asked, costs.groups))
    common = {"start": asked.span.start, "end": asked.span.end, "now": now, "names": asked.names}
    by = {"group_by": [Dimension.ENDPOINT]}
    costs = cost_series(**common, **by, narrow=asked.narrow)
    dearest = sorted(
        (each for each in costs.whole if each.group[0]),
        key=lambda each: (-getattr(each.sums, asked.basis)(), each.label),
    )[: MOST_GROUPS - 1]
    width = {"width": asked.span.width}
    over_time = cost_series(**common, **width, narrow=asked.narrow).groups
    first = dict(asked.narrow.to) | {Dimension.ENDPOINT: tuple(each.group[0] for each in dearest)}
    points = (
        _cost_points(asked, cost_series(**common, **width, **by, narrow=Narrow.of(first)).groups)
        if dearest
        else []
    )
    return Charted(
        costs=costs, over_time=over_time, points=[*points, *_others(_cost_points(asked, over_time), points)],
        order=[*(each.label for each in dearest), REST],
    )  # fmt: skip


def _others(whole: Iterable[Point], some: Iterable[Point]) -> list[Point]:
    left = {point.at: point.value for point in whole}
    for point in some:
        left[point.at] -= point.value
    return [Point(at, REST, value) for at, value in left.items() if value]


def usage_cards(asked: Asked, drawn: Charted, kept: Sequence[EndpointKept]) -> list[Card]:
    """Give the charts that have something to show; ``kept`` tells the targets of latencies."""
    axis = asked.span.axis
    costs = drawn.costs
    groups = costs.whole
    priced = [each for each in groups if each.cost.tokens]
    by_request = [each for each in groups if each.cost.requests]
    cards = [
        cost_card(
            drawn.points, axis=axis, currency=costs.currency, order=drawn.order,
            title=f"Cost by {asked.group_label.lower()}: {BASES[asked.basis].lower()}",
        ),
        tokens_card(_tokens(drawn.over_time), axis=axis),
        requests_card(_requests(drawn.over_time), axis=axis),
        per_unit_card(
            id="per-million", title="Per million tokens", things=[each.label for each in priced],
            allocation=[each.cost.allocation_per_million_tokens for each in priced],
            usage=[each.cost.usage_per_million_tokens for each in priced],
            currency=costs.currency, thing=asked.group_label,
        ),
        per_unit_card(
            id="per-request", title="Per request", things=[each.label for each in by_request],
            allocation=[each.cost.allocation_per_request for each in by_request],
            usage=[each.cost.usage_per_request for each in by_request],
            currency=costs.currency, thing=asked.group_label,
        ),
        *(latency_cards(asked, axis, kept) if asked.latency else ()),
    ]  # fmt: skip
    return [card | {"csv_url": asked.csv_url(card["id"])} for card in cards if card]


def latency_cards(asked: Asked, axis: TimeAxis, kept: Sequence[EndpointKept]) -> list[Card | None]:
    """Give the charts of both latencies, against the targets of the classes that they are of, up to three."""
    points = usage_series(
        start=asked.span.start, end=asked.span.end, width=asked.span.width, narrow=asked.narrow, latency=True,
        names=asked.names,
    )  # fmt: skip
    by_start = {point.start: point for point in points}
    told = [by_start.get(moment) for moment in axis.moments]
    classes = _targets(asked, kept)
    return [
        latency_card(
            id=id, title=title, axis=axis, median=_values(told, f"{id}_p50_ms"), high=_values(told, f"{id}_p95_ms"),
            targets={f"Target, {name}": targets[place] for name, targets in classes.items() if targets[place]},
        )
        for place, (id, title) in enumerate(
            (("ttft", "Time to first token"), ("itl", "Time between tokens"))
        )
    ]  # fmt: skip


def group_rows(costs: Costs) -> list[dict[str, Any]]:
    """Give the table by group, dearest first."""
    return [{"label": each.label, "id": each.group[0], "cost": each.cost} for each in costs.whole]


def group_csv(asked: Asked, costs: Costs) -> list[Sequence[object]]:
    """Give the same by bucket and group, with a heading."""
    names = [
        "requests", "input_tokens", "cached_tokens", "output_tokens", "gpu_hours", "idle_gpu_hours", "allocation",
        "idle", "usage", "charged", "allocation_per_million_tokens", "usage_per_million_tokens",
        "allocation_per_request", "usage_per_request",
    ]  # fmt: skip
    labels = dict(zip(asked.span.axis.moments, asked.span.axis.labels, strict=True))
    rows = [
        [labels[each.start], each.label, *(getattr(each.cost, name) for name in names), costs.currency]
        for each in costs.groups
    ]
    return [[asked.span.axis.title.lower(), asked.group_label.lower(), *names, "currency"], *rows]


def _cost_points(asked: Asked, groups: Iterable[CostGroup]) -> list[Point]:
    return [
        Point(each.start, each.label, value)
        for each in groups
        if (value := getattr(each.sums, asked.basis)())
    ]


def _tokens(groups: Iterable[CostGroup]) -> dict[dt.datetime, tuple[int, int, int]]:
    counts: dict[dt.datetime, tuple[int, int, int]] = defaultdict(lambda: (0, 0, 0))
    for each in groups:
        _, input_tokens, output, cached = each.sums.counts
        old = counts[each.start]
        counts[each.start] = (old[0] + input_tokens, old[1] + cached, old[2] + output)
    return counts


def _requests(groups: Iterable[CostGroup]) -> dict[dt.datetime, list[int]]:
    counts: dict[dt.datetime, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for each in groups:
        counts[each.start] = [a + b for a, b in zip(counts[each.start], each.outcomes, strict=True)]
    return counts


def _targets(asked: Asked, kept: Sequence[EndpointKept]) -> dict[str, tuple[int | None, int | None]]:
    found = {each.slo_class: (each.last.ttft_p95_ms, each.last.itl_p95_ms) for each in kept}
    classes = asked.narrow.values(Dimension.SLO_CLASS)
    wanted = sorted(name for name in found if classes is None or name in classes)
    return {name: found[name] for name in wanted[:3]}


def _values(points: Sequence[UsagePoint | None], name: str) -> list[float | None]:
    return [getattr(point, name) if point else None for point in points]
