"""Setting up providers: who they are, whose domains they speak for, what their groups may do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from allauth.socialaccount.models import SocialAccount
from django.db import IntegrityError, transaction
from django.utils import timezone

from tenants import outside, scope
from tenants.errors import Conflict, Invalid
from tenants.identity.groups import roles_of_provider_sync, roles_sync
from tenants.identity.sealed import seal_field
from tenants.identity.sign_in import sessions_end
from tenants.models import (
    EmailDomain,
    GroupMapping,
    IdentityProvider,
    Membership,
    ProviderIdentity,
    Tenant,
    User,
)
from tenants.validation import clean

FIELDS = (
    "name", "issuer", "client_id", "scopes", "groups_claim", "makes_accounts", "second_factor", "active",
)  # fmt: skip


@transaction.atomic
def provider_create(
    *, tenant: Tenant | None, client_secret: str = "", domains: Iterable[str] = (), **fields: Any
) -> IdentityProvider:
    """Set up a provider, of a tenant or of the platform.

    Raises:
        Invalid: the issuer may not be spoken to, or another value is wrong.
    """
    provider = IdentityProvider(tenant=tenant, **fields)
    _check(provider)
    provider.save()
    _keep_secret(provider, client_secret)
    domains_set(provider=provider, domains=domains)
    return provider


@transaction.atomic
def provider_change(
    *,
    provider: IdentityProvider,
    client_secret: str = "",
    domains: Iterable[str] | None = None,
    **fields: Any,
) -> IdentityProvider:
    """Change what is given. With another issuer it is another authority: whom it knew it must get to know anew.

    An empty ``client_secret`` keeps the one that is there.
    """
    issuer = provider.issuer
    for name, value in fields.items():
        setattr(provider, name, value)
    _check(provider)
    provider.save(update_fields=list(fields))
    _keep_secret(provider, client_secret)
    if provider.issuer != issuer:
        _forget_people(provider)
        EmailDomain.objects.filter(provider=provider).update(confirmed_at=None, confirmed_by=None)
    if domains is not None:
        domains_set(provider=provider, domains=domains)
    roles_of_provider_sync(provider=provider)
    return provider


@transaction.atomic
def provider_remove(*, provider: IdentityProvider) -> None:
    """Remove a provider with the roles that its groups gave, and end the sessions that it vouches for."""
    _forget_people(provider)
    provider.delete()


@transaction.atomic
def domains_set(*, provider: IdentityProvider, domains: Iterable[str]) -> None:
    """Say whose addresses a provider speaks for; what is new of a tenant's waits for an operator.

    Raises:
        Invalid: one is no domain.
        Conflict: one is another provider's.
    """
    wanted = {each.strip().lower().rstrip(".") for each in domains if each.strip()}
    EmailDomain.objects.filter(provider=provider).exclude(domain__in=wanted).delete()
    known = set(EmailDomain.objects.filter(provider=provider).values_list("domain", flat=True))
    for domain in sorted(wanted - known):
        row = EmailDomain(tenant_id=provider.tenant_id, provider=provider, domain=domain)
        try:
            clean(row)
        except Invalid as error:
            raise Invalid(f"{domain}: {error.message}", errors={"domains": [error.message]}) from error
        row.save()
    if provider.tenant_id is None:
        for row in EmailDomain.objects.filter(provider=provider, confirmed_at=None):
            domain_confirm(domain=row, by=None)


@transaction.atomic
def domain_confirm(*, domain: EmailDomain, by: User | None) -> None:
    """Put a domain in force: from now on the provider may sign in whoever has an address of it.

    Raises:
        Conflict: it was confirmed for another provider.
    """
    try:
        with transaction.atomic():
            domain.confirmed_at, domain.confirmed_by = timezone.now(), by
            domain.save(update_fields=["confirmed_at", "confirmed_by"])
    except IntegrityError as error:
        raise Conflict(
            f"The domain {domain.domain} is another provider's; take it away there first."
        ) from error


@transaction.atomic
def mapping_create(
    *,
    provider: IdentityProvider,
    group: str,
    tenant: Tenant | None = None,
    role: str = "",
    platform_role: str = "",
) -> GroupMapping:
    """Say what a group may do; it takes effect at the next request of everybody in it.

    Raises:
        Invalid: the group is mapped already, or a role is wrong.
        Conflict: a tenant's provider would give rights outside its tenant.
    """
    if provider.tenant_id is not None and (tenant is None or tenant.id != provider.tenant_id):
        raise Conflict("The provider of a tenant gives roles in that tenant alone.")
    mapping = GroupMapping(
        provider=provider, tenant=tenant, group=group.strip(), role=role, platform_role=platform_role
    )
    clean(mapping, identified_by="group")
    mapping.save()
    roles_of_provider_sync(provider=provider)
    return mapping


@transaction.atomic
def mapping_remove(*, mapping: GroupMapping) -> None:
    """Take away what a group may do; it takes effect at the next request of everybody in it."""
    provider = mapping.provider
    mapping.delete()
    roles_of_provider_sync(provider=provider)


def _check(provider: IdentityProvider) -> None:
    clean(provider)
    try:
        target = outside.resolve(provider.issuer)
    except outside.Refused as error:
        raise Invalid(str(error), errors={"issuer": [str(error)]}) from error
    if "?" in target.path or "#" in provider.issuer:
        told = "Give the issuer alone, as its documentation names it; without a query."
        raise Invalid(told, errors={"issuer": [told]})


def _keep_secret(provider: IdentityProvider, secret: str) -> None:
    if secret:
        provider.client_secret = seal_field(secret, row=provider, field="client_secret")
        provider.save(update_fields=["client_secret"])


def _forget_people(provider: IdentityProvider) -> None:
    with scope.platform("a provider no longer vouches for people"):
        identities = list(ProviderIdentity.objects.filter(provider=provider).select_related("user"))
        for identity in identities:
            sessions_end(user=identity.user, identity=identity)
        ProviderIdentity.objects.filter(provider=provider).delete()
        for user in {identity.user for identity in identities}:
            roles_sync(user=user, provider=provider)
        left = Membership.objects.filter(managed_by=provider)
        if left.exists():
            raise Conflict("Some members are still managed by this provider.")
    SocialAccount.objects.filter(provider=str(provider.id)).delete()
