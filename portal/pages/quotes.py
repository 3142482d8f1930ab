"""Plans in people's words: what the quote panel shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

from django.utils import timezone

from billing.prices import PriceBook
from billing.rating.prices import MissingPrice
from clusters.endpoints.planning import OrderTerms
from clusters.endpoints.selectors import QuotaUse
from clusters.models import SloClass
from clusters.planning.plans import Alternative, Configuration, MemoryBreakdown, Plan, PlanStatus, Reason
from portal.templatetags.berth import decimals, gib, money, ms, percent, short

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
    PlanStatus.IMPOSSIBLE: ("danger", "No cluster can run this", "Change what stands in the way."),
}


def show_plan(
    plan: Plan,
    *,
    currency: str,
    terms: OrderTerms,
    tokens: Sequence[dict[str, Any]] = (),
    quotas: Sequence[QuotaUse] = (),
    url_of: Callable[[Alternative], str] = lambda alternative: "",
) -> dict[str, Any]:
    """Give a plan as ``components/quote.html`` takes it.

    ``quotas`` are what the tenant holds without this plan; ``url_of`` leads to the form filled with an
    alternative, empty where there is none.
    """
    chosen = plan.configuration
    shown: dict[str, Any] = {
        "headline": "Price",
        "refusals": [
            {"candidate": f"{each.pool}: {each.reason.replace('_', ' ')}", "reason": each.message}
            for each in plan.headlines()
        ],
        "alternatives": [
            {
                "label": option.message.split(":", 1)[0].capitalize(),
                "price": f"{money(option.configuration.price_per_hour, currency)} per hour",
                "url": url_of(option),
            }
            for option in plan.alternatives
        ],
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
        "figures": _figures(chosen, terms, currency),
        "facts": [*_facts(chosen), *tokens],
        "effects": [*_quota_effects(chosen, quotas), _memory_effect(chosen.memory)],
        "reasons": _reasons(plan, chosen, terms, currency),
    }


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
            price = book.at(kind, now, model=model, slo_class=slo_class)
        except MissingPrice:
            continue
        found.append({"label": label, "value": money(price.amount, currency)})
    return found


def _figures(chosen: Configuration, terms: OrderTerms, currency: str) -> list[dict[str, str]]:
    slo_class = terms.slo_class
    per_hour = Decimal(str(terms.requests_per_second)) * terms.output_tokens * 3600
    by_token = money(chosen.price_per_hour * 1_000_000 / per_hour) if per_hour else ""
    figures = [
        {"label": "First token", "value": ms(chosen.ttft_ms), "unit": _target(slo_class.ttft_p95_ms)},
        {"label": "Between tokens", "value": ms(chosen.itl_ms), "unit": _target(slo_class.itl_p95_ms)},
        {"label": "Output at most", "value": short(chosen.tokens_per_s), "unit": "tokens/s"},
    ]
    if by_token:
        figures.append(
            {"label": "Million output tokens", "value": by_token, "unit": f"{currency} at this load"}
        )
    return figures


def _target(target_ms: int | None) -> str:
    return "no target" if target_ms is None else f"of {ms(target_ms)}"


def _facts(chosen: Configuration) -> list[dict[str, Any]]:
    replicas = str(chosen.replicas)
    if chosen.replicas_ceiling > chosen.replicas:
        replicas += f", up to {chosen.replicas_ceiling} in the busiest minute"
    return [
        {"label": "Runs in", "value": f"{chosen.cluster}, {chosen.region}"},
        {
            "label": "GPUs",
            "value": f"{chosen.gpus} x {chosen.gpu}" + (" (declared)" if chosen.declared else ""),
        },
        {"label": "Replicas", "value": f"{replicas}, {chosen.gpus_per_replica} GPU each"},
        {"label": "Precision", "value": chosen.precision.value},
        {"label": "Parallelism", "value": f"tensor {chosen.tp} x pipeline {chosen.pp}"},
        {"label": "Batch", "value": f"up to {chosen.max_batch_size} requests at once"},
        {"label": "Runtime", "value": chosen.runtime},
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


def _memory_effect(memory: MemoryBreakdown) -> dict[str, Any]:
    return {
        "label": "Memory of each GPU",
        "value": round(memory.needed_gib * 1024),
        "limit": max(1, round(memory.available_gib * 1024)),
        "text": f"{gib(memory.needed_gib)} of {gib(memory.available_gib)}",
        "tone": "none",
    }


def _reasons(plan: Plan, chosen: Configuration, terms: OrderTerms, currency: str) -> list[str]:
    memory = chosen.memory
    reasons = [
        f"Weights take {gib(memory.weights_gib)}, the cache {gib(memory.kv_gib)}, activations "
        f"{gib(memory.activations_gib)} and the framework {gib(memory.framework_gib)} of each GPU.",
        f"{chosen.replicas} x {chosen.gpus_per_replica} GPU carry {decimals(terms.requests_per_second)} requests "
        f"per second at {_share(chosen.utilisation)} of what they could.",
    ]
    dearer = sorted(
        each.dearer_by_per_hour
        for each in plan.refusals
        if each.reason == Reason.DEARER and each.dearer_by_per_hour is not None
    )
    if dearer:
        reasons.append(
            f"The cheapest of {len(dearer) + 1} that fit; "
            f"the next costs {money(dearer[0], currency)} more per hour."
        )
    else:
        reasons.append("The only one that fits.")
    reasons.append(f"Speed is estimated by the model {chosen.performance_source!r}, at the load given.")
    return reasons


def _share(part: float) -> str:
    return percent(part, 0) if part >= 0.01 else "less than 1 %"


def sentence(text: str) -> str:
    """Write a message of the planner as a sentence."""
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."
