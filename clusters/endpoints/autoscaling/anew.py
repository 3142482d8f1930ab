"""Placing anew what sleeps in a pool that has no room for it: what that comes to, and whether it is agreed to."""

from __future__ import annotations

from clusters.endpoints.approvals.figures import planned
from clusters.endpoints.approvals.judging import judge
from clusters.endpoints.approvals.placing import slept_as
from clusters.endpoints.planning import Market, OrderTerms
from clusters.models import Endpoint, Revision
from clusters.planning.plans import Plan, PlanStatus


def plan_anew(endpoint: Endpoint, revision: Revision) -> Plan | None:
    """Plan what sleeps as ``revision`` anew; None where it would neither be placed nor wait for capacity.

    Raises:
        NeedsApproval: a rule wants somebody's approval for where it would be placed.
    """
    market = Market.read(tenant=endpoint.tenant, besides=endpoint)
    plan = market.plan(OrderTerms.of(endpoint))
    if plan.configuration is not None:
        figures = planned(endpoint, plan.configuration, market)
        judge(endpoint, figures, before=slept_as(endpoint, revision, market), granted=None)
    return plan if plan.status in (PlanStatus.PLACED, PlanStatus.NO_CAPACITY) else None
