"""Sign-in providers: the platform's own, those of tenants, and the domains that wait to be confirmed.

Who sets up a provider of the platform may sign in as anybody of its domains, and so with every right: that is for those
who hand out the platform's roles.
"""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from portal.pages.base import ConsolePage, put_on_form
from portal.pages.console.forms import FormPage
from portal.pages.providers_form import (
    PlatformMappingForm,
    ProviderForm,
    facts_of,
    initial_of,
    trouble_with,
)
from tenants.audit import audit
from tenants.errors import BerthError, NotFound
from tenants.identity import providers
from tenants.models import EmailDomain, GroupMapping, IdentityProvider
from tenants.roles import PlatformAction


class SignIn(ConsolePage):
    """All providers, the platform's first, and domains that nobody has confirmed."""

    reason = "show sign-in providers to an operator"
    action = PlatformAction.VIEW_TENANTS

    def get(self, request: HttpRequest) -> HttpResponse:
        rows = IdentityProvider.objects.select_related("tenant").prefetch_related("domains", "mappings")
        context = {
            "ours": rows.filter(tenant=None),
            "theirs": rows.exclude(tenant=None),
            "waiting": EmailDomain.objects.filter(confirmed_at=None).select_related("provider", "tenant"),
        }
        return self.render("console/sign_in/page.html", context)


class ProviderAdd(FormPage):
    reason = "set up a sign-in provider of the platform"
    action = PlatformAction.MANAGE_PEOPLE
    form_class = ProviderForm
    title = "Set up a sign-in provider"
    lede = "Everybody is offered it at sign-in. Its domains are in force at once."
    submit_label = "Set it up"

    def crumbs(self) -> list[dict[str, str]]:
        return [_crumb()]

    def save(self, form: ProviderForm) -> HttpResponse:
        provider = providers.provider_create(tenant=None, **form.cleaned_data)
        self.say(f"{provider.name} is set up. Enter the addresses below there, then map its groups.")
        _warn(self.request, provider)
        return redirect("console:sign-in-provider", provider.id)


class ProviderEdit(FormPage):
    reason = "change a sign-in provider of the platform"
    action = PlatformAction.MANAGE_PEOPLE
    form_class = ProviderForm
    title = "Change the provider"
    lede = "With another issuer it must get to know everybody anew."

    def crumbs(self) -> list[dict[str, str]]:
        provider = _find(self.kwargs["id"])
        return [
            _crumb(),
            {"label": provider.name, "url": reverse("console:sign-in-provider", args=[provider.id])},
        ]

    def initial(self) -> dict[str, Any]:
        return initial_of(_find(self.kwargs["id"]))

    def save(self, form: ProviderForm) -> HttpResponse:
        provider = providers.provider_change(provider=_find(self.kwargs["id"]), **form.cleaned_data)
        self.say(f"{provider.name} is changed.")
        _warn(self.request, provider)
        return redirect("console:sign-in-provider", provider.id)


class ProviderDetail(ConsolePage):
    """One provider of the platform and what its groups may do. POST maps a group."""

    reason = "show a sign-in provider of the platform"
    action = PlatformAction.VIEW_PEOPLE
    write_action = PlatformAction.MANAGE_PEOPLE

    def get(self, request: HttpRequest, id: str) -> HttpResponse:
        return self._show(PlatformMappingForm())

    def post(self, request: HttpRequest, id: str) -> HttpResponse:
        provider, form = _find(id), PlatformMappingForm(request.POST)
        if form.is_valid():
            try:
                providers.mapping_create(provider=provider, **form.wishes())
            except BerthError as error:
                put_on_form(form, error)
            else:
                self.say("The group is mapped; whoever is in it has the role from the next page on.")
                return redirect("console:sign-in-provider", provider.id)
        return self._show(form, status=422)

    def _show(self, form: PlatformMappingForm, *, status: int = 200) -> HttpResponse:
        provider = _find(self.kwargs["id"])
        context = {
            "provider": provider,
            "form": form,
            "facts": facts_of(self.request, provider),
            "domains": provider.domains.all(),
            "mappings": provider.mappings.select_related("tenant"),
            "breadcrumbs": [_crumb(), {"label": provider.name}],
        }
        return self.render("console/sign_in/provider.html", context, status=status)


class ProviderRemove(ConsolePage):
    """Remove a provider of the platform, once confirmed."""

    reason = "remove a sign-in provider of the platform"
    action = PlatformAction.MANAGE_PEOPLE

    def get(self, request: HttpRequest, id: str) -> HttpResponse:
        provider = _find(id)
        context = {
            "provider": provider,
            "consequences": [
                "Whoever is signed in by it is signed out.",
                "Roles that come from its groups end, in tenants and for the platform.",
            ],
            "cancel_url": reverse("console:sign-in-provider", args=[provider.id]),
        }
        return self.render("tenant/sign_in/remove.html", context)

    def post(self, request: HttpRequest, id: str) -> HttpResponse:
        provider = _find(id)
        providers.provider_remove(provider=provider)
        self.say(f"{provider.name} is removed.")
        return redirect("console:sign-in")


class MappingRemove(ConsolePage):
    """Take away what a group may do."""

    reason = "take away what a group of a provider may do"
    action = PlatformAction.MANAGE_PEOPLE
    http_method_names = ["post"]

    def post(self, request: HttpRequest, id: str, mapping_id: str) -> HttpResponse:
        mapping = GroupMapping.objects.filter(provider=_find(id), id=mapping_id).first()
        if mapping is None:
            raise NotFound
        providers.mapping_remove(mapping=mapping)
        self.say("The mapping is taken away.")
        return redirect("console:sign-in-provider", id)


class DomainConfirm(ConsolePage):
    """Put a tenant's domain in force."""

    reason = "confirm that a domain is a tenant's"
    action = PlatformAction.MANAGE_TENANTS
    http_method_names = ["post"]

    def post(self, request: HttpRequest, id: str) -> HttpResponse:
        domain = EmailDomain.objects.select_related("provider", "tenant").filter(id=id).first()
        if domain is None:
            raise NotFound
        providers.domain_confirm(domain=domain, by=request.user)
        audit(request.user, "domain.confirmed", domain=domain.domain, tenant=domain.tenant.slug)
        self.say(f"{domain.provider.name} speaks for {domain.domain} now.")
        return redirect("console:sign-in")


def _find(id: str) -> IdentityProvider:
    provider = IdentityProvider.objects.filter(id=id, tenant=None).first()
    if provider is None:
        raise NotFound("There is no such provider of the platform.")
    return provider


def _crumb() -> dict[str, str]:
    return {"label": "Sign-in providers", "url": reverse("console:sign-in")}


def _warn(request: HttpRequest, provider: IdentityProvider) -> None:
    if trouble := trouble_with(provider):
        messages.warning(request, trouble)
