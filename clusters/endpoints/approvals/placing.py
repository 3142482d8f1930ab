"""Placing what holds nothing: after an order, a pause, a wait for capacity. The rules are asked once it has a price."""

from __future__ import annotations

from clusters.endpoints import placement
from clusters.endpoints.approvals.figures import planned
from clusters.endpoints.approvals.judging import judge
from clusters.endpoints.planning import Market
from clusters.endpoints.waiting import gives_way
from clusters.models import ApprovalRequest, Endpoint, Revision
from clusters.planning.plans import Plan


def place_first(
    endpoint: Endpoint, plan: Plan, market: Market, *, granted: ApprovalRequest | None = None
) -> Revision | None:
    """Place an endpoint that holds nothing by its plan, or have it wait for capacity. Callers hold tenant and pools.

    Raises:
        NeedsApproval: a rule wants somebody's approval first, and ``granted`` does not cover it.
        OverBudget: a budget has no room for it.
        PolicyRefused: the tenant's policy does not allow it.
    """
    if plan.configuration is not None and not endpoint.cleared:
        judge(endpoint, planned(endpoint, plan.configuration, market), before=None, granted=granted)
    if gives_way(endpoint, plan):
        return None
    revision = placement.settle(endpoint, plan, market.capacities)
    if revision is not None and not endpoint.cleared:
        endpoint.cleared = True
        endpoint.save(update_fields=["cleared"])
    return revision


def granted_for(endpoint: Endpoint) -> ApprovalRequest | None:
    """Give the approval under which an endpoint waits to be placed: the last one, if nothing was wished since."""
    granted = ApprovalRequest.objects.filter(
        endpoint=endpoint,
        what__in=(ApprovalRequest.What.ORDER, ApprovalRequest.What.RESUME),
        state__in=ApprovalRequest.GRANTED,
        generation=endpoint.generation,
    )
    return granted.order_by("-decided_at").first()
