"""Moving an endpoint into one pool and shape that a re-plan found for it, beside what it runs now."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from django.db import transaction

from clusters.endpoints import placement
from clusters.endpoints.approvals.figures import planned, running
from clusters.endpoints.approvals.judging import tripped
from clusters.endpoints.history import record
from clusters.endpoints.planning import Market, OrderTerms
from clusters.endpoints.rollouts.opening import rollout_open
from clusters.endpoints.rollouts.terms import terms_document
from clusters.endpoints.wishes import bump, for_update
from clusters.errors import ApprovalNeeded
from clusters.models import Endpoint, Revision
from clusters.planning.plans import Plan


def plan_into(endpoint: Endpoint, target: Mapping[str, Any], market: Market) -> Plan:
    """Plan an endpoint's order into the target's pool, GPU type, precision, TP and PP alone, as for any order.

    Raises:
        Invalid: its order contradicts the catalog by now.
    """
    terms = OrderTerms.of(endpoint)
    keeping = {name: target[name] for name in ("gpu", "precision", "tp", "pp")}
    there = dataclasses.replace(
        market, pools=[pool for pool in market.pools if pool.id == target["pool"]], classes=[]
    )
    plan = there.plan(dataclasses.replace(terms, pins={**terms.pins, **keeping}))
    # What these pins cost says nothing to the tenant, who did not set them.
    return dataclasses.replace(plan, pin_costs=())


@transaction.atomic
def endpoint_relocate(
    *, endpoint: Endpoint, plan: Plan, market: Market, actor: str, why: str, if_generation: int
) -> Revision:
    """Place a new revision by ``plan`` beside what runs, which serves until the new engines do.

    ``plan`` is placed, made by :func:`plan_into` from ``market``, whose pools are held. The operators' choice of a
    cluster is not touched: Berth goes on choosing.

    Raises:
        Stale: it was changed meanwhile.
        Conflict: it is being deleted.
        ApprovalNeeded: a rule of the tenant wants somebody's approval.
    """
    endpoint = for_update(endpoint, if_generation)
    current = placement.current_revision(endpoint)
    if plan.configuration is not None:
        trips = tripped(
            endpoint,
            planned(endpoint, plan.configuration, market),
            before=running(endpoint, current, market) if current else None,
        )
        if trips:
            raise ApprovalNeeded(
                f"It needs approval: {' '.join(trip.reason for trip in trips)}",
                rules=[trip.to_document() for trip in trips],
            )
    bump(endpoint)
    record(endpoint, "move", why, actor=actor)
    revision = placement.settle(endpoint, plan, market.capacities)
    if revision is None:
        raise ValueError(f"the plan for {endpoint.name} is not placed")
    placement.begin_change(endpoint)
    back = terms_document(endpoint)
    rollout_open(endpoint, before=current, revision=revision, back=back, what=why, actor=actor)
    return revision
