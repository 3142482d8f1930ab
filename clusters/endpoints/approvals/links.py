"""Links by which a request is decided from a mail: signed for one person and one round, made when the mail is sent."""

from __future__ import annotations

import dataclasses
import uuid
from typing import Any, Final

from django.conf import settings
from django.core import signing

from clusters.models import ApprovalRequest, ApprovalSignature
from tenants import scope
from tenants.models import Membership, Tenant, User

_SALT: Final = "clusters.approvals.link"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Link:
    """What a link is for: one person, one tenant's request, one round of it."""

    tenant_id: uuid.UUID
    request_id: uuid.UUID
    round: int
    user_id: uuid.UUID


def link_token(link: Link) -> str:
    """Sign a link. It is made anew whenever it is needed and rests nowhere."""
    return signing.dumps(
        [str(link.tenant_id), str(link.request_id), link.round, str(link.user_id)], salt=_SALT, compress=True
    )


def link_read(token: str) -> Link | None:
    """Read a link; None where it was not signed by Berth or is too old to be of any request."""
    try:
        tenant_id, request_id, number, user_id = signing.loads(
            token, salt=_SALT, max_age=settings.APPROVAL_LINK_DAYS * 86_400
        )
        return Link(
            tenant_id=uuid.UUID(tenant_id),
            request_id=uuid.UUID(request_id),
            round=int(number),
            user_id=uuid.UUID(user_id),
        )
    except (signing.BadSignature, ValueError, TypeError):
        return None


def link_url(rest: str, recipient: str) -> str:
    """Make the address that a mail to ``recipient`` shows, of ``request/round``.

    Empty where the person is not known, is no member any more, or the request is gone.
    """
    request_id, _, number = rest.partition("/")
    with scope.platform("make the link of an approval mail"):
        request = ApprovalRequest.objects.filter(id=request_id).first()
        user = User.objects.filter(email=recipient.lower(), is_active=True).first()
        if request is None or user is None:
            return ""
        if not Membership.objects.filter(tenant=request.tenant_id, user=user).exists():
            return ""
    token = link_token(
        Link(tenant_id=request.tenant_id, request_id=request.id, round=int(number), user_id=user.id)
    )
    return f"{settings.PORTAL_PUBLIC_URL}/decide/{token}"


def link_people(link: Link) -> tuple[User, Membership] | None:
    """Give the person of a link with their membership; None where they may not act in the tenant any more."""
    with scope.platform("find whom an approval link is for"):
        membership = (
            Membership.objects.select_related("user", "tenant")
            .filter(tenant=link.tenant_id, user=link.user_id, user__is_active=True)
            .filter(tenant__state=Tenant.State.ACTIVE)
            .first()
        )
    return (membership.user, membership) if membership else None


def link_request(link: Link) -> ApprovalRequest | None:
    """Give the request of a link, in the open scope of its tenant; None where it is used up.

    That is where the request went into another round, or its person agreed to this one already.
    """
    used = ApprovalSignature.objects.filter(request=link.request_id, round=link.round, by=link.user_id)
    if used.exists():
        return None
    rows: Any = ApprovalRequest.objects.select_related("endpoint", "asked_by")
    return rows.filter(id=link.request_id, round=link.round).first()
