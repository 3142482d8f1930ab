"""Placing what holds nothing: after an order, a pause, a wait for capacity. The rules are asked once it has a price."""

from __future__ import annotations

from clusters.endpoints import placement
from clusters.endpoints.approvals.figures import Figures, planned, running
from clusters.endpoints.approvals.judging import judge
from clusters.endpoints.autoscaling.bounds import agreed_replicas
from clusters.endpoints.planning import Market
from clusters.endpoints.waiting import gives_way
from clusters.models import ApprovalRequest, Endpoint, Revision
from clusters.planning.plans import Plan


def place_first(
    endpoint: Endpoint, plan: Plan, market: Market, *, granted: ApprovalRequest | None = None
) -> Revision | None:
    """Place an endpoint that holds nothing by its plan, or have it wait for capacity. Callers hold tenant and pools.

    What slept until now was agreed to where it slept: rules are asked about what gets worse.

    Raises:
        NeedsApproval: a rule wants somebody's approval first, and ``granted`` does not cover it.
        OverBudget: a budget has no room for it.
        PolicyRefused: the tenant's policy does not allow it.
    """
    slept = _slept(endpoint) if endpoint.cleared else None
    if plan.configuration is not None and (slept is not None or not endpoint.cleared):
        before = slept_as(endpoint, slept, market) if slept is not None else None
        judge(endpoint, planned(endpoint, plan.configuration, market), before=before, granted=granted)
    if gives_way(endpoint, plan):
        return None
    revision = placement.settle(endpoint, plan, market.capacities)
    if revision is not None and not endpoint.cleared:
        endpoint.cleared = True
        endpoint.save(update_fields=["cleared"])
    return revision


def slept_as(endpoint: Endpoint, revision: Revision, market: Market) -> Figures:
    """Give the figures of what sleeps with the replicas that were agreed to."""
    return running(endpoint, revision, market, replicas=agreed_replicas(endpoint, revision))


def _slept(endpoint: Endpoint) -> Revision | None:
    newest = (
        Revision.objects.filter(endpoint=endpoint).select_related("pool__cluster").order_by("-number").first()
    )
    return newest if newest is not None and newest.replicas == 0 else None


def granted_for(endpoint: Endpoint) -> ApprovalRequest | None:
    """Give the approval under which an endpoint waits to be placed: the last one, if nothing was wished since."""
    granted = ApprovalRequest.objects.filter(
        endpoint=endpoint,
        what__in=(ApprovalRequest.What.ORDER, ApprovalRequest.What.RESUME),
        state__in=ApprovalRequest.GRANTED,
        generation=endpoint.generation,
    )
    return granted.order_by("-decided_at").first()
