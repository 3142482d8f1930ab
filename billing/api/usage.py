"""Usage and cost of the caller's tenant over time."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from billing.api.answers import costs_answer, usage_answer
from billing.api.queries import CostQuery, SeriesQuery, UsageQuery
from billing.api.serializers import CostsSerializer, UsageSerializer
from billing.costs import cost_series
from billing.usage import usage_series
from tenants.api.base import TenantScoped
from tenants.roles import Action


def _asked(query_class: type[SeriesQuery], request) -> dict[str, Any]:
    parameters = {name: ",".join(values) for name, values in request.query_params.lists()}
    query = query_class(data=parameters)
    query.is_valid(raise_exception=True)
    return query.validated_data


@extend_schema(tags=["usage and cost"])
class UsageView(TenantScoped):
    """Requests, tokens and latencies by hour, day or month; seconds behind the requests."""

    default_role_action = Action.VIEW_COST
    project_field = ""  # the query is narrowed

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
        return Response(usage_answer(asked, points))


@extend_schema(tags=["usage and cost"])
class CostView(TenantScoped):
    """What a period cost on both bases, as a whole or by hour, day or month, told apart by any dimensions."""

    default_role_action = Action.VIEW_COST
    project_field = ""  # the query is narrowed

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
        return Response(costs_answer(asked, costs))
