"""Usage and cost of the caller's tenant over time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from billing.api.queries import CostQuery, SeriesQuery, UsageQuery
from billing.api.serializers import CostsSerializer, UsageSerializer
from billing.costs import CostGroup, Dimension, cost_series
from billing.usage import UsagePoint, usage_series
from tenants.api.base import TenantScoped
from tenants.roles import Action


def _asked(query_class: type[SeriesQuery], request) -> dict[str, Any]:
    parameters = {name: ",".join(values) for name, values in request.query_params.lists()}
    query = query_class(data=parameters)
    query.is_valid(raise_exception=True)
    return query.validated_data


def _answer(asked: dict[str, Any], results: Sequence[tuple[Any, dict[str, Any]]]) -> dict[str, Any]:
    """Put results, each with the bucket's start that it belongs to, into the buckets of the page."""
    by_bucket = defaultdict(list)
    for start, result in results:
        by_bucket[start].append(result)
    intervals, following = asked["page"]
    return {
        "start": asked["start"],
        "end": asked["end"],
        "bucket_width": asked["bucket_width"],
        "group_by": asked["group_by"],
        "has_more": following is not None,
        "next_page": following,
        "data": [{"start": start, "end": end, "results": by_bucket[start]} for start, end in intervals],
    }


def _group(dimensions: Sequence[Dimension], each: UsagePoint | CostGroup) -> dict[str, Any]:
    found = dict(zip(dimensions, each.group, strict=True))
    return {
        **{dimension.value: found.get(dimension) or None for dimension in Dimension},
        "label": ", ".join(each.labels),
    }


@extend_schema(tags=["usage and cost"])
class UsageView(TenantScoped):
    """Requests, tokens and latencies by hour, day or month; seconds behind the requests."""

    default_role_action = Action.VIEW_COST

    @extend_schema(operation_id="usage_list", parameters=[UsageQuery], responses=UsageSerializer)
    def get(self, request) -> Response:
        asked = _asked(UsageQuery, request)
        intervals = asked["page"].intervals
        points = usage_series(
            start=intervals[0][0],
            end=intervals[-1][1],
            width=asked["bucket_width"],
            group_by=asked["group_by"],
            narrow=asked["narrow"],
            latency=asked["latency"],
        )
        results = [(point.start, vars(point) | _group(asked["group_by"], point)) for point in points]
        return Response(UsageSerializer(_answer(asked, results)).data)


@extend_schema(tags=["usage and cost"])
class CostView(TenantScoped):
    """What a period cost on both bases, as a whole or by hour, day or month, told apart by any dimensions."""

    default_role_action = Action.VIEW_COST

    @extend_schema(operation_id="costs_list", parameters=[CostQuery], responses=CostsSerializer)
    def get(self, request) -> Response:
        asked = _asked(CostQuery, request)
        intervals = asked["page"].intervals
        costs = cost_series(
            start=intervals[0][0],
            end=intervals[-1][1],
            width=asked["bucket_width"],
            group_by=asked["group_by"],
            narrow=asked["narrow"],
        )
        results = [
            (each.start, {"cost": each.cost} | _group(asked["group_by"], each)) for each in costs.groups
        ]
        answer = _answer(asked, results) | {
            "currency": costs.currency,
            "total": costs.total,
            "unpriced": costs.unpriced,
        }
        return Response(CostsSerializer(answer).data)
