"""Asking a person to join a tenant: by a link that comes by mail, works once and not for long."""

from __future__ import annotations

import datetime as dt
import secrets
from typing import Final

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from tenants import reach, roles, scope, secret_keys
from tenants.errors import Conflict, Forbidden, Invalid
from tenants.models import ApiKey, Invitation, Membership, Role, Tenant, User
from tenants.validation import clean
from tenants.webhooks.mailing import mail

LASTS: Final = dt.timedelta(days=7)
MAIL: Final = "invitation"


class InvitationClosed(Conflict):
    """An invitation that can no longer be accepted; the message says why."""

    code = "invitation-closed"
    status = 409
    title = "This invitation is closed"


@transaction.atomic
def invitation_create(
    *,
    email: str,
    role: str,
    granter_role: str,
    invited_by: User | None,
    portal_url: str,
    granted_by: ApiKey | None = None,
) -> Invitation:
    """Invite a person to the open tenant and send them the link.

    Raises:
        Forbidden: the role is above the granter's own, or may do what the key that asks may not.
        Invalid: the person is a member or invited already, or the address or role is malformed.
    """
    email = email.strip().lower()
    if role not in Role.values:
        raise Invalid(
            f"{role!r} is not a role.", errors={"role": [f"Choose one of {', '.join(Role.values)}."]}
        )
    _check_grant(role, granter_role, granted_by)
    if Membership.objects.filter(user__email=email).exists():
        told = "This person is a member already."
        raise Invalid(told, errors={"email": [told]})
    # One that ran out makes room for a new one.
    Invitation.objects.filter(
        email=email, accepted_at=None, revoked_at=None, expires_at__lte=timezone.now()
    ).update(revoked_at=timezone.now())
    invitation = Invitation(
        tenant_id=scope.current_tenant_id(), email=email, role=role, invited_by=invited_by
    )
    token = _renew(invitation)
    clean(invitation, identified_by="email")
    invitation.save()
    _send(invitation, token, portal_url)
    return invitation


@transaction.atomic
def invitation_resend(
    *,
    invitation: Invitation,
    granter_role: str,
    invited_by: User | None,
    portal_url: str,
    granted_by: ApiKey | None = None,
) -> Invitation:
    """Send a new link, which lasts anew; the old one no longer works. It is then the invitation of who sent it last.

    Raises:
        InvitationClosed: it was accepted or revoked.
        Forbidden: its role is above the granter's own, or may do what the key that asks may not.
    """
    invitation = Invitation.objects.select_for_update().get(id=invitation.id)
    if invitation.state in ("accepted", "revoked"):
        raise InvitationClosed(f"The invitation was {invitation.state}; invite the person again.")
    _check_grant(invitation.role, granter_role, granted_by)
    invitation.invited_by = invited_by
    token = _renew(invitation)
    invitation.save(update_fields=["invited_by", "token_digest", "pepper_id", "sent_at", "expires_at"])
    _send(invitation, token, portal_url)
    return invitation


@transaction.atomic
def invitation_revoke(*, invitation: Invitation) -> Invitation:
    """Take an invitation back; its link no longer works. Revoking again changes nothing.

    Raises:
        InvitationClosed: it was accepted.
    """
    invitation = Invitation.objects.select_for_update().get(id=invitation.id)
    if invitation.accepted_at:
        raise InvitationClosed("The invitation was accepted; remove the member instead.")
    if invitation.revoked_at is None:
        invitation.revoked_at = timezone.now()
        invitation.save(update_fields=["revoked_at"])
    return invitation


def invitation_of_token(token: str) -> Invitation | None:
    """Find the invitation that a link is for, whatever its state."""
    digests = [_digest(token, number) for number in secret_keys.peppers()]
    with scope.platform("find the invitation of a link"):
        return Invitation.objects.filter(token_digest__in=digests).first()


def invitation_opened(digest: str) -> tuple[Invitation | None, str]:
    """Give an invitation by the digest of the link that somebody opened, and why it cannot be accepted ("": it can).

    A link that was sent again since is no longer found.
    """
    with scope.platform("show an invitation to whoever has its link"):
        invitation = (
            Invitation.objects.select_related("tenant", "invited_by").filter(token_digest=digest).first()
        )
        if invitation is None:
            return None, "Open the link in the mail again."
        return invitation, invitation_refusal(invitation)


