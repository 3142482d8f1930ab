"""Planning an endpoint anew while it runs: what would come of it, and doing it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from clusters.endpoints import placement
from clusters.endpoints.approvals.asking import approvable, is_held
from clusters.endpoints.approvals.figures import planned, running
from clusters.endpoints.approvals.judging import judge
from clusters.endpoints.blueprint import SpecUnusable, kept_spec, patient
from clusters.endpoints.evaluations.traits import planned_changes
from clusters.endpoints.history import record
from clusters.endpoints.load.measured import as_ordered, figure, measured_terms
from clusters.endpoints.planning import Market, OrderTerms
from clusters.endpoints.policy.in_force import refuse_by_policy
from clusters.endpoints.pools import released
from clusters.endpoints.pricing import held_price
from clusters.endpoints.rollouts.closing import change_give_up, rollout_of
from clusters.endpoints.rollouts.opening import rollout_open
from clusters.endpoints.rollouts.outage import expected_outage
from clusters.endpoints.rollouts.terms import terms_document, terms_running
from clusters.endpoints.wishes import bump, for_update, refusals
from clusters.models import ApprovalRequest, Endpoint, Reservation, Revision, Rollout, RolloutWay, Wanted
from clusters.planning.plans import Configuration, Plan, PlanStatus
from tenants.errors import Conflict, Invalid
from tenants.validation import clean

#: What is ordered anew rather than planned anew: gateways, labels and prices go by it.
FIXED = ("model", "slo_class", "residency", "certifications", "cluster")
#: How a re-plan finds its GPUs unless its caller says otherwise: nothing that runs is stopped for it.
BESIDE = (RolloutWay.SURGE,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Replan:
    """What planning an endpoint anew comes to. ``current`` is what runs now, None while nothing does.

    ``in_place``: only the number of replicas changes, and the engines that run stay. Otherwise ``way`` says where a
    new revision would find its GPUs, None where it cannot be placed at all.
    """

    terms: OrderTerms
    plan: Plan
    market: Market
    current: Revision | None
    in_place: bool
    way: str | None = None

    @property
    def deploys(self) -> bool:
        """Whether anything else would run than what runs now."""
        chosen = self.plan.configuration
        if chosen is None or self.current is None:
            return chosen is not None
        return not self.in_place or chosen.replicas != self.current.replicas

    @property
    def price_now(self) -> Decimal:
        """What the GPUs that it holds now cost per hour."""
        return held_price(self.current, self.market.pools) if self.current else Decimal(0)

    @property
    def price_after(self) -> Decimal | None:
        """What it would cost per hour, None where it cannot be placed so."""
        return self.plan.configuration.price_per_hour if self.plan.configuration else None


def replan_find(
    *, endpoint: Endpoint, terms: OrderTerms, market: Market, ways: Sequence[str] = BESIDE
) -> Replan:
    """Plan a running endpoint by ``terms``, changing nothing. ``market`` is read besides it.

    The GPUs that it holds count as free where its engines could stay; another configuration has to find room
    beside them, as both run until the new one serves, unless ``ways`` have it take theirs.

    Raises:
        Invalid: the terms contradict each other.
    """
    current = placement.current_revision(endpoint)
    if current is not None:
        own = dataclasses.replace(market, pools=released(market.pools, current))
        plan = own.plan(terms)
        if plan.configuration is not None and _runs_so(current, plan.configuration, terms):
            return Replan(terms=terms, plan=plan, market=market, current=current, in_place=True)
        beside = market.plan(terms)
        for way in ways:
            fitting = beside if way == RolloutWay.SURGE else plan
            if _goes(way, current, fitting):
                return Replan(
                    terms=terms, plan=fitting, market=market, current=current, in_place=False, way=way
                )
        return Replan(terms=terms, plan=beside, market=market, current=current, in_place=False)
    return Replan(terms=terms, plan=market.plan(terms), market=market, current=current, in_place=False)


def _goes(way: str, current: Revision, plan: Plan) -> bool:
    chosen = plan.configuration
    if chosen is None or way != RolloutWay.BORROW:
        return chosen is not None
    reservation = Reservation.objects.held().filter(revision=current).first()
    one_node = (
        reservation is not None and reservation.span == 1 and all(len(each) == 1 for each in chosen.nodes)
    )
    return one_node and current.replicas > 1 and chosen.pool == str(current.pool)


def _replan_wish(
    *, endpoint: Endpoint, terms: OrderTerms | None = None, ways: Sequence[str] = BESIDE, **_: Any
) -> dict[str, Any]:
    terms = terms or measured_terms(endpoint)
    wished = {name: value for name, value in terms.to_fields().items() if name not in FIXED}
    if terms.model != endpoint.model:
        wished["model"] = terms.model.name
    return {"terms": wished, "ways": list(ways)}


@approvable(
    ApprovalRequest.What.REPLAN,
    wish=_replan_wish,
    title=lambda *, endpoint, **_: f"Plan {endpoint.name} anew",
)
def endpoint_replan(
    *,
    endpoint: Endpoint,
    actor: str,
    terms: OrderTerms | None = None,
    ways: Sequence[str] = BESIDE,
    if_generation: int | None = None,
    granted: ApprovalRequest | None = None,
) -> Endpoint:
    """Take ``terms`` over into the order, by default the load that was measured, and run what they need.

    Where only the number of replicas differs, engines are added or drained; otherwise a rollout brings a new revision
    by the first of ``ways`` that goes, beside what runs by default. A paused or waiting endpoint is planned by the new
    terms when its time comes.

    Raises:
        Invalid: the terms contradict each other, change what is ordered anew, or name a model that is withdrawn.
        Conflict: nothing would change; nothing was measured; there is no room; ``extra`` holds the refusals.
        OverQuota: the tenant may not hold that many GPUs.
        PolicyRefused: the tenant's policy does not allow it.
    """
    endpoint = for_update(endpoint, if_generation)
    if is_held(endpoint):
        raise Conflict(f"{endpoint.name} waits for approval as it was ordered; change it with its request.")
    before, back = OrderTerms.of(endpoint), terms_running(endpoint)
    if terms is None:
        terms = measured_terms(endpoint)
    _refuse_other_order(before, terms)
    _refuse_withdrawn(before, terms)
    for name, value in terms.to_fields().items():
        setattr(endpoint, name, value)
    clean(endpoint)
    serving = endpoint.wanted == Wanted.RUNNING and placement.current_revision(endpoint) is not None
    if not serving and terms == before:
        raise Conflict(f"Nothing would change: {endpoint.name} is ordered so.")
    if serving:
        _carry_out(endpoint, before, terms, ways, back, actor, granted)
    endpoint.restoring = None
    endpoint.cleared = endpoint.cleared and serving
    bump(endpoint, "restoring", "cleared", *terms.to_fields())
    record(endpoint, "replanned", f"Planned anew. {order_changes(before, terms)}", actor=actor)
    as_ordered(endpoint)
    return endpoint


def order_changes(before: OrderTerms, after: OrderTerms) -> str:
    """Say what of an order changes, in one sentence."""
    changes = [
        f"{name.replace('_', ' ')} {_shown(old)} -> {_shown(new)}"
        for name in before.to_fields()
        if (old := getattr(before, name)) != (new := getattr(after, name))
    ]
    return f"Changed: {', '.join(changes)}." if changes else "The order stays as it was."


def _carry_out(
    endpoint: Endpoint,
    before: OrderTerms,
    terms: OrderTerms,
    ways: Sequence[str],
    back: Mapping[str, Any],
    actor: str,
    granted: ApprovalRequest | None,
) -> None:
    market = Market.read(tenant=endpoint.tenant, besides=endpoint, lock=True)
    found = replan_find(endpoint=endpoint, terms=terms, market=market, ways=ways)
    active = rollout_of(endpoint)
    if active is not None and active.revision is None and terms == before:
        raise Conflict(f"Nothing would change: this change of {endpoint.name} is under way. {active.reason}")
    if not found.deploys and terms == before and found.plan.status == PlanStatus.PLACED:
        raise Conflict(f"Nothing would change: {endpoint.name} runs as it would be planned now.")
    waits = active is not None and active.revision is None
    if (waits or not found.in_place) and change_give_up(endpoint, actor=actor):
        # One change at a time: what was on its way is given up for this, be it for what runs already.
        found = replan_find(endpoint=endpoint, terms=terms, market=market, ways=ways)
    chosen = found.plan.configuration
    refuse_by_policy(found.plan, market.policy, refusals(found.plan))
    if chosen is None or found.current is None:
        raise Conflict(
            f"{endpoint.name} cannot be run so now: {found.plan.message}", refusals=refusals(found.plan)
        )
    judge(
        endpoint,
        planned(endpoint, chosen, market),
        before=running(endpoint, found.current, market),
        granted=granted,
    )
    if not found.in_place:
        _roll_out(endpoint, found, before, back, actor)
    else:
        if chosen.replicas != found.current.replicas:
            placement.resize(endpoint, found.current, chosen.replicas)
        Rollout.objects.active().filter(endpoint=endpoint).update(wish=terms_document(endpoint))


def _roll_out(
    endpoint: Endpoint, found: Replan, before: OrderTerms, back: Mapping[str, Any], actor: str
) -> None:
    assert found.current is not None
    chosen, revision, outage = found.plan.configuration, None, None
    if found.way in (None, RolloutWay.SURGE):
        revision = placement.settle(endpoint, found.plan, found.market.capacities)
        placement.begin_change(endpoint)
    elif found.way == RolloutWay.REPLACE and chosen is not None:
        outage = expected_outage(
            endpoint,
            model=found.terms.model,
            runtime=chosen.runtime,
            cluster=chosen.cluster,
            evaluated=bool(planned_changes(found.current, chosen, found.terms)),
        )
    rollout_open(
        endpoint,
        before=found.current,
        revision=revision,
        way=found.way or RolloutWay.SURGE,
        replicas=chosen.replicas if chosen else None,
        back=back,
        what=order_changes(before, found.terms),
        outage=outage,
        actor=actor,
    )


def _refuse_other_order(before: OrderTerms, terms: OrderTerms) -> None:
    changed = [name for name in FIXED if getattr(before, name) != getattr(terms, name)]
    if changed == ["model"] and before.model.is_kin(terms.model):
        return
    if changed == ["model"]:
        text = (
            f"{terms.model.name} is no variant of {before.model.name}, nor of what that was made from; order "
            "another endpoint for it."
        )
        raise Invalid(text, errors={"model": [text]})
    if changed:
        raise Invalid(
            f"{changed[0].replace('_', ' ').capitalize()} cannot be changed by planning anew; order another "
            "endpoint for that.",
            errors={name: ["Cannot be changed by planning anew."] for name in changed},
        )


def _refuse_withdrawn(before: OrderTerms, terms: OrderTerms) -> None:
    if terms.model != before.model and not terms.model.published:
        text = f"The model {terms.model.name} is no longer offered."
        raise Invalid(text, errors={"model": [text]})


def _runs_so(current: Revision, chosen: Configuration, terms: OrderTerms) -> bool:
    """Say whether ``current`` is run as ``chosen`` says, but for the number of replicas."""
    same = (
        str(current.pool), current.runtime, current.precision, current.tensor_parallel,
        current.pipeline_parallel, current.max_batch_size, current.context_tokens,
    ) == (
        chosen.pool, chosen.runtime, chosen.precision, chosen.tp,
        chosen.pp, chosen.max_batch_size, terms.context_tokens or terms.model.context_tokens,
    )  # fmt: skip
    if not same:
        return False
    try:
        kept = kept_spec(current)
        return (kept.model, kept.tuning) == (terms.model.name, patient(chosen.tuning, terms.slo_class))
    except SpecUnusable:
        return False


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "none"
    if isinstance(value, float):
        return figure(value)
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {each}" for name, each in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value)
