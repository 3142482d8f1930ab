from billing.models.allocations import Allocation
from billing.models.attainment import Attainment
from billing.models.budgets import Budget, BudgetAlert, BudgetLease, BudgetWindow, GpuClaim
from billing.models.gpu_time import (
    AllocationPhase,
    AssetRate,
    ClusterDay,
    ClusterHour,
    DueHour,
    GpuSupply,
    GpuWait,
    HeldDay,
    HeldHour,
)
from billing.models.labels import EndpointLabel, SharedPeriod
from billing.models.ledger import LedgerAccount, LedgerEntry, LedgerTransaction
from billing.models.metering import (
    EngineTokens,
    GatewayDay,
    GatewayLogDay,
    GatewaySequence,
    SequenceGap,
    UsageDropped,
    UsageRefusal,
)
from billing.models.prices import Book, Commitment, Credit, Price
from billing.models.reports import EndpointDay, EndpointMonth, ModelDay, ReportDay
from billing.models.statements import BillingAccount, LateChange, Statement, StatementLine, StatementNumber
from billing.models.usage import RollupMark, UsageDay, UsageHour, UsageMinute, UsageMinutes, UsageSegment

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
    "ClusterDay",
    "ClusterHour",
    "Commitment",
    "Credit",
    "DueHour",
    "EndpointDay",
    "EndpointLabel",
    "EndpointMonth",
    "EngineTokens",
    "GatewayDay",
    "GatewayLogDay",
    "GatewaySequence",
    "GpuClaim",
    "GpuSupply",
    "GpuWait",
    "HeldDay",
    "HeldHour",
    "LateChange",
    "LedgerAccount",
    "LedgerEntry",
    "LedgerTransaction",
    "ModelDay",
    "Price",
    "ReportDay",
    "RollupMark",
    "SequenceGap",
    "SharedPeriod",
    "Statement",
    "StatementLine",
    "StatementNumber",
    "UsageDay",
    "UsageDropped",
    "UsageHour",
    "UsageMinute",
    "UsageMinutes",
    "UsageRefusal",
    "UsageSegment",
]
