"""Decisions on replicas as they are written down, with what they cost, and what is remembered between looks."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any, Final

from clusters.endpoints.history import record
from clusters.endpoints.planning import pools_of
from clusters.endpoints.pricing import replica_price
from clusters.inventory.capacity import capacities
from clusters.models import Endpoint, EndpointScaling, Revision, ScalingDecision
from tenants import scope

#: How long decisions can be looked up: a year and the month in which it is talked about.
DECISIONS_KEPT: Final = dt.timedelta(days=400)


def decision_write(
    endpoint: Endpoint,
    revision: Revision,
    before: int,
    after: int,
    *,
    why: str,
    reason: str,
    now: dt.datetime,
    outcome: ScalingDecision.Outcome = ScalingDecision.Outcome.DONE,
    price_after: Decimal | None = None,
) -> ScalingDecision:
    """Write a decision down with what the tenant pays per hour before and after it, at today's prices.

    ``price_after`` is given where the replicas will be of another revision.
    """
    each = price_of_one(endpoint, revision)
    if outcome == ScalingDecision.Outcome.DONE:
        record(endpoint, "autoscaling", f"Replicas {before} -> {after}: {reason}")
    return ScalingDecision.objects.create(
        tenant_id=endpoint.tenant_id,
        endpoint=endpoint,
        at=now,
        revision=revision.number,
        before=before,
        after=after,
        outcome=outcome,
        why=why,
        reason=reason[:600],
        currency=endpoint.tenant.currency,
        price_before=each * before,
        price_after=each * after if price_after is None else price_after,
    )


def price_of_one(endpoint: Endpoint, revision: Revision) -> Decimal:
    """Give what one replica costs its tenant per hour."""
    pools = pools_of(capacities(pool_ids=[revision.pool_id]), endpoint.tenant)
    return replica_price(revision, pools)


def write_scaling(scaling: EndpointScaling, values: dict[str, Any]) -> None:
    """Write what changed. Whoever made it due meanwhile, or woke it, is not overruled."""
    changed = {name: value for name, value in values.items() if getattr(scaling, name) != value}
    row = EndpointScaling.objects.filter(id=scaling.id)
    if "due_at" in changed:
        due_at = changed.pop("due_at")
        row.filter(due_at=scaling.due_at, wanted_at=scaling.wanted_at).update(due_at=due_at)
    if changed:
        row.update(**changed)


def decisions_expire(*, now: dt.datetime) -> int:
    """Remove decisions older than :data:`DECISIONS_KEPT`; give how many those were."""
    with scope.platform("remove old decisions on replicas"):
        return ScalingDecision.objects.filter(at__lt=now - DECISIONS_KEPT).delete()[0]
