"""What both doors show of an order: its load, its limits, what it leaves no choice in."""

from __future__ import annotations

from typing import Any

from clusters.endpoints.limits import endpoint_fallbacks, overload_policy
from clusters.endpoints.profiles import named_profile
from clusters.models import Endpoint
from portal.pages.limits_form import rates_told
from portal.pages.quote_choices import PINS
from portal.templatetags.berth import count, decimals, percent


def load_facts(endpoint: Endpoint) -> list[dict[str, Any]]:
    """Give the load that an endpoint was ordered for, as facts."""
    profile = named_profile(endpoint.profile)
    bursts = "steady"
    if endpoint.burstiness > 1:
        bursts = f"{decimals(endpoint.burstiness)} times that in the busiest minute"
    return [
        {"label": "Profile", "value": profile.title if profile else endpoint.profile or "own numbers"},
        {
            "label": "Expected load",
            "value": f"{endpoint.requests_per_second:g} per second, {bursts}",
        },
        {
            "label": "Usual request",
            "value": f"{count(endpoint.input_tokens)} tokens in (spread {decimals(endpoint.input_cv)}), "
            f"{count(endpoint.output_tokens)} out (spread {decimals(endpoint.output_cv)})",
        },
        {"label": "Shared prefix", "value": f"{percent(endpoint.prefix_share, 0)} of the input"},
    ]


def overload_facts(endpoint: Endpoint) -> dict[str, Any]:
    """Give the limits a minute of an endpoint, its fallbacks, and what happens when it has no room."""
    fallbacks = endpoint_fallbacks(endpoint)
    names = ", ".join(each.name for each in fallbacks if each.name)
    limits = [
        {"label": "Limits", "value": ", ".join(rates_told(endpoint)) or "none of its own"},
        {"label": "Fallbacks", "value": names or "none"},
    ]
    if endpoint.shared:
        limits.append({"label": "Shared", "value": "every tenant may call it"})
    return {"limits": limits, "overload": overload_policy(endpoint), "fallbacks": fallbacks}


def limit_facts(endpoint: Endpoint) -> list[dict[str, Any]]:
    """Give the limits of an order and its pins, as facts."""
    pins = ", ".join(f"{PINS[name]} {value}" for name, value in endpoint.pins.items() if name in PINS)
    return [
        {"label": "Longest request", "value": f"{count(endpoint.context_cap)} tokens with its answer"},
        {"label": "Longest answer", "value": f"{count(endpoint.answer_cap)} tokens"},
        {"label": "Rather near", "value": endpoint.near or "no preference"},
        {"label": "Pins", "value": pins or "none, Berth chooses"},
        *(
            [{"label": "Accepted quality", "value": ", ".join(endpoint.approved_precisions)}]
            if endpoint.approved_precisions
            else []
        ),
    ]
