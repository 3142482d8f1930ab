"""Paths of the billing room under /api/v1."""

from django.urls import path

from billing.api.attainment import AttainmentView
from billing.api.budgets import BudgetViewSet
from billing.api.commitments import CommitmentsUseView, CommitmentViewSet, CreditViewSet
from billing.api.events import UsageEventsView
from billing.api.statements import StatementLineViewSet, StatementViewSet
from billing.api.usage import CostView, UsageView
from billing.api.views import AllocationViewSet, PriceViewSet

READ_LIST, READ_ONE = {"get": "list"}, {"get": "retrieve"}

urlpatterns = [
    path("usage", UsageView.as_view()),
    path("usage-events", UsageEventsView.as_view()),
    path("costs", CostView.as_view()),
    path("slo-attainment", AttainmentView.as_view()),
    path("statements", StatementViewSet.as_view(READ_LIST)),
    path("statements/current", StatementViewSet.as_view({"get": "current"})),
    path("statements/<uuid:id>", StatementViewSet.as_view(READ_ONE)),
    path("statements/<uuid:id>/lines", StatementLineViewSet.as_view(READ_LIST)),
    path("statements/<uuid:id>/pdf", StatementViewSet.as_view({"get": "pdf"})),
    path("statements/<uuid:id>/csv", StatementViewSet.as_view({"get": "csv"})),
    path("statements/<uuid:id>/focus.csv", StatementViewSet.as_view({"get": "focus_csv"})),
    path("statements/<uuid:id>/focus.parquet", StatementViewSet.as_view({"get": "focus_parquet"})),
    path("budgets", BudgetViewSet.as_view({"get": "list", "post": "create"})),
    path(
        "budgets/<uuid:id>",
        BudgetViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
    ),
    path("budgets/<uuid:id>/forecast", BudgetViewSet.as_view({"get": "forecast"})),
    path("budgets/<uuid:id>/windows", BudgetViewSet.as_view({"get": "windows"})),
    path("prices", PriceViewSet.as_view(READ_LIST)),
    path("prices/<uuid:id>", PriceViewSet.as_view(READ_ONE)),
    path("commitments", CommitmentViewSet.as_view(READ_LIST)),
    path("commitments/use", CommitmentsUseView.as_view()),
    path("commitments/<uuid:id>", CommitmentViewSet.as_view(READ_ONE)),
    path("credits", CreditViewSet.as_view(READ_LIST)),
    path("credits/<uuid:id>", CreditViewSet.as_view(READ_ONE)),
    path("allocations", AllocationViewSet.as_view(READ_LIST)),
    path("allocations/<uuid:id>", AllocationViewSet.as_view(READ_ONE)),
]
