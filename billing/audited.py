"""What of money is audited: what people decide. What is counted and computed from it has ledgers of its own."""

from __future__ import annotations

from tenants.audit.registry import Audited, register

AUDITED = {
    "billing.Budget": Audited(
        "budget",
        (
            "name", "owner_kind", "owner_id", "unit", "basis", "policy", "currency", "limit", "period",
            "alert_percents", "mail_alerts", "recipients", "active",
        ),
    ),
    "billing.AssetRate": Audited(
        "asset-rate",
        ("cluster", "gpu_type", "amount", "currency", "effective_from", "note"),
        name="cluster",
        tenant="",
    ),
    "billing.BillingAccount": Audited(
        "billing-account",
        ("state", "reason", "accepted", "parked_at"),
        name="",
        verbs=(("parked_at", "*", "park"),),
    ),
    "billing.Statement": Audited(
        "statement",
        ("month", "state", "number", "document_sha256", "finalized_at"),
        name="month",
        verbs=(("finalized_at", "*", "finalize"),),
    ),
    "billing.Book": Audited("book", ("name", "note"), tenant=""),
    "billing.Price": Audited(
        "price",
        (
            "book_id", "kind", "gpu_type", "region", "model", "slo_class", "amount", "currency", "effective_from",
            "note",
        ),
        name="kind",
    ),
    "billing.Commitment": Audited(
        "commitment",
        ("name", "gpu_type", "region", "gpus", "rate", "currency", "starts_at", "ends_at", "note"),
    ),
    "billing.Credit": Audited(
        "credit",
        ("amount", "currency", "reason", "available_from", "expires_at"),
        name="reason",
    ),
}  # fmt: skip

_COUNTED = "counted from what clusters and gateways show"
_COMPUTED = "computed again at any time from what is counted"
_LEDGER = "the ledger's own, which never changes"

UNAUDITED = {
    "billing.Allocation": _COUNTED,
    "billing.AllocationPhase": _COUNTED,
    "billing.GpuClaim": _COUNTED,
    "billing.GpuWait": _COUNTED,
    "billing.GpuSupply": _COUNTED,
    "billing.Attainment": _COMPUTED,
    "billing.BudgetWindow": _COUNTED,
    "billing.BudgetLease": _COUNTED,
    "billing.BudgetAlert": _COUNTED,
    "billing.ClusterHour": _COMPUTED,
    "billing.ClusterDay": _COMPUTED,
    "billing.HeldHour": _COMPUTED,
    "billing.HeldDay": _COMPUTED,
    "billing.DueHour": _COMPUTED,
    "billing.EndpointLabel": "names of endpoints as of then, from endpoints that are audited",
    "billing.SharedPeriod": "when endpoints were shared, from endpoints that are audited",
    "billing.StatementNumber": "the counter of statements, which are audited",
    "billing.StatementLine": "of a statement, whose hash is audited when it becomes final",
    "billing.LateChange": _COUNTED,
    "billing.LedgerAccount": _LEDGER,
    "billing.LedgerTransaction": _LEDGER,
    "billing.LedgerEntry": _LEDGER,
    "billing.UsageDropped": _COUNTED,
    "billing.UsageRefusal": _COUNTED,
    "billing.GatewaySequence": _COUNTED,
    "billing.SequenceGap": _COUNTED,
    "billing.GatewayDay": _COUNTED,
    "billing.GatewayLogDay": _COUNTED,
    "billing.EngineTokens": _COUNTED,
    "billing.EndpointDay": _COMPUTED,
    "billing.EndpointMonth": _COMPUTED,
    "billing.ModelDay": _COMPUTED,
    "billing.ReportDay": _COMPUTED,
    "billing.UsageSegment": _COUNTED,
    "billing.UsageHour": _COMPUTED,
    "billing.UsageDay": _COMPUTED,
    "billing.UsageMinute": _COMPUTED,
    "billing.UsageMinutes": _COMPUTED,
    "billing.RollupMark": _COMPUTED,
}


def register_tables() -> None:
    """Tell the registry of them."""
    register(AUDITED, UNAUDITED)
