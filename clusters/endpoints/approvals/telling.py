"""Telling of requests: those who decide by e-mail with a link, the asker, and the tenant's webhooks."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any, Final

from django.conf import settings

from clusters.endpoints.approvals.deciding import deciders, missing_parts, parts
from clusters.models import ApprovalRequest, Decides, TenantPolicy
from tenants import webhooks
from tenants.models import Tenant
from tenants.webhooks.links import placeholder

REQUESTED: Final = "approval.requested"
DECIDED: Final = "approval.decided"

#: Kind of the links in mails by which a request is decided.
LINK: Final = "approval"

_QUOTED: Final = (
    ("residency", "Residency asked for"), ("region", "Region"), ("cluster", "Cluster"), ("model", "Model"),
    ("licence", "Licence"), ("slo_class", "Class"), ("gpu", "GPU type"), ("gpus", "GPUs"),
)  # fmt: skip


def tell_asked(request: ApprovalRequest, *, now: dt.datetime, again: str = "") -> None:
    """Tell whoever may decide, with a link to decide by where the tenant's policy has it; ``again`` says why anew."""
    tenant = Tenant.objects.get(id=request.tenant_id)
    if not again:
        webhooks.publish(REQUESTED, event_of(request), tenant_id=tenant.id, event_id=request.id, now=now)
    policy = TenantPolicy.objects.filter(tenant=tenant).in_force()
    by_link = policy is None or policy.link_decisions
    for part in missing_parts(request):
        operators = parts(request)[part]["decides"] == Decides.OPERATORS
        for user in deciders(request, part):
            webhooks.mail(
                tenant_id=tenant.id,
                event_type=REQUESTED,
                event_id=uuid.uuid5(request.id, f"{request.round}/{again}"),
                subject=f"{again or 'Approval asked for'}: {request.title} ({tenant.name})",
                text=_text(request, tenant, operators=operators, by_link=by_link and not operators),
                recipients=[user.email],
                now=now,
            )


def tell_decided(request: ApprovalRequest) -> None:
    """Tell the asker how a request ended, and the tenant's webhooks."""
    webhooks.publish(
        DECIDED,
        event_of(request),
        tenant_id=request.tenant_id,
        event_id=uuid.uuid5(request.id, "decided"),
        now=request.decided_at,
    )
    asker = request.asked_by
    if asker is None or not asker.is_active or request.decided_by_id == asker.id:
        return
    tenant = Tenant.objects.get(id=request.tenant_id)
    changed = "".join(f"\n{name}: {told['from']} -> {told['to']}" for name, told in request.changed.items())
    lines = [
        f"{request.title}: {request.get_state_display().lower()} by {request.decided_as or 'nobody'}.",
        *([f"They say: {_plain(request.comment)}"] if request.comment else []),
        *([f"They changed:{_plain(changed)}"] if changed else []),
        "",
        page_url(tenant.slug, request.id),
    ]
    webhooks.mail(
        tenant_id=tenant.id,
        event_type=DECIDED,
        event_id=uuid.uuid5(request.id, "decided-mail"),
        subject=f"{request.get_state_display()}: {request.title} ({tenant.name})",
        text="\n".join(lines),
        recipients=[asker.email],
        now=request.decided_at,
    )


def event_of(request: ApprovalRequest) -> dict[str, Any]:
    """Give what webhooks are told of a request."""
    return {
        "id": request.id,
        "what": request.what,
        "title": request.title,
        "state": request.state,
        "endpoint": request.endpoint.name if request.endpoint else None,
        "endpoint_id": request.endpoint_id,
        "quote": request.quote,
        "reasons": [trip["reason"] for trip in request.trips],
        "asked_as": request.asked_as,
        "expires_at": request.expires_at,
        "decided_as": request.decided_as or None,
        "comment": request.comment,
    }


def page_url(slug: str, request_id: uuid.UUID) -> str:
    """Give the address of a request's page in the portal; only its path where the portal's own is not known."""
    return f"{settings.PORTAL_PUBLIC_URL}/t/{slug}/approvals/{request_id}"


def _text(request: ApprovalRequest, tenant: Tenant, *, operators: bool, by_link: bool) -> str:
    quote = request.quote
    figures = [f"{label}: {quote[name]}" for name, label in _QUOTED if quote.get(name) not in (None, "")]
    if quote:
        figures.insert(
            0,
            f"Price: {quote['price_per_hour']} {quote['currency']} per hour, {quote['price_per_month']} per month",
        )
    page = page_url(tenant.slug, request.id)
    if operators:
        page = f"{settings.PORTAL_PUBLIC_URL}/console/approvals/{request.id}"
    decide = [
        "Decide by this link, which is for you alone:",
        placeholder(LINK, f"{request.id}/{request.round}"),
        "",
    ]
    return "\n".join(
        [
            f"{request.asked_as} asks for: {request.title}.",
            "",
            *(_plain(trip["reason"]) for trip in request.trips),
            "",
            *figures,
            *([""] if figures else []),
            f"It can be decided until {request.expires_at:%Y-%m-%d %H:%M} UTC.",
            "",
            *(decide if by_link and settings.PORTAL_PUBLIC_URL else []),
            f"Its page: {page}",
        ]
    )


def _plain(text: str) -> str:
    """Give a text of somebody's own so that no link is made of it."""
    return text.replace("[[", "[ [")
