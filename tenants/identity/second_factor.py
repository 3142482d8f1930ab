"""Second factors: who must have one, and how allauth keeps their secrets."""

from __future__ import annotations

from typing import Final

from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.db import transaction
from django.db.models import Q

from tenants import scope
from tenants.errors import BerthError
from tenants.identity.sealed import seal_second_factor, unseal_second_factor
from tenants.identity.sign_in import sessions_end
from tenants.identity.trail import tell_of
from tenants.models import IdentityProvider, Membership, Role, SecondFactorOf, Tenant, User

#: Recovery codes alone are none: they stand in for one that is lost.
FACTORS: Final = (Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN)


class SecondFactorDemanded(BerthError):
    """A person without a second factor asks, and the platform or a tenant of theirs demands one."""

    code = "mfa-required"
    status = 403
    title = "A second factor is needed"


class SecondFactorAdapter(DefaultMFAAdapter):
    """Keeps secrets sealed, and the last factor where one is demanded."""

    def encrypt(self, text: str) -> str:
        return seal_second_factor(text)

    def decrypt(self, encrypted_text: str) -> str:
        return unseal_second_factor(encrypted_text)

    def can_delete_authenticator(self, authenticator: Authenticator) -> bool:
        user = authenticator.user
        others = Authenticator.objects.filter(user=user, type__in=FACTORS).exclude(pk=authenticator.pk)
        return others.exists() or not second_factor_demanded(user)


def has_second_factor(user: User) -> bool:
    """Say whether a person has an authenticator app or a passkey."""
    return Authenticator.objects.filter(user=user, type__in=FACTORS).exists()


def second_factor_demanded(user: User, *, asked_by: IdentityProvider | None = None) -> str:
    """Say who demands a second factor of a person: a sentence, or "" where nobody does.

    ``asked_by`` is a provider that has asked for one itself. The word of the platform's counts everywhere, that of a
    tenant's in that tenant alone.
    """
    if asked_by is not None and asked_by.tenant_id is None:
        return ""
    demanded = settings.MFA_REQUIRED_FOR
    if "all" in demanded:
        return "Everybody here needs a second factor."
    if "platform" in demanded and user.acts_for_platform:
        return "Everybody who acts for the platform needs a second factor."
    owners = Q(role=Role.OWNER)
    if "owners" not in demanded:
        owners &= Q(tenant__second_factor_of=SecondFactorOf.OWNERS)
    with scope.platform("see whether a tenant demands a second factor of a signed-in person"):
        found = (
            Membership.objects.select_related("tenant")
            .filter(user=user, tenant__state=Tenant.State.ACTIVE)
            .filter(owners | Q(tenant__second_factor_of=SecondFactorOf.ALL))
            .exclude(tenant=asked_by.tenant_id if asked_by else None)
            .order_by("tenant__name")
            .first()
        )
    if found is None:
        return ""
    if found.tenant.second_factor_of == SecondFactorOf.ALL:
        return f"{found.tenant.name} demands a second factor of all its members."
    return f"Owners of {found.tenant.name} need a second factor."


@transaction.atomic
def second_factors_remove(*, user: User, by: User) -> None:
    """Take all second factors of a person away, recovery codes too, and end their sessions: they lost what they had.

    Whoever does it has made sure who asks.
    """
    Authenticator.objects.filter(user=user).delete()
    sessions_end(user=user)
    tell_of(user, "second-factor.removed", operator=by, kind="all")
