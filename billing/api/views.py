"""Statements, prices and allocations of the caller's tenant, to read."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import django_filters
from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import mixins
from rest_framework.response import Response

from billing.api.queries import MonthQuery
from billing.api.serializers import (
    AllocationSerializer,
    PriceSerializer,
    StatementDetailSerializer,
    StatementSerializer,
)
from billing.models import Allocation, Price, Statement
from billing.prices import listed_prices
from billing.statements import statement_csv, statement_draft
from tenants import scope
from tenants.api.base import ReadOnlyTenantViewSet, TenantViewSet
from tenants.models import Tenant
from tenants.roles import Action


def _asked(query_class, request) -> dict[str, Any]:
    query = query_class(data=request.query_params.dict())
    query.is_valid(raise_exception=True)
    return query.validated_data


def _tenant() -> Tenant:
    return Tenant.objects.get(id=scope.current_tenant_id())


class StatementFilter(django_filters.FilterSet):
    state = django_filters.ChoiceFilter(choices=Statement.State.choices)


@extend_schema(tags=["statements"])
class StatementViewSet(mixins.ListModelMixin, TenantViewSet):
    """Monthly statements. A draft is what the month comes to so far."""

    model = Statement
    serializer_class = StatementSerializer
    filterset_class = StatementFilter
    default_role_action = Action.VIEW_COST

    @extend_schema(responses=StatementDetailSerializer)
    def retrieve(self, request, id) -> Response:
        return self.shown(StatementDetailSerializer, self.get_object())

    @extend_schema(parameters=[MonthQuery], responses=StatementDetailSerializer)
    def current(self, request) -> Response:
        """Compute the draft of the running month, or of the month asked for, and give it."""
        now = timezone.now()
        month = (
            _asked(MonthQuery, request).get("month") or now.astimezone(ZoneInfo(_tenant().time_zone)).date()
        )
        return self.shown(StatementDetailSerializer, statement_draft(month=month, now=now))

    @extend_schema(responses={(200, "text/csv"): OpenApiTypes.STR})
    def csv(self, request, id) -> HttpResponse:
        """Give the lines as CSV."""
        statement = self.get_object()
        name = f"statement-{statement.month:%Y-%m}.csv"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return HttpResponse(statement_csv(statement), content_type="text/csv; charset=utf-8", headers=headers)


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