def invitation_refusal(invitation: Invitation) -> str:
    """Say why an invitation cannot be accepted, or "" where it can. Call it in the platform's scope."""
    if invitation.state == "accepted":
        return "It was used already. If that was you, sign in."
    if invitation.state == "revoked":
        return "It was taken back, or a newer one took its place."
    if invitation.state == "expired":
        return "It is more than seven days old. Ask for a new one."
    if invitation.tenant.state != Tenant.State.ACTIVE:
        return f"{invitation.tenant.name} is suspended."
    if invitation.invited_by_id is not None:
        granter = (
            Membership.objects.filter(
                tenant_id=invitation.tenant_id, user_id=invitation.invited_by_id, user__is_active=True
            )
            .values_list("role", flat=True)
            .first()
        )
        if granter is None or not roles.may_grant(granter, invitation.role):
            return f"Whoever sent it may no longer give the role {invitation.role}. Ask for a new one."
    return ""


@transaction.atomic
def invitation_accept(*, invitation: Invitation, user: User) -> Membership:
    """Make the invited person a member.

    Raises:
        InvitationClosed: it can no longer be accepted.
        Forbidden: it was sent to somebody else.
        Invalid: the person is a member already.
    """
    with scope.platform("accept an invitation"):
        invitation = Invitation.objects.select_for_update(of=("self",)).get(id=invitation.id)
        if why := invitation_refusal(invitation):
            raise InvitationClosed(why)
        if invitation.email != user.email.lower():
            raise Forbidden(f"The invitation is for {invitation.email}, and you are {user.email}.")
    with scope.tenant(invitation.tenant_id):
        membership = Membership(tenant_id=invitation.tenant_id, user=user, role=invitation.role)
        clean(membership, identified_by="email")
        membership.save()
        invitation.accepted_at = timezone.now()
        invitation.save(update_fields=["accepted_at"])
    return membership


@transaction.atomic
def invited_account_create(*, invitation: Invitation, name: str, password: str) -> User:
    """Make the account of an invited person; the link that came by mail has proven the address.

    Raises:
        Conflict: there is an account of this address.
        Invalid: the password will not do.
    """
    if User.objects.filter(email__iexact=invitation.email).exists():
        raise Conflict("There is an account of this address already; sign in with it.")
    user = User(email=invitation.email, name=name.strip())
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise Invalid(error.messages[0], errors={"password": error.messages}) from error
    user.set_password(password)
    clean(user, identified_by="name")
    user.save()
    return user


def _check_grant(role: str, granter_role: str, granted_by: ApiKey | None) -> None:
    if not roles.may_grant(granter_role, role):
        raise Forbidden(f"A member with role {granter_role} cannot hand out the role {role}.")
    reach.refuse_wider_role(role, granted_by)


def _renew(invitation: Invitation) -> str:
    token = secrets.token_urlsafe(32)
    invitation.pepper_id = secret_keys.newest_pepper()
    invitation.token_digest = _digest(token, invitation.pepper_id)
    invitation.sent_at = timezone.now()
    invitation.expires_at = invitation.sent_at + LASTS
    return token


def _digest(token: str, pepper_id: int) -> str:
    # Apart from the keys' own digests under the same pepper.
    return secret_keys.digest(f"invitation:{token}", pepper_id)


def _send(invitation: Invitation, token: str, portal_url: str) -> None:
    tenant = Tenant.objects.get(id=invitation.tenant_id)
    by = f"{invitation.invited_by} ({invitation.invited_by.email})" if invitation.invited_by else "An admin"
    mail(
        tenant_id=invitation.tenant_id,
        event_type=MAIL,
        subject=f"Invitation to {tenant.name} on Berth",
        text=(
            f"{by} invites you to {tenant.name} on Berth, as {Role(invitation.role).label.lower()}.\n\n"
            f"Open this link to join. It works once, until {invitation.expires_at:%d %B %Y, %H:%M} UTC:\n\n"
            f"{portal_url.rstrip('/')}/invitations/{token}\n\n"
            "If you expected no invitation, do nothing: nobody joins without the link.\n"
        ),
        recipients=[invitation.email],
        secret=True,
    )
