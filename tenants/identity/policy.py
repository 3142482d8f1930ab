"""Who signs in where: providers by domain, and tenants that take no passwords."""

from __future__ import annotations

from django.http import HttpRequest

from tenants import scope
from tenants.errors import BerthError, Invalid
from tenants.identity.sign_in import by_provider
from tenants.models import EmailDomain, IdentityProvider, Membership, Role, SecondFactorOf, Tenant, User


def platform_providers() -> list[IdentityProvider]:
    """List the providers that everybody is offered at sign-in."""
    with scope.platform("offer the platform's providers at sign-in"):
        return list(IdentityProvider.objects.filter(active=True, tenant=None))


def provider_of_address(email: str) -> IdentityProvider | None:
    """Find the provider that speaks for an e-mail address. It says nothing of whether there is an account."""
    with scope.platform("find the provider of an e-mail address at sign-in"):
        found = (
            EmailDomain.objects.select_related("provider")
            .filter(domain=domain_of(email), confirmed_at__isnull=False, provider__active=True)
            .first()
        )
        return found.provider if found else None


def speaks_for(row: IdentityProvider, email: str) -> bool:
    """Say whether the domain of an address was confirmed to be a provider's."""
    with scope.platform("see whether a domain is a provider's"):
        return EmailDomain.objects.filter(
            provider=row, domain=domain_of(email), confirmed_at__isnull=False
        ).exists()


def domain_of(email: str) -> str:
    """Give the domain of an address, in lower case."""
    return email.strip().rpartition("@")[2].lower()


class ProviderDemanded(BerthError):
    """Somebody who signed in by a password or a passkey asks, and their tenant takes providers only."""

    code = "provider-required"
    status = 403
    title = "Sign in by your organisation"


def refuse_other_sign_in(request: HttpRequest, membership: Membership) -> None:
    """Check that a member is signed in as their tenant wants it.

    Raises:
        ProviderDemanded: they are not.
    """
    if takes_providers_only(membership) and not by_provider(request):
        raise ProviderDemanded(
            f"{membership.tenant} lets members in by a sign-in provider only. Sign out, then sign in by your"
            " organisation."
        )


def takes_providers_only(membership: Membership) -> bool:
    """Say whether a member's password is not taken. Owners' is, for a provider may fail."""
    return membership.tenant.provider_only and membership.role != Role.OWNER


def must_use_provider(user: User) -> str:
    """Name a tenant that does not take a member's password, or "" where it opens any door.

    It does for owners, so that a provider that fails locks nobody out for good, for members of another tenant that
    takes it, which they then reach alone (:func:`refuse_other_sign_in`), and for people of the platform.
    """
    if user.acts_for_platform:
        return ""
    with scope.platform("see whether a tenant of a person who signs in takes passwords"):
        memberships = Membership.objects.select_related("tenant").filter(
            user=user, tenant__state=Tenant.State.ACTIVE
        )
        found = list(memberships)
    closed = bool(found) and all(map(takes_providers_only, found))
    return found[0].tenant.name if closed else ""


def tenant_policy_set(*, tenant: Tenant, second_factor_of: str, provider_only: bool) -> Tenant:
    """Say who of a tenant needs a second factor, and whether its members' passwords are taken.

    Raises:
        Invalid: passwords would not be taken, and no provider is there that signs members in.
    """
    if provider_only and not (_signs_members_in() or platform_providers()):
        told = "Set up a sign-in provider first and have one of its domains confirmed: nobody else could sign in."
        raise Invalid(told, errors={"provider_only": [told]})
    tenant.second_factor_of = SecondFactorOf(second_factor_of)
    tenant.provider_only = provider_only
    tenant.save(update_fields=["second_factor_of", "provider_only"])
    return tenant


def _signs_members_in() -> bool:
    return EmailDomain.objects.filter(provider__active=True, confirmed_at__isnull=False).exists()
