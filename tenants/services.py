"""What can be done to tenants, projects, people, keys and quotas."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from tenants import roles, scope, secret_keys
from tenants.announcements import announce
from tenants.errors import Conflict, Forbidden, Invalid, NotFound
from tenants.limits import check_key_limits
from tenants.models import ApiKey, KeyScope, Membership, Project, Quota, Role, Tenant, User
from tenants.validation import clean

LONGEST_KEY_LIFE = dt.timedelta(days=366)
DEFAULT_KEY_LIFE = dt.timedelta(days=90)
PLAYGROUND_KEY_LIFE = dt.timedelta(hours=1)


@transaction.atomic
def tenant_create(
    *, name: str, slug: str, owner: User, time_zone: str = "UTC", currency: str = "EUR", gpus: int = 0
) -> Tenant:
    """Make a tenant with its owner, a first project and its GPU quota."""
    tenant = Tenant(name=name, slug=slug, time_zone=time_zone, currency=currency)
    clean(tenant)
    with scope.platform("create a tenant"):
        tenant.save()
    with scope.tenant(tenant.id):
        Membership.objects.create(user=owner, role=Role.OWNER)
        project_create(name="Default", slug="default")
        quota_set(resource="gpus", limit=gpus)
        quota_set(resource="endpoints", limit=20)
    return tenant


@transaction.atomic
def tenant_open(
    *,
    name: str,
    slug: str,
    owner_email: str,
    owner_name: str = "",
    password: str = "",
    time_zone: str = "UTC",
    currency: str = "EUR",
    gpus: int = 0,
) -> Tenant:
    """Make a tenant whose owner is named by e-mail address, making their account when there is none.

    Without ``password`` a new account cannot sign in before its owner has chosen one by way of a reset.

    Raises:
        Invalid: the slug is taken, or the address or the password will not do.
    """
    email = owner_email.strip().lower()
    owner = User.objects.filter(email=email).first()
    if owner is None:
        owner = User(email=email, name=owner_name)
        if password:
            _check_password(password, owner)
        owner.set_password(password or None)
        try:
            clean(owner)
        except Invalid as error:
            found = {f"owner_{field}": texts for field, texts in error.errors.items()}
            raise Invalid(error.message, errors=found) from error
        owner.save()
    return tenant_create(name=name, slug=slug, owner=owner, time_zone=time_zone, currency=currency, gpus=gpus)


def _check_password(password: str, user: User) -> None:
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise Invalid(error.messages[0], errors={"password": error.messages}) from error


@transaction.atomic
def project_create(
    *, name: str, slug: str, cost_centre: str = "", limits: Mapping[str, int | None] | None = None
) -> Project:
    """Make a project in the open tenant; ``limits`` are those of :mod:`tenants.limits`.

    Raises:
        Invalid: the slug is taken or malformed, or a limit is out of bounds.
    """
    project = Project(
        tenant_id=scope.current_tenant_id(), name=name, slug=slug, cost_centre=cost_centre, **(limits or {})
    )
    clean(project, identified_by="slug")
    project.save()
    announce()
    return project


@transaction.atomic
def project_change(*, project: Project, name: str | None = None, cost_centre: str | None = None) -> Project:
    """Change what is given of a project's name and cost centre."""
    wishes = {"name": name, "cost_centre": cost_centre}
    changed = [
        field for field, wish in wishes.items() if wish is not None and wish != getattr(project, field)
    ]
    for field in changed:
        setattr(project, field, wishes[field])
    if changed:
        clean(project, identified_by="slug")
        project.save(update_fields=changed)
        announce()
    return project


@transaction.atomic
def member_add(
    *, email: str, role: str, granter_role: str, name: str = "", password: str | None = None
) -> Membership:
    """Add a person to the open tenant, making their account when there is none.

    Raises:
        Forbidden: the role is above the granter's own.
        Invalid: the person is a member already, or the address or role is malformed.
    """
    if role not in Role.values:
        raise Invalid(
            f"{role!r} is not a role.", errors={"role": [f"Choose one of {', '.join(Role.values)}."]}
        )
    if not roles.may_grant(granter_role, role):
        raise Forbidden(f"A member with role {granter_role} cannot hand out the role {role}.")
    email = email.strip().lower()
    user = User.objects.filter(email=email).first()
    if user is None:
        user = User(email=email, name=name)
        user.set_password(password)
        clean(user)
        user.save()
    membership = Membership(tenant_id=scope.current_tenant_id(), user=user, role=role)
    clean(membership, identified_by="email")
    membership.save()
    return membership


