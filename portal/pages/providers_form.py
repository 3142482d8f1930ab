"""The forms of sign-in providers, the same for a tenant's and the platform's; and what pages show of them."""

from __future__ import annotations

from typing import Any

from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from django import forms
from django.http import HttpRequest
from django.urls import reverse

from portal.pages.console.forms import ConsoleForm, WordsField
from portal.pages.secrets import SecretForm
from tenants.identity.oidc import discover
from tenants.identity.pinned import Failed
from tenants.models import EVERYBODY, IdentityProvider, PlatformRole, Role, Tenant


class ProviderForm(SecretForm, ConsoleForm):
    """A provider to be set up or changed."""

    name = forms.CharField(max_length=40, help_text="What the button at sign-in says, for instance Nordwind.")
    issuer = forms.CharField(
        max_length=300,
        widget=forms.URLInput,
        help_text="Its address, as it calls itself: https://id.example.org",
    )
    client_id = forms.CharField(max_length=191, label="Client id")
    client_secret = forms.CharField(
        max_length=500, required=False, label="Client secret", strip=True,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text="Kept sealed and never shown. Empty: the one that is there stays.",
    )  # fmt: skip
    scopes = forms.CharField(
        max_length=200, initial="openid profile email",
        help_text="What is asked for. Many providers need offline_access to be asked again later.",
    )  # fmt: skip
    groups_claim = forms.CharField(max_length=80, initial="groups", label="Claim with the groups")
    domains = WordsField(
        required=False, label="E-mail domains",
        help_text="Whose addresses it speaks for. It signs in nobody else.",
    )  # fmt: skip
    makes_accounts = forms.BooleanField(
        required=False, initial=True, label="Makes an account at the first sign-in"
    )
    second_factor = forms.BooleanField(
        required=False, label="It asks for a second factor itself, so that Berth need not"
    )
    active = forms.BooleanField(required=False, initial=True, label="Active")

    groups = (
        ("Provider", "", ("name", "issuer", "client_id", "client_secret", "active")),
        ("People", "", ("domains", "makes_accounts", "second_factor")),
        ("What it is asked for", "", ("scopes", "groups_claim")),
    )
    wide = ("Provider", "People", "What it is asked for")

    def clean_scopes(self) -> str:
        scopes = self.cleaned_data["scopes"].split()
        if "openid" not in scopes:
            raise forms.ValidationError("openid must be among them.")
        return " ".join(dict.fromkeys(scopes))


class MappingForm(forms.Form):
    """What a group of a tenant's provider may do in it."""

    group = forms.CharField(max_length=200, help_text=f"As the claim names it; {EVERYBODY} is everybody.")
    role = forms.ChoiceField(choices=Role.choices, initial=Role.DEVELOPER)


class PlatformMappingForm(forms.Form):
    """What a group of the platform's provider may do: for the platform, or in one tenant."""

    group = forms.CharField(max_length=200, help_text=f"As the claim names it; {EVERYBODY} is everybody.")
    tenant = forms.ModelChoiceField(
        queryset=Tenant.objects.none(), to_field_name="slug", required=False, empty_label="The platform"
    )
    role = forms.ChoiceField(
        choices=[
            ("In the tenant", Role.choices),
            ("For the platform", [each for each in PlatformRole.choices if each[0]]),
        ]
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["tenant"].queryset = Tenant.objects.all()

    def clean(self) -> dict[str, Any]:
        chosen = super().clean() or self.cleaned_data
        role, tenant = chosen.get("role"), chosen.get("tenant")
        if role and tenant is None and role not in PlatformRole.values:
            self.add_error("tenant", "Choose the tenant that the role is in.")
        if role and tenant is not None and role not in Role.values:
            self.add_error("role", "Choose a role of tenants, or no tenant.")
        return chosen

    def wishes(self) -> dict[str, Any]:
        """Give what was chosen as the service takes it."""
        chosen = self.cleaned_data
        of_platform = chosen["tenant"] is None
        return {
            "group": chosen["group"],
            "tenant": chosen["tenant"],
            "role": "" if of_platform else chosen["role"],
            "platform_role": chosen["role"] if of_platform else "",
        }


def initial_of(provider: IdentityProvider) -> dict[str, Any]:
    """Give what the form holds of a provider at first."""
    values = {name: getattr(provider, name) for name in ProviderForm.base_fields if hasattr(provider, name)}
    values["domains"] = list(provider.domains.values_list("domain", flat=True))
    values.pop("client_secret")
    return values


def facts_of(request: HttpRequest, provider: IdentityProvider) -> list[dict[str, Any]]:
    """Give what a page shows of a provider, with the addresses to be entered there."""
    callback = reverse("openid_connect_callback", kwargs={"provider_id": provider.id})
    logout = reverse("provider-logout", kwargs={"provider_id": provider.id})
    return [
        {"label": "Issuer", "value": provider.issuer, "code": True},
        {"label": "Client id", "value": provider.client_id, "code": True},
        {"label": "Client secret", "value": "is set" if provider.client_secret else "none"},
        {"label": "Asked for", "value": provider.scopes, "code": True},
        {"label": "Claim with the groups", "value": provider.groups_claim, "code": True},
        {
            "label": "New people",
            "value": "get an account" if provider.makes_accounts else "need an invitation",
        },
        {
            "label": "Second factor",
            "value": "asked for there" if provider.second_factor else "asked for by Berth",
        },
        {
            "label": "Redirect address, for the provider",
            "value": request.build_absolute_uri(callback),
            "code": True,
        },
        {
            "label": "Back-channel logout, for the provider",
            "value": request.build_absolute_uri(logout),
            "code": True,
        },
    ]


def trouble_with(provider: IdentityProvider) -> str:
    """Ask a provider to describe itself, and say what is wrong with that, if anything."""
    try:
        discover(provider.issuer)
    except (Failed, OAuth2Error) as error:
        return f"It is saved, but nobody can sign in by it yet: {error}"[:300]
    return ""
