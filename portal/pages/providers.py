"""Signing in by a provider: finding it, leaving for it, coming back; and its word that somebody signed out."""

from __future__ import annotations

from typing import Any

from allauth.core import ratelimit
from allauth.socialaccount.helpers import render_authentication_error
from allauth.socialaccount.models import SocialApp
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView
from django import forms
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST

from tenants.errors import NotFound
from tenants.identity.adapter import ProviderAdapter
from tenants.identity.back_channel import provider_signed_out
from tenants.identity.oidc import Endpoint, Provider
from tenants.identity.pinned import Failed
from tenants.identity.policy import provider_of_address
from tenants.identity.tokens import TokenRefused


class AddressForm(forms.Form):
    """Whose provider is looked for."""

    email = forms.EmailField(
        label="E-mail address", widget=forms.EmailInput(attrs={"autocomplete": "email", "autofocus": True})
    )


@require_http_methods(["GET", "HEAD", "POST"])
def find(request: HttpRequest) -> HttpResponseBase:
    """Lead on to the provider of an address's domain. Nothing is told of accounts."""
    form = AddressForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        if not ratelimit.consume(request, action="find_provider"):
            form.add_error(None, "Too many attempts. Wait a minute, then try again.")
            return render(request, "account/find_provider.html", {"form": form}, status=429)
        row = provider_of_address(form.cleaned_data["email"])
        if row is not None:
            return _leave(request, str(row.id))
        form.add_error("email", "No sign-in of an organisation is set up for this domain. Use your password.")
    return render(request, "account/find_provider.html", {"form": form}, status=422 if form.is_bound else 200)


@require_POST
def login(request: HttpRequest, provider_id: str) -> HttpResponseBase:
    """Leave for a provider."""
    return _leave(request, provider_id)


class Callback(OAuth2CallbackView):
    """Come back from a provider; the nonce of the sign-in that began here is what its token must carry."""

    def _get_state(self, request: HttpRequest, provider: Provider) -> Any:
        state, answer = super()._get_state(request, provider)
        self.adapter.nonce = (state or {}).get("nonce", "")
        return state, answer


def callback(request: HttpRequest, provider_id: str) -> HttpResponseBase:
    """Take what a provider says of who came back."""
    try:
        return Callback.adapter_view(Endpoint(request, provider_id))(request)
    except SocialApp.DoesNotExist as error:
        raise Http404 from error


@csrf_exempt
@require_POST
def back_channel_logout(request: HttpRequest, provider_id: str) -> HttpResponse:
    """Hear from a provider that somebody signed out there (OpenID Connect Back-Channel Logout 1.0)."""
    try:
        provider_signed_out(provider_id=provider_id, logout_token=request.POST.get("logout_token", ""))
    except NotFound as error:
        raise Http404 from error
    except TokenRefused as error:
        told = {"error": "invalid_request", "error_description": error.message}
        return JsonResponse(told, status=400, headers={"Cache-Control": "no-store"})
    return HttpResponse(status=200, headers={"Cache-Control": "no-store"})


def _leave(request: HttpRequest, provider_id: str) -> HttpResponseBase:
    try:
        provider = ProviderAdapter(request).get_provider(request, provider_id)
    except SocialApp.DoesNotExist as error:
        raise Http404 from error
    try:
        answer = provider.redirect_from_request(request)
    except (Failed, OAuth2Error) as error:
        return render_authentication_error(request, provider, exception=error)
    # A form may lead to this site only (CSP form-action), and browsers hold redirects to that: a page leads on.
    return render(
        request, "socialaccount/leaving.html", {"provider": provider.row, "url": answer["Location"]}
    )


def to_security(request: HttpRequest, **_: Any) -> HttpResponseBase:
    """Lead from pages that a library brings to the one of Berth's that has all of it."""
    return redirect(reverse("security"))