@transaction.atomic
def member_change_role(*, membership: Membership, role: str, granter_role: str) -> Membership:
    """Give a member another role; management keys they made with a higher one are revoked.

    Raises:
        Forbidden: either role is above the granter's own.
        Conflict: the tenant would be left without an owner.
    """
    if role not in Role.values:
        raise Invalid(
            f"{role!r} is not a role.", errors={"role": [f"Choose one of {', '.join(Role.values)}."]}
        )
    if not (roles.may_grant(granter_role, role) and roles.may_grant(granter_role, membership.role)):
        raise Forbidden(f"A member with role {granter_role} cannot change {membership.role} to {role}.")
    if role != Role.OWNER:
        _keep_an_owner(membership)
    membership.role = role
    membership.save(update_fields=["role"])
    _revoke_keys_above(membership.user_id, role)
    return membership


@transaction.atomic
def member_remove(*, membership: Membership, granter_role: str) -> None:
    """Take a person out of the tenant and revoke the management keys they made.

    Inference keys go on: programs use them, and they reach no more than their project's endpoints.

    Raises:
        Forbidden: the member's role is above the granter's own.
        Conflict: the tenant would be left without an owner.
    """
    if not roles.may_grant(granter_role, membership.role):
        raise Forbidden(f"A member with role {granter_role} cannot remove an {membership.role}.")
    _keep_an_owner(membership)
    _revoke_keys_above(membership.user_id, None)
    membership.delete()


def _revoke_keys_above(user_id: uuid.UUID, role: str | None) -> None:
    """Revoke what would outlive its maker's rights: all their management keys, or those above ``role``."""
    keys = ApiKey.objects.filter(created_by_id=user_id, scope=KeyScope.MANAGEMENT, revoked_at=None)
    if role is not None:
        keys = keys.filter(role__in=[each for each in Role.values if not roles.may_grant(role, each)])
    keys.update(revoked_at=timezone.now())


def _keep_an_owner(membership: Membership) -> None:
    # Locking all owner rows makes two owners who demote each other at once wait for one another.
    owners = list(Membership.objects.select_for_update().filter(role=Role.OWNER).values_list("id", flat=True))
    if owners == [membership.id]:
        raise Conflict("A tenant needs an owner; make another member owner first.")


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


@transaction.atomic
def quota_set(*, resource: str, limit: int) -> Quota:
    """Set a quota of the open tenant."""
    quota, _ = Quota.objects.update_or_create(
        tenant_id=scope.current_tenant_id(), resource=resource, defaults={"limit": limit}
    )
    return quota


def quota_limits() -> dict[str, int]:
    """Give the open tenant's limits by resource."""
    return dict(Quota.objects.filter(tenant_id=scope.current_tenant_id()).values_list("resource", "limit"))


def membership_of(*, user: User, slug: str) -> Membership:
    """Find a person's membership in the tenant with this slug.

    Raises:
        NotFound: there is no such tenant, or the person is not a member: both read the same.
    """
    with scope.platform("find the tenant that a signed-in person asks for"):
        membership = (
            Membership.objects.select_related("tenant")
            .filter(user=user, tenant__slug=slug, tenant__state=Tenant.State.ACTIVE)
            .first()
        )
    if membership is None:
        raise NotFound("There is no such page.")
    return membership


def memberships_of(*, user_id: uuid.UUID) -> list[Membership]:
    """List a person's memberships in all active tenants, by tenant name."""
    with scope.platform("list the tenants of a signed-in person"):
        return list(
            Membership.objects.select_related("tenant")
            .filter(user_id=user_id, tenant__state=Tenant.State.ACTIVE)
            .order_by("tenant__name")
        )
