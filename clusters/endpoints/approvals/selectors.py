"""Reading requests: the inbox, what an endpoint waits for, what an order would be asked about."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet

from clusters.endpoints.approvals.deciding import Decider, may_decide
from clusters.endpoints.approvals.figures import planned
from clusters.endpoints.approvals.judging import Trip, tripped
from clusters.endpoints.planning import Market, OrderTerms
from clusters.models import ApprovalRequest, Decides, Endpoint
from clusters.planning.plans import Plan
from tenants.api.caller import Operator
from tenants.models import Tenant


def request_list() -> QuerySet[ApprovalRequest]:
    """Give the requests of the open scope with what is shown of them, newest first; 2 queries."""
    rows = ApprovalRequest.objects.select_related("tenant", "endpoint", "asked_by", "decided_by")
    return rows.prefetch_related("signatures").order_by("-id")


def operators_requests(operator: Operator) -> QuerySet[ApprovalRequest]:
    """Give the requests that wait, or waited, for operators; of some clusters alone, those for GPUs there."""
    rows = request_list().filter(trips__contains=[{"decides": Decides.OPERATORS.value}])
    if operator.clusters is None:
        return rows
    return rows.filter(quote__cluster__in=list(operator.clusters.values()))


def request_of(endpoint: Endpoint) -> ApprovalRequest | None:
    """Give what an endpoint waits for approval of, else the last request about it; None where there was none."""
    rows = request_list().filter(endpoint=endpoint)
    return rows.pending().first() or rows.first()


def waits_for_approval(endpoint: Endpoint) -> bool:
    """Say whether a wish for an endpoint waits for somebody to agree."""
    return ApprovalRequest.objects.pending().filter(endpoint=endpoint).exists()


def inbox(decider: Decider) -> list[ApprovalRequest]:
    """Give the pending requests of the open scope that ``decider`` may decide upon, the oldest first."""
    rows = request_list().pending().order_by("id")
    return [request for request in rows if may_decide(request, decider)]


def order_trips(*, tenant: Tenant, terms: OrderTerms, plan: Plan, market: Market) -> list[Trip]:
    """Give the rules that a new order would trip as it is planned now; none where it has no price yet."""
    if plan.configuration is None:
        return []
    wished: dict[str, Any] = {name: value for name, value in terms.to_fields().items() if name != "cluster"}
    unsaved = Endpoint(tenant=tenant, **wished)
    return tripped(unsaved, planned(unsaved, plan.configuration, market), before=None)
