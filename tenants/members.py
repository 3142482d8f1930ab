"""People of a tenant: adding one, changing a role, removing one, finding whose member a person is."""

from __future__ import annotations

import uuid

from django.db import transaction
from django.utils import timezone

from tenants import reach, roles, scope
from tenants.errors import Conflict, Forbidden, Invalid
from tenants.models import ApiKey, KeyScope, Membership, ProviderIdentity, Role, Tenant, User
from tenants.validation import clean


@transaction.atomic
def member_add(
    *, email: str, role: str, granter_role: str, name: str = "", password: str | None = None
) -> Membership:
    """Add a person to the open tenant, making their account when there is none.

    They are not asked: this is for whoever sets an installation up. All others invite.

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
def member_change_role(
    *, membership: Membership, role: str, granter_role: str, granted_by: ApiKey | None = None
) -> Membership:
    """Give a member another role; management keys they made with a higher one are revoked.

    Raises:
        Forbidden: either role is above the granter's own, or the new one may do what the key that asks may not.
        Conflict: the tenant would be left without an owner, or a provider's groups decide.
    """
    if role not in Role.values:
        raise Invalid(
            f"{role!r} is not a role.", errors={"role": [f"Choose one of {', '.join(Role.values)}."]}
        )
    if not (roles.may_grant(granter_role, role) and roles.may_grant(granter_role, membership.role)):
        raise Forbidden(f"A member with role {granter_role} cannot change {membership.role} to {role}.")
    reach.refuse_wider_role(role, granted_by)
    if membership.managed_by_id is not None:
        raise Conflict(
            "The groups of a sign-in provider decide about this member's role. Change the groups there, or what they "
            "may do under Settings, Sign-in."
        )
    if role != Role.OWNER:
        _keep_an_owner(membership)
    membership.role = role
    membership.save(update_fields=["role"])
    keys_revoke_above(membership.user_id, role)
    return membership


@transaction.atomic
def member_remove(*, membership: Membership, granter_role: str) -> None:
    """Take a person out of the tenant and revoke the management keys they made.

    Inference keys go on: programs use them, and they reach no more than their project's endpoints. So do keys of
    service accounts, which act for no person.

    Whom a provider's groups made a member is back when the provider says so anew. Whoever left the organisation signs
    in no more, and is taken out here.

    Raises:
        Forbidden: the member's role is above the granter's own.
        Conflict: the tenant would be left without an owner.
    """
    if not roles.may_grant(granter_role, membership.role):
        raise Forbidden(f"A member with role {granter_role} cannot remove an {membership.role}.")
    _keep_an_owner(membership)
    keys_revoke_above(membership.user_id, None)
    if membership.managed_by_id is not None:
        with scope.platform("forget what the tenant's provider told of somebody who is taken out"):
            ProviderIdentity.objects.filter(
                user=membership.user_id,
                provider=membership.managed_by_id,
                provider__tenant=membership.tenant_id,
            ).delete()
    membership.delete()


def keys_revoke_above(user_id: uuid.UUID, role: str | None) -> None:
    """Revoke what would outlive its maker's rights: all their management keys, or those above ``role``."""
    keys = ApiKey.objects.filter(
        created_by_id=user_id, scope=KeyScope.MANAGEMENT, revoked_at=None, service_account=None
    )
    if role is not None:
        keys = keys.filter(role__in=[each for each in Role.values if not roles.may_grant(role, each)])
    keys.update(revoked_at=timezone.now())


def _keep_an_owner(membership: Membership) -> None:
    # Locking all owner rows makes two owners who demote each other at once wait for one another.
    owners = list(Membership.objects.select_for_update().filter(role=Role.OWNER).values_list("id", flat=True))
    if owners == [membership.id]:
        raise Conflict("A tenant needs an owner; make another member owner first.")


def memberships_of(*, user_id: uuid.UUID) -> list[Membership]:
    """List a person's memberships in all active tenants, by tenant name."""
    with scope.platform("list the tenants of a signed-in person"):
        return list(
            Membership.objects.select_related("tenant")
            .filter(user_id=user_id, tenant__state=Tenant.State.ACTIVE)
            .order_by("tenant__name")
        )
