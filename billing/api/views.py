"""Usage, costs, prices and allocations of the caller's tenant, to read."""

from __future__ import annotations

from typing import Any

import django_filters
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from billing.api.queries import WIDTHS, DailyQuery, PeriodQuery, UsageQuery
from billing.api.serializers import (
    AllocationSerializer,
    CostSummarySerializer,
    DailyCostsSerializer,
    PriceSerializer,
    UsageSerializer,
)
from billing.costs import cost_summary, daily_costs
from billing.models import Allocation, Price
from billing.prices import listed_prices
from billing.usage import usage_series
from tenants import scope
from tenants.api.base import ReadOnlyTenantViewSet, TenantScoped
from tenants.models import Tenant
from tenants.roles import Action


def _asked(query_class, request) -> dict[str, Any]:
    query = query_class(data=request.query_params.dict())
    query.is_valid(raise_exception=True)
    return query.validated_data


def _tenant() -> Tenant:
    return Tenant.objects.get(id=scope.current_tenant_id())


@extend_schema(tags=["usage and cost"])
class UsageView(TenantScoped):
    """Requests, tokens and latencies by hour or UTC day; seconds behind the requests."""

    default_role_action = Action.VIEW_COST

    @extend_schema(operation_id="usage_list", parameters=[UsageQuery], responses=UsageSerializer)
    def get(self, request) -> Response:
        asked = _asked(UsageQuery, request)
        points = usage_series(
            start=asked["start"],
            end=asked["end"],
            bucket=WIDTHS[asked["bucket_width"]],
            group_by=asked.get("group_by", ""),
            endpoint_id=asked.get("endpoint_id"),
        )
        return Response(UsageSerializer({**asked, "results": points}).data)


@extend_schema(tags=["usage and cost"])
class CostView(TenantScoped):
    """What a period cost on both bases, by project and endpoint."""

    default_role_action = Action.VIEW_COST

    @extend_schema(operation_id="costs_retrieve", parameters=[PeriodQuery], responses=CostSummarySerializer)
    def get(self, request) -> Response:
        return Response(CostSummarySerializer(cost_summary(**_asked(PeriodQuery, request))).data)


@extend_schema(tags=["usage and cost"])
class DailyCostView(TenantScoped):
    """Cost by UTC day, of everything or by project or endpoint."""

    default_role_action = Action.VIEW_COST

    @extend_schema(operation_id="costs_daily_list", parameters=[DailyQuery], responses=DailyCostsSerializer)
    def get(self, request) -> Response:
        asked = _asked(DailyQuery, request)
        answer = {**asked, "currency": _tenant().currency, "results": daily_costs(**asked)}
        return Response(DailyCostsSerializer(answer).data)


class PriceFilter(django_filters.FilterSet):
    kind = django_filters.ChoiceFilter(choices=Price.Kind.choices)
    model = django_filters.CharFilter()
    gpu_type = django_filters.CharFilter()


@extend_schema(tags=["usage and cost"])
class PriceViewSet(ReadOnlyTenantViewSet):
    """The prices that hold for the tenant in its currency, with what was and what will be: the list's and its own."""

    model = Price
    serializer_class = PriceSerializer
    filterset_class = PriceFilter
    default_role_action = Action.VIEW_COST

    def rows(self):
        tenant = _tenant()
        return listed_prices(tenant_id=tenant.id).filter(currency=tenant.currency)


class AllocationFilter(django_filters.FilterSet):
    endpoint_id = django_filters.UUIDFilter()
    held = django_filters.BooleanFilter(
        field_name="ended_at",
        lookup_expr="isnull",
        help_text="true: only GPUs held now; false: only released.",
    )


@extend_schema(tags=["usage and cost"])
class AllocationViewSet(ReadOnlyTenantViewSet):
    """Intervals in which replicas held GPUs."""

    model = Allocation
    serializer_class = AllocationSerializer
    filterset_class = AllocationFilter
    default_role_action = Action.VIEW_COST
