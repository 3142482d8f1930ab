"""Budgets of all tenants, for operators to read."""

from __future__ import annotations

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from billing.api.budget_serializers import BudgetSerializer
from billing.api.budgets import with_states
from billing.models import Budget
from clusters.api.operators import OperatorViewSet
from tenants.api.filters import TrueOrFalseFilter
from tenants.roles import PlatformAction


class TenantBudgetSerializer(BudgetSerializer):
    """A tenant's budget with the window that runs."""

    tenant = serializers.SlugRelatedField(slug_field="slug", read_only=True)

    class Meta(BudgetSerializer.Meta):
        fields = [*BudgetSerializer.Meta.fields, "tenant"]


class TenantBudgetFilter(django_filters.FilterSet):
    tenant = django_filters.CharFilter(field_name="tenant__slug", help_text="Slug of the tenant.")
    active = TrueOrFalseFilter()


@extend_schema(tags=["budgets"])
class TenantBudgetViewSet(OperatorViewSet):
    """Budgets across tenants, with what each gateway holds of them."""

    default_platform_action = PlatformAction.VIEW_MONEY
    model = Budget
    serializer_class = TenantBudgetSerializer
    filterset_class = TenantBudgetFilter
    reason = "an operator reads budgets through the REST API"

    def rows(self) -> QuerySet[Budget]:
        return Budget.objects.select_related("tenant")

    @extend_schema(responses=TenantBudgetSerializer(many=True))
    def list(self, request) -> Response:
        """All budgets, newest first."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(TenantBudgetSerializer(with_states(page), many=True).data)

    @extend_schema(responses=TenantBudgetSerializer)
    def retrieve(self, request, id) -> Response:
        """One budget."""
        return self.shown(TenantBudgetSerializer, *with_states([self.get_object()]))
