"""Plans in people's words: what the quote panel shows."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec
from django.utils import timezone

from billing.budgets.reserving import BudgetEffect
from billing.rating.prices import MissingPrice, PriceBook, Subject
from clusters.endpoints.planning import OrderTerms
from clusters.endpoints.selectors import QuotaUse
from clusters.models import CatalogModel, Endpoint, Revision, SloClass
from clusters.planning.plans import Configuration, Plan, PlanStatus, Reason
from portal.pages.budgets import amount
from portal.pages.quote_choices import Link, choices
from portal.pages.quote_engine import engine_settings, memory, techniques, times
from portal.pages.refusals import refusal_rows
from portal.templatetags.berth import count, decimals, gib, money, ms, percent, sentence, short

HOURS_OF_30_DAYS: Final = 720

_PROBLEMS: Final = {
    PlanStatus.NO_CAPACITY: (
        "warn",
        "No capacity for this now",
        "You can order all the same: it takes the first GPUs that fit and costs nothing until then.",
    ),
    PlanStatus.OVER_QUOTA: (
        "danger",
        "Over your quota",
        "Pause or shrink another endpoint, or ask the operators for a larger quota.",
    ),
    PlanStatus.POLICY: (
        "danger",
        "Your policy does not allow this",
        "Change what stands in the way, or ask for an exception from the policy.",
    ),
    PlanStatus.IMPOSSIBLE: ("danger", "No cluster can run this", "Change what stands in the way."),
}


def show_plan(
    plan: Plan,
    *,
    currency: str,
    terms: OrderTerms,
    tokens: Sequence[dict[str, Any]] = (),
    quotas: Sequence[QuotaUse] = (),
    budgets: Sequence[BudgetEffect] = (),
    link: Link | None = None,
) -> dict[str, Any]:
    """Give a plan as ``components/quote.html`` takes it.

    ``quotas`` are what the tenant holds without this plan, ``budgets`` what it would reserve in them; ``link`` leads to
    the form with other choices made.
    """
    chosen = plan.configuration
    shown: dict[str, Any] = {
        "headline": "Price",
        "refusals": refusal_rows(plan.headlines()),
        **choices(plan, terms, currency, link),
    }
    if chosen is None:
        tone, title, advice = _PROBLEMS[plan.status]
        text = f"{sentence(plan.message)} {advice}"
        return shown | {"headline": "No price yet", "tone": tone, "problem": {"title": title, "text": text}}
    return shown | {
        "price": money(chosen.price_per_hour),
        "price_unit": f"{currency} per hour",
        "note": f"About {money(chosen.price_per_hour * HOURS_OF_30_DAYS, currency)} in 30 days. "
        "Charged by the second while GPUs are held.",
        "lines": _price_lines(chosen, currency),
        "quality": _quality(chosen, terms.model),
        "times": times(chosen, terms.slo_class),
        "facts": _facts(chosen, terms),
        "numbers": [*_numbers(chosen, currency), *tokens],
        "memory": memory(chosen.memory),
        "effects": [*_quota_effects(chosen, quotas), *map(_budget_effect, budgets)],
        **_budget_problem(budgets),
        "techniques": techniques(chosen),
        "settings": engine_settings(chosen.tuning),
        "reasons": _reasons(plan, chosen, terms, currency),
    }


def kept_plan(revision: Revision) -> Plan | None:
    """Read the plan that a revision came of; None where another version of Berth wrote it."""
    try:
        return msgspec.convert(revision.plan, Plan)
    except msgspec.ValidationError:
        return None


def show_kept(revision: Revision, *, currency: str, terms: OrderTerms) -> dict[str, Any]:
    """Give the plan that a revision came of as ``components/quote.html`` takes it."""
    plan = kept_plan(revision)
    if plan is not None:
        return show_plan(plan, currency=currency, terms=terms) | {"headline": "Planned price"}
    price = (revision.plan.get("configuration") or {}).get("price_per_hour")
    return {
        "headline": "Planned price",
        "price": money(price),
        "price_unit": f"{currency} per hour",
        "note": "Another version of Berth planned it; its reasons are in the REST API as they were written.",
    }


def running_plan(revision: Revision, endpoint: Endpoint) -> dict[str, Any]:
    """Give the plan of what runs for an endpoint's page: ``plan``, and apart from it its ``techniques``."""
    shown = show_kept(revision, currency=endpoint.tenant.currency, terms=OrderTerms.of(endpoint))
    return {"techniques": shown.pop("techniques", []), "plan": shown}


