"""What can be done to API keys."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.db.models import OuterRef, Subquery
from django.utils import timezone

from tenants import networks, reach, roles, scope, secret_keys
from tenants.announcements import announce
from tenants.errors import Conflict, Forbidden, Invalid, NotFound
from tenants.limits import KEY_LIMITS, check_key_limits
from tenants.models import ApiKey, KeyScope, Membership, Project, Role, ServiceAccount, Tenant, User
from tenants.validation import clean

LONGEST_KEY_LIFE = dt.timedelta(days=366)
DEFAULT_KEY_LIFE = dt.timedelta(days=90)
PLAYGROUND_KEY_LIFE = dt.timedelta(hours=1)
DEFAULT_OVERLAP = dt.timedelta(days=1)
LONGEST_OVERLAP = dt.timedelta(days=30)


@transaction.atomic
def key_mint(
    *,
    name: str,
    key_scope: str,
    project: Project | None = None,
    role: str = "",
    service_account: ServiceAccount | None = None,
    created_by: User | None = None,
    granter_role: str = Role.OWNER,
    granted_by: ApiKey | None = None,
    expires_at: dt.datetime | None = None,
    ephemeral: bool = False,
    revision: uuid.UUID | None = None,
    limits: Mapping[str, Any] | None = None,
    narrowed: Mapping[str, Any] | None = None,
) -> tuple[ApiKey, str]:
    """Make a key and give it with its text, which is kept nowhere.

    Without ``expires_at`` the key lasts 90 days. ``limits`` are those of :data:`tenants.limits.KEY_LIMITS`,
    ``narrowed`` those of :data:`tenants.reach.KEY_REACH`; ``revision`` is the one that answers its requests, where any
    may not. A management key of a service account has its role and none of its own. ``granted_by`` is
    the management key that asks for it, whose reach the new one stays within.

    Raises:
        Invalid: project, role, account, expiry, limits or reach do not go together.
        Forbidden: a management key would have a role above the granter's own, or a key would reach further than the
            one that asks for it.
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
    if service_account is not None:
        _check_account(service_account, key_scope, project, role)
    elif key_scope == KeyScope.MANAGEMENT and role not in Role.values:
        raise Invalid(
            "A management key needs a role.", errors={"role": [f"One of {', '.join(Role.values)}."]}
        )
    check_key_limits(key_scope, limits or {})
    key = ApiKey(
        tenant_id=scope.current_tenant_id(),
        project=project if key_scope == KeyScope.INFERENCE else None,
        role=role if key_scope == KeyScope.MANAGEMENT and service_account is None else "",
        service_account=service_account,
        name=name,
        scope=key_scope,
        created_by=created_by,
        expires_at=expires_at,
        ephemeral=ephemeral,
        revision=revision,
        **(limits or {}),
        **reach.checked(key_scope, narrowed or {}),
    )
    _check_grant(key, granter_role, granted_by, "make")
    text = _sign(key)
    clean(key)
    key.save()
    announce()
    return key, text


@transaction.atomic
def key_rotate(
    *,
    key: ApiKey,
    overlap: dt.timedelta = DEFAULT_OVERLAP,
    expires_at: dt.datetime | None = None,
    created_by: User | None = None,
    granter_role: str = Role.OWNER,
    granted_by: ApiKey | None = None,
) -> tuple[ApiKey, str]:
    """Make a key that takes the place of ``key``, which goes on for the ``overlap``; give it with its text.

    The new one may and may not what the old one did, and lasts as long as that was made for unless ``expires_at`` says
    otherwise. Limits a minute, budgets and rules of routes go on counting both together.

    Raises:
        Conflict: the key is revoked, has expired, or has been replaced already.
        Invalid: the overlap or the expiry is out of bounds.
        Forbidden: the key's role is above the rotator's own, or it reaches further than the key that asks.
    """
    if not dt.timedelta() <= overlap <= LONGEST_OVERLAP:
        text = f"Choose an overlap from 0 seconds to {LONGEST_OVERLAP.days} days."
        raise Invalid(text, errors={"overlap_s": [text]})
    old = ApiKey.objects.select_for_update(of=("self",), no_key=True).get(id=key.id)
    _check_grant(old, granter_role, granted_by, "rotate")
    now = timezone.now()
    _refuse_rotation(old, now)
    life = old.expires_at - old.created_at if old.expires_at else DEFAULT_KEY_LIFE
    new, text = key_mint(
        name=old.name,
        key_scope=old.scope,
        project=old.project,
        role=old.role,
        service_account=old.service_account,
        created_by=created_by,
        granter_role=granter_role,
        granted_by=granted_by,
        expires_at=expires_at or now + min(life, LONGEST_KEY_LIFE),
        ephemeral=old.ephemeral,
        revision=old.revision,
        limits={name: getattr(old, name) for name in KEY_LIMITS},
        narrowed={name: getattr(old, name) for name in reach.KEY_REACH},
    )
    new.earlier = [*old.earlier, old.id]
    new.save(update_fields=["earlier"])
    ends = now + overlap
    key.replaced_by, key.rotated_at = new, now
    key.expires_at = min(old.expires_at, ends) if old.expires_at else ends
    key.save(update_fields=["replaced_by", "rotated_at", "expires_at"])
    return new, text


@transaction.atomic
def key_revoke(*, key: ApiKey, granter_role: str = Role.OWNER) -> ApiKey:
    """Revoke a key at once and for ever; revoking again changes nothing.

    Raises:
        Forbidden: the key's role is above the revoker's own.
    """
    if not may_end(key, granter_role):
        raise Forbidden(f"A member with role {granter_role} cannot revoke a key with role {key.acting_role}.")
    if key.revoked_at is None:
        key.revoked_at = timezone.now()
        key.save(update_fields=["revoked_at"])
        announce()
    return key


