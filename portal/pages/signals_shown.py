"""How an endpoint stands right now, in people's words."""

from __future__ import annotations

from typing import Any

from clusters.endpoints.signals import EndpointNow, endpoint_now
from clusters.models import Endpoint, EndpointSignal
from portal.templatetags.berth import count, decimals, ms


def now_shown(endpoint: Endpoint) -> dict[str, Any] | None:
    """Give what the section "Now" shows of an endpoint; None where no gateway has told of requests lately."""
    now = endpoint_now(endpoint)
    if not now.signals:
        return None
    return {
        "heard_at": now.heard_at,
        "facts": _facts(now),
        "gateways": [_gateway(signal) for signal in now.signals],
    }


def _facts(now: EndpointNow) -> list[dict[str, str]]:
    facts = [
        {"label": "In flight", "value": count(now.in_flight), "note": ""},
        {"label": "Waiting", "value": count(sum(now.queued.values())), "note": _waiting(now.queued)},
        {"label": "Oldest wait", "value": _wait(now.oldest_wait_s), "note": "of its own class"},
        {"label": "Requests", "value": count(now.requests), "note": _ends(now)},
        {"label": "Shed", "value": count(now.shed), "note": "of its own class, for want of room"},
    ]
    if now.ttft_p95_ms is not None:
        facts.append({"label": "First token, p95", "value": ms(now.ttft_p95_ms), "note": _parts(now)})
    if now.itl_p95_ms is not None:
        facts.append({"label": "Between tokens, p95", "value": ms(now.itl_p95_ms), "note": ""})
    if now.kv_pressure:
        facts.append({"label": "Cache was full", "value": count(now.kv_pressure), "note": "times"})
    return facts


def _gateway(signal: EndpointSignal) -> dict[str, str]:
    return {
        "name": f"{signal.gateway}/{signal.instance}" if signal.instance else signal.gateway,
        "region": signal.region,
        "in_flight": count(signal.in_flight),
        "queued": count(sum(signal.queued.values())),
        "oldest_wait": _wait(signal.oldest_wait_s),
        "requests": count(signal.requests),
        "shed": count(signal.shed),
    }


def _wait(seconds: float) -> str:
    """Write how long something has waited."""
    return f"{decimals(seconds, 1)} s" if seconds else "none"


def _waiting(queued: dict[str, int]) -> str:
    return ", ".join(f"{count(number)} {slo_class}" for slo_class, number in queued.items() if number)


def _ends(now: EndpointNow) -> str:
    parts = ((now.refused, "refused"), (now.failed, "failed"))
    return ", ".join(f"{count(number)} {how}" for number, how in parts if number)


def _parts(now: EndpointNow) -> str:
    """Say where the time to a first token goes, on average."""
    if now.queue_mean_ms is None or now.prefill_mean_ms is None:
        return ""
    return f"mean {ms(now.queue_mean_ms)} waiting, {ms(now.prefill_mean_ms)} prefill"
