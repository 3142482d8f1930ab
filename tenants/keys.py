"""What can be done to API keys."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.utils import timezone

from tenants import roles, scope, secret_keys
from tenants.announcements import announce
from tenants.errors import Forbidden, Invalid, NotFound
from tenants.limits import check_key_limits
from tenants.models import ApiKey, KeyScope, Project, Role, Tenant, User
from tenants.validation import clean

LONGEST_KEY_LIFE = dt.timedelta(days=366)
DEFAULT_KEY_LIFE = dt.timedelta(days=90)
PLAYGROUND_KEY_LIFE = dt.timedelta(hours=1)


@transaction.atomic
def key_mint(
    *,
    name: str,
    key_scope: str,
    project: Project | None = None,
    role: str = "",
    created_by: User | None = None,
    granter_role: str = Role.OWNER,
    expires_at: dt.datetime | None = None,
    ephemeral: bool = False,
    limits: Mapping[str, Any] | None = None,
) -> tuple[ApiKey, str]:
    """Make a key and give it with its text, which is kept nowhere.

    Without ``expires_at`` the key lasts 90 days. ``limits`` are those of :data:`tenants.limits.KEY_LIMITS`.

    Raises:
        Invalid: project, role, expiry or limits do not go together.
        Forbidden: a management key would have a role above the granter's own.
    """
    now = timezone.now()
    expires_at = expires_at or now + DEFAULT_KEY_LIFE
    if expires_at <= now or expires_at > now + LONGEST_KEY_LIFE:
        raise Invalid(
            "A key must expire in the future and within 366 days.",
            errors={"expires_at": ["Choose a time within the next 366 days."]},
        )
    if key_scope == KeyScope.INFERENCE and project is None:
        raise Invalid(
            "An inference key needs a project.", errors={"project": ["Choose the project that pays."]}
        )
    if key_scope == KeyScope.MANAGEMENT:
        if role not in Role.values:
            raise Invalid(
                "A management key needs a role.", errors={"role": [f"One of {', '.join(Role.values)}."]}
            )
        if not roles.may_grant(granter_role, role):
            raise Forbidden(f"A member with role {granter_role} cannot make a key with role {role}.")
    check_key_limits(key_scope, limits or {})
    text = secret_keys.generate()
    pepper_id = secret_keys.newest_pepper()
    key = ApiKey(
        tenant_id=scope.current_tenant_id(),
        project=project if key_scope == KeyScope.INFERENCE else None,
        role=role if key_scope == KeyScope.MANAGEMENT else "",
        name=name,
        scope=key_scope,
        hint=text[:12],
        digest=secret_keys.digest(text, pepper_id),
        pepper_id=pepper_id,
        created_by=created_by,
        expires_at=expires_at,
        ephemeral=ephemeral,
        **(limits or {}),
    )
    clean(key)
    key.save()
    announce()
    return key, text


def key_revoke(*, key: ApiKey, granter_role: str = Role.OWNER) -> ApiKey:
    """Revoke a key at once and for ever; revoking again changes nothing.

    Raises:
        Forbidden: the key's role is above the revoker's own.
    """
    if key.role and not roles.may_grant(granter_role, key.role):
        raise Forbidden(f"A member with role {granter_role} cannot revoke a key with role {key.role}.")
    if key.revoked_at is None:
        key.revoked_at = timezone.now()
        key.save(update_fields=["revoked_at"])
        announce()
    return key


def key_authenticate(text: str) -> ApiKey:
    """Find the usable management key with this text.

    Raises:
        NotFound: it is malformed, unknown, revoked, expired or only for inference; the message says which
            as far as the caller may know.
    """
    if not secret_keys.well_formed(text):
        raise NotFound("This is not a Berth key: prefix, length or checksum do not match. Was it cut off?")
    digests = [secret_keys.digest(text, pepper) for pepper in secret_keys.peppers()]
    now = timezone.now()
    with scope.platform("authenticate a management key"):
        key = ApiKey.objects.select_related("tenant", "created_by").filter(digest__in=digests).first()
        if key is None:
            raise NotFound("This key is not known; it may have been made for another installation.")
        if key.revoked_at:
            raise NotFound(f"This key was revoked on {key.revoked_at:%Y-%m-%d %H:%M} UTC.")
        if key.expires_at and key.expires_at <= now:
            raise NotFound(f"This key expired on {key.expires_at:%Y-%m-%d %H:%M} UTC; make a new one.")
        if key.scope != KeyScope.MANAGEMENT:
            raise NotFound(
                "This is an inference key: it calls models at the gateway. Use a management key here."
            )
        if key.created_by and not key.created_by.is_active:
            raise NotFound("The person who made this key is no longer active; make a new one.")
        if key.tenant.state != Tenant.State.ACTIVE:
            raise NotFound("The tenant of this key is suspended; speak to the platform's operators.")
        if key.last_used_at is None or now - key.last_used_at > dt.timedelta(minutes=1):
            ApiKey.objects.filter(id=key.id).update(last_used_at=now)
    return key
