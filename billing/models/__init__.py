from billing.models.allocations import Allocation
from billing.models.budgets import Budget, BudgetAlert, BudgetLease, BudgetWindow
from billing.models.labels import EndpointLabel
from billing.models.prices import Price
from billing.models.statements import Statement, StatementLine
from billing.models.usage import RollupMark, UsageDay, UsageHour, UsageMinutes, UsageSegment

__all__ = [
    "Allocation",
    "Budget",
    "BudgetAlert",
    "BudgetLease",
    "BudgetWindow",
    "EndpointLabel",
    "Price",
    "RollupMark",
    "Statement",
    "StatementLine",
    "UsageDay",
    "UsageHour",
    "UsageMinutes",
    "UsageSegment",
]
