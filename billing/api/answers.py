"""Series of usage and cost as builtins, in the shape that :mod:`billing.api.serializers` tells the schema of.

A year by day and group has a hundred thousand values: each is written here once, without a field object between.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final

from rest_framework import serializers

from billing.costs import PLACES, Cost, CostGroup, Costs, Dimension
from billing.usage import UsagePoint

_MOMENT: Final = serializers.DateTimeField().to_representation
_MEASURES: Final = (
    "requests", "completed", "cancelled", "failed", "refused", "input_tokens", "output_tokens", "cached_tokens",
    "ttft_p50_ms", "ttft_p95_ms", "itl_p50_ms", "itl_p95_ms",
)  # fmt: skip


def usage_answer(asked: dict[str, Any], points: Iterable[UsagePoint]) -> dict[str, Any]:
    """Give points by bucket, as ``UsageSerializer`` says."""
    return _answer(asked, ((point, _usage(point)) for point in points))


def costs_answer(asked: dict[str, Any], costs: Costs) -> dict[str, Any]:
    """Give costs by bucket, as ``CostsSerializer`` says."""
    head = {"currency": costs.currency, "total": _cost(costs.total), "unpriced": list(costs.unpriced)}
    return _answer(asked, ((each, {"cost": _cost(each.cost)}) for each in costs.groups)) | head


def _answer(
    asked: dict[str, Any], results: Iterable[tuple[UsagePoint | CostGroup, dict[str, Any]]]
) -> dict[str, Any]:
    by_bucket = defaultdict(list)
    dimensions = asked["group_by"]
    for each, shown in results:
        by_bucket[each.start].append(_group(dimensions, each) | shown)
    intervals, following = asked["page"]
    return {
        "start": _MOMENT(asked["start"]),
        "end": _MOMENT(asked["end"]),
        "bucket_width": str(asked["bucket_width"]) if asked["bucket_width"] else None,
        "group_by": [str(each) for each in dimensions],
        "has_more": following is not None,
        "next_page": _MOMENT(following) if following else None,
        "data": [
            {"start": _MOMENT(start), "end": _MOMENT(end), "results": by_bucket[start]}
            for start, end in intervals
        ],
    }


_NO_GROUP: Final[dict[str, str | None]] = {each.value: None for each in Dimension}


def _group(dimensions: Sequence[Dimension], each: UsagePoint | CostGroup) -> dict[str, Any]:
    found = {dimension.value: value or None for dimension, value in zip(dimensions, each.group, strict=True)}
    return _NO_GROUP | found | {"label": ", ".join(each.labels)}


def _usage(point: UsagePoint) -> dict[str, Any]:
    return {name: getattr(point, name) for name in _MEASURES}


def _cost(cost: Cost) -> dict[str, Any]:
    return {
        "gpu_hours": _money(cost.gpu_hours),
        "idle_gpu_hours": _money(cost.idle_gpu_hours),
        "allocation": _money(cost.allocation),
        "idle": _money(cost.idle),
        "usage": _money(cost.usage),
        "charged": _money(cost.charged),
        "requests": cost.requests,
        "input_tokens": cost.input_tokens,
        "output_tokens": cost.output_tokens,
        "cached_tokens": cost.cached_tokens,
        "allocation_per_million_tokens": _money(cost.allocation_per_million_tokens),
        "usage_per_million_tokens": _money(cost.usage_per_million_tokens),
        "allocation_per_request": _money(cost.allocation_per_request),
        "usage_per_request": _money(cost.usage_per_request),
    }


def _money(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount:.{PLACES}f}"