def class_targets(slo_class: SloClass) -> str:
    """Write the targets of a class in one line."""
    parts = []
    if slo_class.ttft_p95_ms is not None:
        parts.append(f"first token {ms(slo_class.ttft_p95_ms)}")
    if slo_class.itl_p95_ms is not None:
        parts.append(f"then every {ms(slo_class.itl_p95_ms)}")
    if not parts:
        parts.append("no latency target")
    return f"{', '.join(parts)}, {percent(slo_class.availability, 3)} available"


def token_prices(book: PriceBook, *, model: str, slo_class: str, currency: str) -> list[dict[str, Any]]:
    """Give the prices of a million tokens of each kind today, as facts; nothing where none is set."""
    now, found = timezone.now(), []
    for kind, label in (
        ("input_tokens", "Million input tokens"),
        ("output_tokens", "Million output tokens"),
        ("cached_tokens", "Million cached tokens"),
    ):
        try:
            amount = book.amount_of(kind, now, Subject(model=model, slo_class=slo_class))
        except MissingPrice:
            continue
        found.append({"label": label, "value": money(amount, currency)})
    return found


def _price_lines(chosen: Configuration, currency: str) -> list[dict[str, str]]:
    headroom = chosen.headroom
    beyond = [
        text
        for count_of, text in (
            (headroom.for_peak, f"{headroom.for_peak} for the busiest minute"),
            (headroom.spare, f"{headroom.spare} spare"),
        )
        if count_of
    ]
    return [
        {
            "label": f"{_replicas(headroom.for_load)} for the mean load",
            "price": money(chosen.price_per_hour - headroom.price_per_hour, currency),
        },
        {
            "label": f"Headroom: {', '.join(beyond) or 'none, bursts wait and a lost replica is missed'}",
            "price": money(headroom.price_per_hour, currency),
        },
    ]


def _quality(chosen: Configuration, model: CatalogModel) -> dict[str, str] | None:
    """Give what is to be known of a precision that is not the checkpoint's own."""
    if chosen.precision not in model.weights_quantize:
        return None
    note = model.precision_notes.get(chosen.precision, {}).get("note", "")
    return {"title": f"{chosen.precision} is made of the checkpoint", "text": note}


def _replicas(number: int) -> str:
    return f"{number} replica{'' if number == 1 else 's'}"


def _facts(chosen: Configuration, terms: OrderTerms) -> list[dict[str, Any]]:
    limit = terms.context_tokens or terms.model.context_tokens
    answer = "" if terms.output_limit is None else f", answers {count(terms.output_limit)}"
    return [
        {"label": "Runs in", "value": f"{chosen.cluster}, {chosen.region}"},
        {
            "label": "GPUs",
            "value": f"{chosen.gpus} x {chosen.gpu}, {chosen.gpus_per_replica} for a replica"
            + (" (declared)" if chosen.declared else ""),
        },
        {"label": "Precision", "value": chosen.precision.value},
        {"label": "Context", "value": f"{count(limit)} tokens{answer}"},
    ]


def _numbers(chosen: Configuration, currency: str) -> list[dict[str, Any]]:
    by_token = chosen.price_per_million_tokens
    return [
        {"label": "Output at most", "value": f"{short(chosen.tokens_per_s)} tokens/s"},
        *(
            [{"label": "At this load", "value": f"{money(by_token, currency)} per million output tokens"}]
            if by_token is not None
            else []
        ),
        {"label": "Parallelism", "value": f"tensor {chosen.tp} x pipeline {chosen.pp}"},
        {"label": "Runtime", "value": chosen.runtime},
        {"label": "KV cache", "value": f"{gib(chosen.memory.kv_available_gib)} of each GPU for it"},
    ]


