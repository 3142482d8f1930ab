"""The wire contract between the control plane and its gateways.

All messages are JSON. A :class:`Snapshot` flows down by long poll; batches of :class:`UsageSegment`,
:class:`ReplicaReports` and :class:`LeaseReport` flow up. Both sides import this package and nothing else of each
other.

Times are UTC. Token counts are integers as the engine reported them. Amounts of money are decimal strings.
Durations are seconds as floats.
"""

from gateway.contract.budgets import (
    LEASES_PATH,
    Budget,
    BudgetPeriod,
    BudgetUnit,
    Grant,
    LeaseAnswer,
    LeaseLine,
    LeaseReport,
    budget_window,
)
from gateway.contract.owners import Key, Owner, Project, RateLimits, Tenant
from gateway.contract.reports import (
    MOST_REPORTED_BYTES,
    MOST_REPORTS,
    REPLICAS_PATH,
    REPORTED_METRICS,
    ReplicaReport,
    ReplicaReports,
)
from gateway.contract.serving import (
    MOST_TOKENIZER_BYTES,
    TOKENIZERS_PATH,
    Elsewhere,
    Endpoint,
    EngineProtocol,
    NamedRoute,
    OnOverload,
    Replica,
    Route,
    RouteRule,
    RouteTarget,
    SloClass,
    SpecialTokens,
    Timeouts,
    TokenPrices,
)
from gateway.contract.snapshot import SCHEMA, SNAPSHOT_PATH, Snapshot
from gateway.contract.usage import (
    ITL_BOUNDS_MS,
    LATENCY_BOUNDS_MS,
    USAGE_PATH,
    Outcome,
    Refused,
    UsageBatch,
    UsageReceipt,
    UsageSegment,
)

__all__ = [
    "ITL_BOUNDS_MS",
    "LATENCY_BOUNDS_MS",
    "LEASES_PATH",
    "MOST_REPORTED_BYTES",
    "MOST_REPORTS",
    "MOST_TOKENIZER_BYTES",
    "REPLICAS_PATH",
    "REPORTED_METRICS",
    "SCHEMA",
    "SNAPSHOT_PATH",
    "TOKENIZERS_PATH",
    "USAGE_PATH",
    "Budget",
    "BudgetPeriod",
    "BudgetUnit",
    "Elsewhere",
    "Endpoint",
    "EngineProtocol",
    "Grant",
    "Key",
    "LeaseAnswer",
    "LeaseLine",
    "LeaseReport",
    "NamedRoute",
    "OnOverload",
    "Outcome",
    "Owner",
    "Project",
    "RateLimits",
    "Refused",
    "Replica",
    "ReplicaReport",
    "ReplicaReports",
    "Route",
    "RouteRule",
    "RouteTarget",
    "SloClass",
    "Snapshot",
    "SpecialTokens",
    "Tenant",
    "Timeouts",
    "TokenPrices",
    "UsageBatch",
    "UsageReceipt",
    "UsageSegment",
    "budget_window",
]
