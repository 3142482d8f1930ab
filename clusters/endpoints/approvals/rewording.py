"""Changing what is asked for: by whoever decides, or by the asker who asks again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from django.db import transaction

from billing.allocations import label_write
from clusters.endpoints import placement
from clusters.endpoints.approvals.asking import hold, is_held, let_go, supersede
from clusters.endpoints.approvals.deciding import Asker
from clusters.endpoints.approvals.figures import Figures, planned, running
from clusters.endpoints.approvals.judging import NeedsApproval, Trip, tripped
from clusters.endpoints.approvals.placing import place_first
from clusters.endpoints.history import record
from clusters.endpoints.load.replanning import BESIDE, order_changes, replan_find
from clusters.endpoints.planning import Market, OrderTerms
from clusters.endpoints.policy.in_force import refuse_by_policy
from clusters.endpoints.wishes import bump, for_update, refusals, refuse_hopeless
from clusters.models import ApprovalRequest, CatalogModel, Endpoint, SloClass
from tenants.errors import Conflict, Invalid
from tenants.models import User
from tenants.validation import clean

What = ApprovalRequest.What

#: What may be changed of each wish.
CHANGEABLE: Final[dict[str, tuple[str, ...]]] = {
    What.ORDER: ("replicas", "residency", "slo_class", "pins"),
    What.RESUME: ("replicas",),
    What.SCALE: ("replicas",),
    What.REPLAN: ("replicas", "pins"),
}


def terms_wished(endpoint: Endpoint, request: ApprovalRequest) -> OrderTerms:
    """Give the terms that a request to plan anew wishes."""
    wished = dict(request.wish["terms"])
    for name in ("certifications", "approved_precisions"):
        if name in wished:
            wished[name] = tuple(wished[name])
    if "model" in wished:
        wished["model"] = CatalogModel.objects.filter(name=wished["model"]).first() or endpoint.model
    return dataclasses.replace(OrderTerms.of(endpoint), **wished)


def reword(request: ApprovalRequest, changes: Mapping[str, Any], *, actor: str) -> tuple[Figures, list[Trip]]:
    """Change a pending wish, and give what it comes to so and which rules that trips. The request is not saved.

    Raises:
        Invalid: that cannot be changed of it, or to that.
        Conflict, Impossible, OverQuota, PolicyRefused: it cannot be had so.
    """
    refuse_unchangeable(request.what, changes)
    endpoint = for_update(Endpoint.objects.get(id=request.endpoint_id), None)
    market = Market.read(tenant=endpoint.tenant, besides=endpoint, lock=True)
    current = placement.current_revision(endpoint)
    before = running(endpoint, current, market) if current else None
    if request.what == What.SCALE:
        if current is None:
            raise Conflict(f"{endpoint.name} does not run.")
        figures = running(endpoint, current, market, replicas=changes["replicas"])
        _note(request, {"replicas": (request.wish["replicas"], changes["replicas"])})
        request.wish = {**request.wish, "replicas": changes["replicas"]}
        request.title = f"Scale {endpoint.name} to {changes['replicas']} replicas"
        request.save(update_fields=["title"])
        return figures, tripped(endpoint, figures, before=before)
    terms = terms_wished(endpoint, request) if request.what == What.REPLAN else OrderTerms.of(endpoint)
    wished = changed_terms(terms, changes)
    _note(request, {name: (_told(terms, name), _told(wished, name)) for name in changes})
    if request.what == What.REPLAN:
        names = request.wish["terms"]
        fields = wished.to_fields() | {"model": wished.model.name}
        request.wish = request.wish | {"terms": {name: fields[name] for name in names}}
        ways = request.wish.get("ways", BESIDE)
        plan = replan_find(endpoint=endpoint, terms=wished, market=market, ways=ways).plan
    else:
        _take_over(endpoint, terms, wished, actor=actor)
        request.generation = endpoint.generation
        request.save(update_fields=["generation"])
        plan = market.plan(wished)
    refuse_hopeless(plan, market.policy)
    refuse_by_policy(plan, market.policy, refusals(plan))
    if plan.configuration is None:
        raise Conflict(f"It cannot be placed so now: {plan.message}", refusals=refusals(plan))
    figures = planned(endpoint, plan.configuration, market)
    return figures, tripped(endpoint, figures, before=before)


@transaction.atomic
def endpoint_ask_again(
    *,
    endpoint: Endpoint,
    actor: str,
    asked_by: Asker | User | None = None,
    changes: Mapping[str, Any] | None = None,
    if_generation: int | None = None,
) -> Endpoint:
    """Ask again for an endpoint whose request was refused, expired, or is to be another one.

    Where no rule wants anybody's approval any more, it is placed.

    Raises:
        Conflict: it does not wait for approval.
        Invalid: a change is none that can be made.
        Impossible, OverQuota, OverBudget, PolicyRefused: as for an order.
    """
    endpoint = for_update(endpoint, if_generation)
    if not is_held(endpoint):
        raise Conflict(f"{endpoint.name} does not wait for approval.")
    if changes:
        refuse_unchangeable(What.ORDER, changes)
        terms = OrderTerms.of(endpoint)
        _take_over(endpoint, terms, changed_terms(terms, changes), actor=actor)
    market = Market.read(tenant=endpoint.tenant, besides=endpoint, lock=True)
    plan = market.plan(OrderTerms.of(endpoint))
    refuse_hopeless(plan, market.policy)
    try:
        place_first(endpoint, plan, market)
    except NeedsApproval as need:
        hold(endpoint, need, asked_by=asked_by, asked_as=actor)
    else:
        supersede(endpoint, actor=actor)
        let_go(endpoint, "NotNeeded", "No rule asks for approval of it any more.")
    bump(endpoint)
    return endpoint


def refuse_unchangeable(what: str, changes: Mapping[str, Any]) -> None:
    """Refuse changes that a wish does not have.

    Raises:
        Invalid: there is one, or none at all.
    """
    known = CHANGEABLE.get(what, ())
    unknown = sorted(set(changes) - set(known))
    if unknown or not changes:
        told = f"What may be changed of it: {', '.join(known) or 'nothing; approve or refuse it'}."
        raise Invalid(told, errors={name: [told] for name in unknown} or {"changes": [told]})


def changed_terms(terms: OrderTerms, changes: Mapping[str, Any]) -> OrderTerms:
    """Give terms with changes.

    Raises:
        Invalid: one is out of bounds.
    """
    values = dict(changes)
    if isinstance(values.get("slo_class"), str):
        found = SloClass.objects.filter(name=values["slo_class"]).first()
        if found is None:
            raise Invalid(
                f"There is no class {values['slo_class']}.",
                errors={"slo_class": ["Choose one of the classes."]},
            )
        values["slo_class"] = found
    return dataclasses.replace(terms, **values)


def _take_over(endpoint: Endpoint, before: OrderTerms, terms: OrderTerms, *, actor: str) -> None:
    if before == terms:
        return
    for name, value in terms.to_fields().items():
        setattr(endpoint, name, value)
    clean(endpoint)
    endpoint.cleared = False
    bump(endpoint, "cleared", *terms.to_fields())
    label_write(
        endpoint_id=endpoint.id,
        project=endpoint.project,
        name=endpoint.name,
        model=terms.model.name,
        slo_class=terms.slo_class.name,
    )
    record(endpoint, "changed", order_changes(before, terms), actor=actor)


def _note(request: ApprovalRequest, changed: Mapping[str, tuple[Any, Any]]) -> None:
    known = dict(request.changed)
    for name, (old, new) in changed.items():
        known[name] = {"from": known.get(name, {}).get("from", old), "to": new}
    request.changed = known


def _told(terms: OrderTerms, name: str) -> Any:
    value = getattr(terms, name)
    return value.name if name == "slo_class" else dict(value) if name == "pins" else value
