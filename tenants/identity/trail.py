"""Acts of signing in, told to the audit: of the platform, and of each tenant whose member a person is."""

from __future__ import annotations

from typing import Any

from tenants import acting, scope
from tenants.audit.writing import note
from tenants.models import Membership, User


def tell(user: User | None, action: str, **facts: Any) -> None:
    """Write what a person did, or what was tried in their name; None: nobody is known."""
    chains = []
    if user is not None:
        with scope.platform("find whose audit a sign-in belongs to"):
            chains = list(Membership.objects.filter(user=user).values_list("tenant_id", flat=True))
    actor = acting.Actor("anonymous") if user is None else acting.person(user)
    for tenant_id in (None, *chains):
        note(action, actor=actor, tenant_id=tenant_id, facts=facts)
