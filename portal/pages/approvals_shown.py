"""Requests in people's words: as a row, as a page, as what an endpoint waits for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from clusters.endpoints.approvals.asking import is_held
from clusters.endpoints.approvals.deciding import WORDS, missing_parts, who
from clusters.endpoints.approvals.judging import Trip
from clusters.endpoints.approvals.selectors import request_of, waits_for_approval
from clusters.models import ApprovalRequest, Endpoint
from portal.templatetags.berth import money, residency
from tenants.models import Tenant

_LABELS = (
    ("model", "Model"), ("slo_class", "Service class"), ("licence", "Licence"), ("cluster", "Cluster"),
    ("region", "Region"), ("precision", "Precision"), ("replicas", "Replicas"),
)  # fmt: skip


def request_row(request: ApprovalRequest, url: Callable[..., str], page: str = "approval") -> dict[str, Any]:
    """Give a request as a row of a table."""
    quote = request.quote
    return {
        "request": request,
        "url": url(page, request.id),
        "price": money(quote["price_per_hour"], quote["currency"]) if quote else "",
        "waits_for": who(request, missing_parts(request)) if request.is_pending else "",
        "tenant": request.tenant.name,
    }


def request_shown(request: ApprovalRequest, tenant: Tenant) -> dict[str, Any]:
    """Give what a request's page shows of it."""
    return {
        "reasons": [{"text": trip["reason"], "decides": WORDS[trip["decides"]]} for trip in request.trips],
        "waits_for": who(request, missing_parts(request)) if request.is_pending else "",
        "price": money(request.quote["price_per_hour"]) if request.quote else "",
        "per_month": money(request.quote["price_per_month"], tenant.currency) if request.quote else "",
        "currency": tenant.currency,
        "facts": quote_facts(request.quote),
        "wished": _wished(request, tenant),
        "changed": [
            {
                "label": name.replace("_", " ").capitalize(),
                "value": f"{_said(each['from'])} -> {_said(each['to'])}",
            }
            for name, each in request.changed.items()
        ],
        "signed": [each for each in request.signatures.all() if each.round == request.round],
    }


def quote_facts(quote: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give what a kept quote says but its price."""
    if not quote:
        return []
    return [
        {"label": "Residency asked for", "value": residency(quote["residency"])},
        *({"label": label, "value": quote[name] or "none"} for name, label in _LABELS),
        {"label": "GPUs", "value": f"{quote['gpus']} x {quote['gpu']}"},
        {
            "label": "The tenant's GPUs then",
            "value": f"{quote['tenant_gpus']}" + (f" of {quote['gpu_quota']}" if quote["gpu_quota"] else ""),
        },
    ]


def trips_problem(trips: Sequence[Trip]) -> dict[str, Any] | None:
    """Give what an order form says of rules that ordering would trip."""
    if not trips:
        return None
    people = " and ".join(dict.fromkeys(WORDS[trip.decides] for trip in trips))
    return {"title": f"Needs approval by {people}", "reasons": [trip.reason for trip in trips]}


def endpoint_waits(endpoint: Endpoint, url: Callable[..., str]) -> dict[str, Any] | None:
    """Give what an endpoint waits for somebody's approval of, or why it was not given; None where there is neither."""
    request = request_of(endpoint)
    if request is None or not (request.is_pending or is_held(endpoint)):
        return None
    if request.is_pending:
        return {
            "tone": "warn",
            "title": f"{request.title} waits for {who(request, missing_parts(request))}",
            "text": " ".join(trip["reason"] for trip in request.trips),
            "until": request.expires_at,
            "url": url("approval", request.id),
        }
    by = f" by {request.decided_as}" if request.decided_as else ""
    return {
        "tone": "danger",
        "title": f"{request.title}: {request.get_state_display().lower()}{by}",
        "text": request.comment or "Ask again, with other terms where that helps, or delete it.",
        "until": None,
        "url": url("approval", request.id),
    }


def told_of(endpoint: Endpoint, doing: str) -> str:
    """Say what becomes of a wish: it is done, or waits for approval while everything stays as it is."""
    if waits_for_approval(endpoint):
        return "stays as it is: what you wish waits for approval."
    return doing


def _wished(request: ApprovalRequest, tenant: Tenant) -> list[dict[str, Any]]:
    wish = request.wish
    if request.what == ApprovalRequest.What.POLICY:
        wish = wish["policy"]
    elif request.what == ApprovalRequest.What.RULE:
        wish = wish["changes"]
    elif request.what == ApprovalRequest.What.REPLAN:
        wish = {
            name: wish["terms"][name] for name in ("requests_per_second", "input_tokens", "output_tokens")
        }
    return [
        {"label": name.replace("_", " ").capitalize(), "value": _said(value)}
        for name, value in wish.items()
        if value not in (None, "")
    ]


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "any"
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items()) or "none"
    return "none" if value in (None, "") else str(value)