def _quota_effects(chosen: Configuration, quotas: Sequence[QuotaUse]) -> list[dict[str, Any]]:
    adds = {"endpoints": 1, "gpus": chosen.gpus, f"gpus:{chosen.gpu}": chosen.gpus}
    names = {"endpoints": "Endpoint quota", "gpus": "GPU quota"}
    return [
        {
            "label": names.get(quota.resource, f"Quota of {quota.resource.partition(':')[2]}"),
            "value": quota.used,
            "reserved": adds[quota.resource],
            "limit": quota.limit,
            "text": f"{quota.used} held + {adds[quota.resource]} of {quota.limit}",
        }
        for quota in quotas
        if quota.resource in adds
    ]


def _budget_effect(effect: BudgetEffect) -> dict[str, Any]:
    whole = effect.limit or Decimal(1)
    taken = int((effect.spent + effect.reserved) * 100 / whole)
    asked, limit = amount(effect.budget, effect.asked, unit=False), amount(effect.budget, effect.limit)
    return {
        "label": f"Budget {effect.budget.name}",
        "value": min(taken, 100),
        "reserved": min(int(effect.asked * 100 / whole), max(0, 100 - taken)),
        "limit": 100,
        "text": f"{amount(effect.budget, effect.spent + effect.reserved, unit=False)} taken + {asked} of {limit}",
        "tone": "danger" if effect.refuses else "ok" if effect.fits else "warn",
    }


def _budget_problem(effects: Sequence[BudgetEffect]) -> dict[str, Any]:
    """Say which budget an order would be refused for, if one."""
    refusing = next((effect for effect in effects if effect.refuses), None)
    if refusing is None:
        return {}
    resets = f"{timezone.localtime(refusing.resets_at):%Y-%m-%d %H:%M}"
    left = max(Decimal(0), refusing.limit - refusing.spent - refusing.reserved)
    text = (
        f"It would reserve {amount(refusing.budget, refusing.asked)} until the budget {refusing.budget.name} begins "
        f"anew at {resets}; {amount(refusing.budget, left)} are left. Ask for less, or have the limit raised."
    )
    return {"tone": "danger", "problem": {"title": "Over budget", "text": text}}


def _reasons(plan: Plan, chosen: Configuration, terms: OrderTerms, currency: str) -> list[str]:
    reasons = [
        f"{chosen.replicas} x {chosen.gpus_per_replica} GPU carry {decimals(terms.requests_per_second)} requests "
        f"per second at {_share(chosen.utilisation)} of what they could.",
    ]
    others = [
        each.dearer_by_per_hour
        for each in plan.refusals
        if each.reason == Reason.DEARER and each.dearer_by_per_hour is not None
    ]
    dearer = [difference for difference in others if difference >= 0]
    if len(dearer) < len(others):
        reasons.append(
            f"{len(others) - len(dearer)} of {len(others) + 1} that fit are cheaper, but not near {terms.near}."
        )
    elif dearer:
        more = min(dearer)
        after = f"the next costs {money(more, currency)} more per hour" if more else "another costs the same"
        reasons.append(f"The cheapest of {len(dearer) + 1} that fit; {after}.")
    else:
        reasons.append("The only one that fits.")
    reasons.append(times(chosen, terms.slo_class)["source"])
    if chosen.weights_cached and not _ships_weights(terms):
        reasons.append("Its weights lie there already.")
    return reasons


def _ships_weights(terms: OrderTerms) -> bool:
    return terms.model.weights_kind == CatalogModel.WeightsKind.BUILT_IN


def _share(part: float) -> str:
    return percent(part, 0) if part >= 0.01 else "less than 1 %"
