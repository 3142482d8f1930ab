"""Budgets of the caller's tenant: how they stand, and their limits."""

from __future__ import annotations

import django_filters
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from billing.api.budget_serializers import (
    BudgetChange,
    BudgetCreate,
    BudgetForecastSerializer,
    BudgetPastSerializer,
    BudgetSerializer,
    BudgetTermsSerializer,
)
from billing.budgets.selectors import budget_forecast, budget_states
from billing.budgets.services import budget_change, budget_create, budget_delete
from billing.models import Budget, BudgetWindow
from tenants.api.base import IF_MATCH, EditableTenantViewSet
from tenants.api.filters import PAGING, TrueOrFalseFilter, refuse_unknown_parameters
from tenants.api.idempotency import idempotent
from tenants.api.preconditions import content_version, etag, refuse_stale
from tenants.roles import Action


class BudgetFilter(django_filters.FilterSet):
    owner_kind = django_filters.ChoiceFilter(choices=Budget.OwnerKind.choices)
    owner_id = django_filters.UUIDFilter()
    active = TrueOrFalseFilter()


def with_states(budgets: list[Budget]) -> list[Budget]:
    """Put how they stand now beside ``budgets``."""
    for state in budget_states(budgets, now=timezone.now()):
        state.budget.state = state
    return budgets


@extend_schema(tags=["budgets"])
class BudgetViewSet(EditableTenantViewSet):
    """How much keys, projects and the tenant may spend, of requests or of GPU time, in each calendar window."""

    model = Budget
    serializer_class = BudgetSerializer
    filterset_class = BudgetFilter
    role_actions = dict.fromkeys(("create", "partial_update", "destroy"), Action.MANAGE_BUDGETS)

    def list(self, request) -> Response:
        """All budgets with their present windows."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(BudgetSerializer(with_states(page), many=True).data)

    @extend_schema(responses=BudgetForecastSerializer, operation_id="budgets_forecast")
    def forecast(self, request, id) -> Response:
        """Where its window that runs is expected to end, and when its limit would be reached."""
        return self.shown(BudgetForecastSerializer, budget_forecast(self.get_object(), now=timezone.now()))

    @extend_schema(responses=BudgetPastSerializer(many=True), operation_id="budgets_windows", filters=False)
    def windows(self, request, id) -> Response:
        """Its windows with what was spent in each, newest first. They are kept for 400 days."""
        refuse_unknown_parameters(request, PAGING)
        page = self.paginate_queryset(BudgetWindow.objects.filter(budget=self.get_object()))
        return self.get_paginated_response(BudgetPastSerializer(page, many=True).data)

    @extend_schema(request=BudgetCreate, responses={201: BudgetSerializer})
    @idempotent
    def create(self, request) -> Response:
        (budget,) = with_states([budget_create(**self.validated(BudgetCreate))])
        return self.created(BudgetSerializer, budget)

    @extend_schema(request=BudgetChange, responses=BudgetSerializer, parameters=[IF_MATCH])
    def partial_update(self, request, id) -> Response:
        changes = self.validated(BudgetChange)
        return self.versioned(budget_change(budget=self.to_edit(), **changes))

    @extend_schema(responses={204: None}, parameters=[IF_MATCH])
    def destroy(self, request, id) -> Response:
        """Remove a budget with its history. To keep that, make it inactive."""
        budget_delete(budget=self.to_edit())
        return Response(status=204)

    def to_edit(self) -> Budget:
        budget = self.locked()
        refuse_stale(self.request, content_version(BudgetTermsSerializer(budget).data))
        return budget

    def versioned(self, instance) -> Response:
        """Answer with a budget; its ETag follows the terms and not what is spent."""
        response = self.shown(BudgetSerializer, *with_states([instance]))
        response["ETag"] = etag(content_version(BudgetTermsSerializer(instance).data))
        return response
