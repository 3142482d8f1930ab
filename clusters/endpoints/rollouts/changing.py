"""Changing what was ordered while it serves: what would come of it, and beginning it."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import Any, Final

from django.utils import timezone

from clusters.endpoints.approvals.deciding import Asker
from clusters.endpoints.approvals.figures import planned, running
from clusters.endpoints.approvals.judging import Trip, tripped
from clusters.endpoints.evaluations.traits import planned_changes
from clusters.endpoints.load.replanning import Replan, endpoint_replan, order_changes, replan_find
from clusters.endpoints.planning import Market, OrderTerms
from clusters.endpoints.rollouts.outage import Outage, expected_outage
from clusters.endpoints.rollouts.policy import RolloutPolicy
from clusters.models import Endpoint, RolloutWay
from tenants.errors import Invalid

#: Numbers of an expected load, which no longer are those of a named profile when one is changed.
LOAD: Final = frozenset(
    {
        "requests_per_second",
        "burstiness",
        "input_tokens",
        "output_tokens",
        "input_cv",
        "output_cv",
        "prefix_share",
    }
)
CHANGEABLE: Final = (
    "model", "context_tokens", "output_limit", "pins", "approved_precisions", "replicas", "near", *sorted(LOAD),
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChangePlan:
    """What a change would come to, with nothing changed. ``way`` is None where no new revision is needed.

    ``begins_at`` is when it would begin. ``evaluates`` says what of it needs an evaluation first, ``trips`` which rules
    want somebody's agreement.
    """

    what: str
    found: Replan
    policy: RolloutPolicy
    way: str | None
    begins_at: dt.datetime
    outage: Outage | None
    evaluates: tuple[str, ...]
    trips: tuple[Trip, ...]


def changed_terms(endpoint: Endpoint, changes: Mapping[str, Any]) -> OrderTerms:
    """Give the terms of an order with changes; what is not named stays.

    Raises:
        Invalid: nothing is to change, or something that cannot be changed.
    """
    strange = sorted(set(changes) - set(CHANGEABLE))
    if strange or not changes:
        told = f"What can be changed: {', '.join(CHANGEABLE)}."
        raise Invalid(told, errors={name: [told] for name in strange} or {"changes": [told]})
    values = dict(changes)
    if "approved_precisions" in values:
        values["approved_precisions"] = tuple(values["approved_precisions"])
    if LOAD & set(values):
        values["profile"] = ""
    return dataclasses.replace(OrderTerms.of(endpoint), **values)


def endpoint_change(
    *,
    endpoint: Endpoint,
    changes: Mapping[str, Any],
    actor: str,
    asked_by: Asker | None = None,
    may_ask: bool = True,
) -> Endpoint:
    """Change the order and roll out what it needs, by the ways of its class. The endpoint is changed as it was read.

    Raises:
        Invalid, Conflict, Stale, OverQuota, OverBudget, PolicyRefused: as for planning it anew.
    """
    return endpoint_replan(
        endpoint=endpoint,
        terms=changed_terms(endpoint, changes),
        ways=tuple(endpoint.slo_class.rollout_ways),
        actor=actor,
        asked_by=asked_by,
        may_ask=may_ask,
        if_generation=endpoint.generation,
    )


def change_plan(
    *, endpoint: Endpoint, changes: Mapping[str, Any], now: dt.datetime | None = None
) -> ChangePlan:
    """Say what a change would come to: what would run, its price, the way there, an outage, an evaluation.

    Raises:
        Invalid: the terms contradict each other, or something cannot be changed.
    """
    now = now or timezone.now()
    before, terms = OrderTerms.of(endpoint), changed_terms(endpoint, changes)
    market = Market.read(tenant=endpoint.tenant, besides=endpoint)
    policy = RolloutPolicy.of(endpoint.slo_class)
    found = replan_find(endpoint=endpoint, terms=terms, market=market, ways=policy.ways)
    chosen, current = found.plan.configuration, found.current
    outage, evaluates, trips = None, [], []
    if chosen is not None and current is not None:
        evaluates = planned_changes(current, chosen, terms)
        figures = planned(endpoint, chosen, market)
        trips = tripped(endpoint, figures, before=running(endpoint, current, market))
        if found.way == RolloutWay.REPLACE:
            outage = expected_outage(
                endpoint,
                model=terms.model,
                runtime=chosen.runtime,
                cluster=chosen.cluster,
                evaluated=bool(evaluates),
            )
    waits = found.way == RolloutWay.REPLACE and current is not None and current.replicas > 0
    return ChangePlan(
        what=order_changes(before, terms),
        found=found,
        policy=policy,
        way=found.way,
        begins_at=policy.opens_at(now) if waits else now,
        outage=outage,
        evaluates=tuple(evaluates),
        trips=tuple(trips),
    )