def key_line(key_id: uuid.UUID) -> list[uuid.UUID]:
    """Give the id of a key of the open tenant and those of the keys that took its place, one after the other."""
    later = ApiKey.objects.filter(earlier__contains=[key_id]).values_list("id", flat=True)
    return [key_id, *later]


def may_end(key: ApiKey, granter_role: str) -> bool:
    """Say whether a member with ``granter_role`` may revoke, change or rotate a key: its role is not above theirs."""
    return not key.acting_role or roles.may_grant(granter_role, key.acting_role)


def key_authenticate(text: str, *, address: str = "") -> ApiKey:
    """Find the usable management key with this text; ``address`` is where it is used from, "" where that is not known.

    A key under an older pepper is kept under the newest from then on.

    Raises:
        NotFound: it is malformed, unknown, revoked, expired or only for inference; the message says which
            as far as the caller may know.
        Forbidden: it may not be used from ``address``.
    """
    if not secret_keys.well_formed(text):
        raise NotFound("This is not a Berth key: prefix, length or checksum do not match. Was it cut off?")
    digests = [secret_keys.digest(text, pepper) for pepper in secret_keys.peppers()]
    now = timezone.now()
    with scope.platform("authenticate a management key"):
        maker = Membership.objects.filter(tenant=OuterRef("tenant"), user=OuterRef("created_by"))
        key = (
            ApiKey.objects.select_related("tenant", "created_by", "service_account")
            .annotate(maker_role=Subquery(maker.values("role")))
            .filter(digest__in=digests)
            .first()
        )
        if key is None:
            raise NotFound("This key is not known; it may have been made for another installation.")
        _refuse_unusable(key, now)
        if key.networks and not networks.contain(key.networks, address):
            raise Forbidden(
                "This key may not be used from your address: it is limited to certain networks. Use it from there, or"
                " have an owner or admin change its networks."
            )
        _note_use(key, text, address, now)
    return key


def _refuse_unusable(key: ApiKey, now: dt.datetime) -> None:
    if key.revoked_at:
        raise NotFound(f"This key was revoked on {key.revoked_at:%Y-%m-%d %H:%M} UTC.")
    if key.expires_at and key.expires_at <= now:
        told = "was replaced by another" if key.replaced_by_id else "expired"
        raise NotFound(
            f"This key {told} on {key.expires_at:%Y-%m-%d %H:%M} UTC; use the new one, or make one."
        )
    if key.scope != KeyScope.MANAGEMENT:
        raise NotFound("This is an inference key: it calls models at the gateway. Use a management key here.")
    if key.service_account is not None:
        if not key.service_account.active:
            raise NotFound("The service account of this key is disabled; ask an owner or admin.")
    elif key.created_by and not key.created_by.is_active:
        raise NotFound("The person who made this key is no longer active; make a new one.")
    elif key.created_by and not roles.may_grant(key.maker_role or "", key.role):
        # Their keys were revoked when they lost the role, but for one that they made in the same moment.
        raise NotFound("The person who made this key may no longer do what it may; make a new one.")
    if key.seen_projects is not None and not key.seen_projects:
        raise NotFound("This key and its service account are limited to different projects; make a new one.")
    if key.tenant.state != Tenant.State.ACTIVE:
        raise NotFound("The tenant of this key is suspended; speak to the platform's operators.")


def _note_use(key: ApiKey, text: str, address: str, now: dt.datetime) -> None:
    """Write when and from where a management key was used, at most once a minute from one place."""
    changes: dict[str, Any] = {}
    seen_from = address or None
    if (
        key.last_used_at is None
        or now - key.last_used_at > dt.timedelta(minutes=1)
        or (key.last_used_from != seen_from)
    ):
        changes |= {"last_used_at": now, "last_used_from": seen_from}
    newest = secret_keys.newest_pepper()
    if key.pepper_id != newest:
        changes |= {"pepper_id": newest, "digest": secret_keys.digest(text, newest)}
    if changes:
        ApiKey.objects.filter(id=key.id).update(**changes)


def _sign(key: ApiKey) -> str:
    """Give a new key its text, of which the row keeps the beginning and a digest."""
    text = secret_keys.generate()
    key.hint = text[: secret_keys.HINT]
    key.pepper_id = secret_keys.newest_pepper()
    key.digest = secret_keys.digest(text, key.pepper_id)
    return text


def _check_grant(key: ApiKey, granter_role: str, granted_by: ApiKey | None, verb: str) -> None:
    if not may_end(key, granter_role):
        raise Forbidden(f"A member with role {granter_role} cannot {verb} a key with role {key.acting_role}.")
    reach.refuse_wider(key, granted_by)


def _check_account(account: ServiceAccount, key_scope: str, project: Project | None, role: str) -> None:
    if not account.active:
        text = f"The service account {account.name} is disabled; enable it first."
        raise Invalid(text, errors={"service_account": [text]})
    if role:
        text = "A key of a service account has the account's role; leave the role out."
        raise Invalid(text, errors={"role": [text]})
    if (
        key_scope == KeyScope.INFERENCE
        and account.projects
        and project
        and project.id not in account.projects
    ):
        text = f"The service account {account.name} is limited to other projects."
        raise Invalid(text, errors={"project": [text]})


def _refuse_rotation(key: ApiKey, now: dt.datetime) -> None:
    if key.revoked_at is not None:
        raise Conflict("A revoked key cannot be rotated; make a new one.")
    if key.replaced_by_id is not None:
        raise Conflict(
            f"The key {key.name} has been replaced already; rotate the one that took its place.",
            replaced_by=str(key.replaced_by_id),
        )
    if key.expires_at is not None and key.expires_at <= now:
        raise Conflict("An expired key cannot be rotated; make a new one.")
