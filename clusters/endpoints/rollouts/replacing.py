"""Placing a new revision in the GPUs that the one before it has let go of."""

from __future__ import annotations

import datetime as dt

from django.db import transaction

from billing.errors import OverBudget
from clusters.endpoints import placement
from clusters.endpoints.planning import Market, OrderTerms
from clusters.endpoints.rollouts.closing import rollout_undo
from clusters.errors import PolicyRefused
from clusters.models import Endpoint, Revision, Rollout
from tenants.models import Tenant


def replace(endpoint: Endpoint, tenant: Tenant, rollout: Rollout, *, now: dt.datetime) -> Revision | None:
    """Place a change in place; where that cannot be had by now, have what ran before run again."""
    market = Market.read(tenant=tenant, besides=endpoint, lock=True)
    plan = market.plan(OrderTerms.of(endpoint))
    why = plan.message
    if plan.configuration is not None:
        try:
            with transaction.atomic():
                revision = placement.settle(endpoint, plan, market.capacities)
            return rollout_took(endpoint, rollout, revision, now=now)
        except (OverBudget, PolicyRefused) as error:
            why = error.message
    why = f"It cannot be placed by now: {why}"
    rollout_undo(endpoint, rollout, phase=Rollout.Phase.FAILED, why=why, now=now)
    return None


def rollout_took(
    endpoint: Endpoint, rollout: Rollout, revision: Revision | None, *, now: dt.datetime
) -> Revision | None:
    """Write down which revision a rollout brought; None while there is none."""
    if revision is not None:
        placement.begin_change(endpoint)
        rollout.revision, rollout.replicas = revision, revision.replicas
        rollout.reason = f"Revision {revision.number} is starting."
        rollout.phase, rollout.phase_since = Rollout.Phase.STARTING, now
        rollout.save(update_fields=["revision", "replicas", "reason", "phase", "phase_since"])
    return revision
