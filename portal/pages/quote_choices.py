"""What else could be had, as the quote panel shows it: the front, pins, context, alternatives, each with its price."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from clusters.endpoints.planning import OrderTerms
from clusters.planning.plans import (
    Alternative,
    ContextStep,
    Disaggregated,
    FrontPoint,
    PinCost,
    Plan,
    Relaxation,
)
from portal.templatetags.berth import count, money, ms, sentence

#: Gives the path of the order form with some of its fields changed; without values a field is emptied.
Link = Callable[[Mapping[str, Sequence[str]]], str]

#: Pins in words.
PINS = {
    "gpu": "GPU type",
    "cluster": "Cluster",
    "precision": "Precision",
    "tp": "Tensor parallelism",
    "pp": "Pipeline stages",
    "max_batch_size": "Batch limit",
}


def choices(plan: Plan, terms: OrderTerms, currency: str, link: Link | None) -> dict[str, Any]:
    """Give the parts of a quote that other choices are in."""
    return {
        "currency": currency,
        "front": [_point(point, link) for point in plan.front] if len(plan.front) > 1 else [],
        "pin_costs": [_pin_cost(each, currency, link) for each in plan.pin_costs],
        "next_context": _context(plan.next_context, currency, link),
        "disaggregated": _disaggregated(plan.disaggregated, currency),
        "alternatives": [_alternative(each, terms, currency, link) for each in plan.alternatives],
    }


def _point(point: FrontPoint, link: Link | None) -> dict[str, Any]:
    pins = {name: [str(getattr(point, name))] for name in ("gpu", "cluster", "precision", "tp", "pp")}
    gpus = point.tp * point.pp
    shape = f"TP {point.tp}" + (f" x PP {point.pp}" if point.pp > 1 else "")
    return {
        "what": f"{point.replicas} x {gpus} {point.gpu}, {point.precision}, {shape}",
        "where": f"{point.cluster}, {point.region}",
        "price": money(point.price_per_hour),
        "ttft": ms(point.ttft_p95_ms),
        "itl": ms(point.itl_p95_ms),
        "answer": ms(point.answer_ms),
        "chosen": point.chosen,
        "url": link(pins) if link and not point.chosen else "",
    }


def _pin_cost(each: PinCost, currency: str, link: Link | None) -> dict[str, str]:
    free = each.saves_per_hour <= 0
    return {
        "pin": f"{PINS[each.pin]} {each.value}",
        "cost": "costs nothing" if free else f"costs {money(each.saves_per_hour, currency)} per hour",
        "without": f"{money(each.price_per_hour, currency)} per hour without it",
        "url": link({each.pin: []}) if link else "",
    }


def _context(step: ContextStep | None, currency: str, link: Link | None) -> dict[str, str] | None:
    if step is None:
        return None
    more = (
        f"{money(step.extra_per_hour, currency)} more per hour"
        if step.extra_per_hour
        else "at the same price"
    )
    return {
        "label": f"Context of {count(step.context_tokens)} tokens",
        "price": more,
        "url": link({"context_tokens": [str(step.context_tokens)]}) if link else "",
    }


def _disaggregated(each: Disaggregated | None, currency: str) -> dict[str, str] | None:
    if each is None:
        return None
    return {
        "label": f"{each.prefill_replicas} replicas for prompts, {each.decode_replicas} for answers",
        "price": f"{money(each.price_per_hour, currency)} per hour",
        "times": f"first token {ms(each.ttft_ms)}, then every {ms(each.itl_ms)}, in the mean",
    }


def _alternative(each: Alternative, terms: OrderTerms, currency: str, link: Link | None) -> dict[str, str]:
    changes: dict[Relaxation, Mapping[str, Sequence[str]]] = {
        Relaxation.RESIDENCY: {"residency": [each.value]},
        Relaxation.CERTIFICATIONS: {"certifications": []},
        Relaxation.PIN: {each.value: []},
        Relaxation.QUALITY: {"approved_precisions": [*terms.approved_precisions, each.value]},
        Relaxation.SLO_CLASS: {"slo_class": [each.value]},
    }
    return {
        "label": sentence(each.message.split(":", 1)[0]).removesuffix("."),
        "price": f"{money(each.configuration.price_per_hour, currency)} per hour",
        "url": link(changes[each.relaxation]) if link else "",
    }
