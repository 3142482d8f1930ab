"""Acts of signing in, told to the audit: of the platform, and of each tenant whose member a person is."""

from __future__ import annotations

import uuid
from typing import Any

from tenants import acting, scope
from tenants.audit.writing import audit, note
from tenants.models import Membership, User


def tell(user: User | None, action: str, **facts: Any) -> None:
    """Write what a person did, or what was tried in their name; None: nobody is known."""
    actor = acting.Actor("anonymous") if user is None else acting.person(user)
    for tenant_id in (None, *_tenants_of(user)):
        note(action, actor=actor, tenant_id=tenant_id, facts=facts)


def tell_of(user: User, action: str, *, operator: User, **facts: Any) -> None:
    """Write what an operator did to a person, as their acts are, and to each tenant whose member the person is."""
    facts = {"person": user.email, **facts}
    audit(operator, action, **facts)
    for tenant_id in _tenants_of(user):
        note(action, actor=acting.operator(operator), tenant_id=tenant_id, facts=facts)


def _tenants_of(user: User | None) -> list[uuid.UUID]:
    if user is None:
        return []
    with scope.platform("find whose audit a sign-in belongs to"):
        return list(Membership.objects.filter(user=user).values_list("tenant_id", flat=True))
