"""A tenant's sign-in: its own providers, what their groups may do, who needs a second factor."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect

from portal.pages.base import TenantPage, put_on_form
from portal.pages.providers_form import MappingForm, ProviderForm, facts_of, initial_of, trouble_with
from tenants.errors import BerthError
from tenants.identity import providers
from tenants.identity.policy import tenant_policy_set
from tenants.models import GroupMapping, IdentityProvider, SecondFactorOf
from tenants.roles import Action


class PolicyForm(forms.Form):
    """What a tenant demands of its members."""

    second_factor_of = forms.ChoiceField(
        choices=SecondFactorOf.choices, required=False, label="A second factor is needed by",
        help_text="Who has none is led to where it is set up, before anything else.",
    )  # fmt: skip
    provider_only = forms.BooleanField(
        required=False, label="Members sign in by a provider only",
        help_text="Their passwords are refused. Owners' are taken, so that a provider that fails locks nobody out.",
    )  # fmt: skip


class SignInPage(TenantPage):
    """A screen about sign-in, for owners."""

    action = Action.MANAGE_IDENTITY

    def provider(self) -> IdentityProvider:
        """Give the provider of this tenant that the address names."""
        found = IdentityProvider.objects.filter(id=self.kwargs["id"]).first()
        if found is None:
            raise Http404
        return found

    def crumbs(self, *more: dict[str, Any]) -> list[dict[str, Any]]:
        """Give the way here."""
        return [
            {"label": "Settings", "url": self.url("settings")},
            {"label": "Sign-in", "url": self.url("sign-in")},
            *more,
        ]

    def warn_of(self, provider: IdentityProvider) -> None:
        """Leave a message that says what stands in the way of signing in."""
        if trouble := trouble_with(provider):
            messages.warning(self.request, trouble)


class SignIn(SignInPage):
    """The providers, and what is demanded of members."""

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        initial = {name: getattr(self.tenant, name) for name in PolicyForm.base_fields}
        return self._show(PolicyForm(initial=initial))

    def post(self, request: HttpRequest, slug: str) -> HttpResponse:
        form = PolicyForm(request.POST)
        if form.is_valid():
            try:
                tenant_policy_set(tenant=self.tenant, **form.cleaned_data)
            except BerthError as error:
                put_on_form(form, error)
            else:
                self.say("It is saved, and holds from the next page on.")
                return redirect(self.url("sign-in"))
        return self._show(form, status=422)

    def _show(self, form: PolicyForm, *, status: int = 200) -> HttpResponse:
        rows = IdentityProvider.objects.prefetch_related("domains", "mappings")
        context = {
            "form": form,
            "rows": [{"provider": each, "url": self.url("sign-in-provider", each.id)} for each in rows],
            "breadcrumbs": [*self.crumbs()[:1], {"label": "Sign-in"}],
        }
        return self.render("tenant/sign_in/page.html", context, status=status)


class NewProvider(SignInPage):
    """Set up a provider."""

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        return self._show(ProviderForm())

    def post(self, request: HttpRequest, slug: str) -> HttpResponse:
        form = ProviderForm(request.POST)
        if form.is_valid():
            try:
                provider = providers.provider_create(tenant=self.tenant, **form.cleaned_data)
            except BerthError as error:
                put_on_form(form, error)
            else:
                self.say(f"{provider.name} is set up. Enter the addresses below there, then map its groups.")
                self.warn_of(provider)
                return redirect(self.url("sign-in-provider", provider.id))
        return self._show(form, status=422)

    def _show(self, form: ProviderForm, *, status: int = 200) -> HttpResponse:
        context = {
            "form": form,
            "title": "Set up a sign-in provider",
            "submit_label": "Set it up",
            "cancel_url": self.url("sign-in"),
            "breadcrumbs": self.crumbs({"label": "New"}),
        }
        return self.render("console/form.html", context, status=status)


class ProviderDetail(SignInPage):
    """One provider: its domains, and what its groups may do. POST maps a group."""

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        return self._show(MappingForm())

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        provider, form = self.provider(), MappingForm(request.POST)
        if form.is_valid():
            try:
                providers.mapping_create(provider=provider, tenant=self.tenant, **form.cleaned_data)
            except BerthError as error:
                put_on_form(form, error)
            else:
                self.say("The group is mapped; whoever is in it has the role from the next page on.")
                return redirect(self.url("sign-in-provider", provider.id))
        return self._show(form, status=422)

    def _show(self, form: MappingForm, *, status: int = 200) -> HttpResponse:
        provider = self.provider()
        context = {
            "provider": provider,
            "form": form,
            "facts": facts_of(self.request, provider),
            "domains": provider.domains.all(),
            "mappings": provider.mappings.all(),
            "breadcrumbs": self.crumbs({"label": provider.name}),
        }
        return self.render("tenant/sign_in/provider.html", context, status=status)


class EditProvider(SignInPage):
    """Change a provider."""

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        return self._show(ProviderForm(initial=initial_of(self.provider())))

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        form = ProviderForm(request.POST)
        if form.is_valid():
            try:
                provider = providers.provider_change(provider=self.provider(), **form.cleaned_data)
            except BerthError as error:
                put_on_form(form, error)
            else:
                self.say(f"{provider.name} is changed.")
                self.warn_of(provider)
                return redirect(self.url("sign-in-provider", provider.id))
        return self._show(form, status=422)

    def _show(self, form: ProviderForm, *, status: int = 200) -> HttpResponse:
        provider = self.provider()
        here = self.url("sign-in-provider", provider.id)
        context = {
            "form": form,
            "title": f"Change {provider.name}",
            "lede": "With another issuer it must get to know everybody anew, and its domains be confirmed again.",
            "submit_label": "Save",
            "cancel_url": here,
            "breadcrumbs": self.crumbs({"label": provider.name, "url": here}, {"label": "Edit"}),
        }
        return self.render("console/form.html", context, status=status)


class RemoveProvider(SignInPage):
    """Remove a provider, once confirmed."""

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        provider = self.provider()
        context = {
            "provider": provider,
            "consequences": [
                "Whoever is signed in by it is signed out.",
                "Members whose role comes from its groups leave, and their management keys are revoked.",
            ],
            "cancel_url": self.url("sign-in-provider", provider.id),
        }
        return self.render("tenant/sign_in/remove.html", context)

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        provider = self.provider()
        providers.provider_remove(provider=provider)
        self.say(f"{provider.name} is removed.")
        return redirect(self.url("sign-in"))


class RemoveMapping(SignInPage):
    """Take away what a group may do."""

    http_method_names = ["post"]

    def post(self, request: HttpRequest, slug: str, id: str, mapping_id: str) -> HttpResponse:
        mapping = GroupMapping.objects.filter(provider=self.provider(), id=mapping_id).first()
        if mapping is None:
            raise Http404
        providers.mapping_remove(mapping=mapping)
        self.say("The mapping is taken away.")
        return redirect(self.url("sign-in-provider", id))
