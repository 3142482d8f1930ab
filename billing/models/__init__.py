from billing.models.allocations import Allocation
from billing.models.attainment import Attainment
from billing.models.budgets import Budget, BudgetAlert, BudgetLease, BudgetWindow
from billing.models.gpu_time import AllocationPhase, AssetRate, ClusterHour, GpuSupply, HeldHour
from billing.models.labels import EndpointLabel, SharedPeriod
from billing.models.ledger import LedgerAccount, LedgerEntry, LedgerTransaction
from billing.models.prices import Book, Commitment, Credit, Price
from billing.models.reports import EndpointDay, EndpointMonth, ModelDay, PoolDay, PoolHour, ReportDay
from billing.models.statements import BillingAccount, Statement, StatementLine, StatementNumber
from billing.models.usage import RollupMark, UsageDay, UsageHour, UsageMinutes, UsageSegment

__all__ = [
    "Allocation",
    "AllocationPhase",
    "AssetRate",
    "Attainment",
    "BillingAccount",
    "Book",
    "Budget",
    "BudgetAlert",
    "BudgetLease",
    "BudgetWindow",
    "ClusterHour",
    "Commitment",
    "Credit",
    "EndpointDay",
    "EndpointLabel",
    "EndpointMonth",
    "GpuSupply",
    "HeldHour",
    "LedgerAccount",
    "LedgerEntry",
    "LedgerTransaction",
    "ModelDay",
    "PoolDay",
    "PoolHour",
    "Price",
    "ReportDay",
    "RollupMark",
    "SharedPeriod",
    "Statement",
    "StatementLine",
    "StatementNumber",
    "UsageDay",
    "UsageHour",
    "UsageMinutes",
    "UsageSegment",
]
