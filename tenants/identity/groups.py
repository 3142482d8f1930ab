"""From a provider's groups to roles.

Rows are the truth: a membership that a provider manages is kept as its groups and mappings say, whenever either
changes. So every reader of memberships sees the role of now, at its next request.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from django.db import transaction

from tenants import roles, scope
from tenants.members import keys_revoke_above
from tenants.models import (
    EVERYBODY,
    GroupMapping,
    IdentityProvider,
    Membership,
    PlatformRole,
    ProviderIdentity,
    User,
)

#: From most to least; of several the first is had.
_PLATFORM_RANK = (PlatformRole.OPERATOR, PlatformRole.FINANCE, PlatformRole.AUDITOR)


@transaction.atomic
def roles_of_provider_sync(*, provider: IdentityProvider) -> None:
    """Give everybody of a provider the roles that its mappings say now."""
    with scope.platform("a provider's mappings changed"):
        for user in User.objects.filter(identities__provider=provider).distinct():
            roles_sync(user=user, provider=provider)


@transaction.atomic
def roles_sync(*, user: User, provider: IdentityProvider) -> None:
    """Give a person the roles that a provider's groups give them, and take away those they gave before.

    A membership that people gave by hand stays as it is.
    """
    with scope.platform("a provider told the groups of a person"):
        # Two sign-ins of one person at once go one after the other.
        user = User.objects.select_for_update(no_key=True).get(id=user.id)
        identities = ProviderIdentity.objects.filter(provider=provider, user=user)
        groups = {group for identity in identities for group in identity.groups}
        groups |= {EVERYBODY} if identities else set()
        mappings = list(provider.mappings.filter(group__in=groups)) if provider.active else []
        _memberships_sync(user, provider, _wanted(mappings))
        _platform_role_sync(user, provider, mappings)


def _wanted(mappings: Iterable[GroupMapping]) -> dict[uuid.UUID, str]:
    wanted: dict[uuid.UUID, str] = {}
    for mapping in mappings:
        if mapping.tenant_id is None:
            continue
        known = wanted.get(mapping.tenant_id)
        if known is None or roles.may_grant(mapping.role, known):
            wanted[mapping.tenant_id] = mapping.role
    return wanted


def _memberships_sync(user: User, provider: IdentityProvider, wanted: dict[uuid.UUID, str]) -> None:
    for membership in Membership.objects.select_for_update().filter(user=user):
        role = wanted.pop(membership.tenant_id, None)
        if membership.managed_by_id != provider.id or role == membership.role:
            continue
        with scope.tenant(membership.tenant_id):
            keys_revoke_above(user.id, role)
            if role is None:
                membership.delete()
            else:
                membership.role = role
                membership.save(update_fields=["role"])
    for tenant_id, role in wanted.items():
        Membership.objects.create(tenant_id=tenant_id, user=user, role=role, managed_by=provider)


def _platform_role_sync(user: User, provider: IdentityProvider, mappings: list[GroupMapping]) -> None:
    given = {mapping.platform_role for mapping in mappings if mapping.platform_role}
    if provider.tenant_id is not None or (user.platform_role and user.platform_role_by_id != provider.id):
        return
    role = next((each for each in _PLATFORM_RANK if each in given), PlatformRole.NONE)
    if user.platform_role != role:
        user.platform_role = role
        user.platform_role_by = provider if role else None
        user.save(update_fields=["platform_role", "platform_role_by"])
