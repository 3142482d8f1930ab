"""Whom providers may sign in, and as whom."""

from __future__ import annotations

import uuid
from typing import Any

from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialApp, SocialLogin
from django.http import HttpRequest
from django.shortcuts import render

from tenants import scope
from tenants.addresses import client_address
from tenants.identity.oidc import Provider, app_of
from tenants.identity.pinned import PinnedSession
from tenants.identity.policy import platform_providers, speaks_for
from tenants.identity.tokens import TokenRefused
from tenants.identity.trail import tell
from tenants.models import IdentityProvider, User


class ProviderAdapter(DefaultSocialAccountAdapter):
    """Takes providers from our rows, and people only where the provider may speak for their address."""

    def list_apps(
        self, request: HttpRequest, provider: str | None = None, client_id: str | None = None
    ) -> list[SocialApp]:
        if provider is None:
            return [app_of(row) for row in platform_providers()]
        with scope.platform("find the provider that a person signs in by"):
            rows = IdentityProvider.objects.filter(id=_uuid(provider), active=True)
            return [app_of(row) for row in rows if client_id in (None, row.client_id)]

    def get_provider(self, request: HttpRequest, provider: str, client_id: str | None = None) -> Provider:
        return Provider(request, app=self.get_app(request, provider=provider, client_id=client_id))

    def get_requests_session(self) -> PinnedSession:
        return PinnedSession()

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        row: IdentityProvider = sociallogin.provider.row
        if sociallogin.is_existing:
            self._refuse_reach(request, row, sociallogin.user)
            return
        email = vouched_address(row, sociallogin.account.extra_data)
        if not email:
            raise self._refusal(
                request, row, "It does not vouch for your e-mail address, or the domain is not its own."
            )
        user = User.objects.filter(email__iexact=email).first()
        if user is not None:
            self._refuse_reach(request, row, user)
            tell(user, "sign-in.linked", provider=row.name, address=client_address(request))
            sociallogin.connect(request, user)
        elif not row.makes_accounts:
            raise self._refusal(request, row, "It makes no accounts. Ask for an invitation.")

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        return True  # pre_social_login has judged it

    def populate_user(self, request: HttpRequest, sociallogin: SocialLogin, data: dict[str, Any]) -> Any:
        user = sociallogin.user
        user.email = str(data.get("email") or "").lower()
        user.name = str(data.get("name") or "")[:120]
        return user

    def on_authentication_error(self, request: HttpRequest, provider: Any, **told: Any) -> None:
        failed = told.get("exception")
        # Other messages may hold what the provider answered, tokens among it.
        ours = failed is not None and isinstance(failed.__cause__, TokenRefused)
        why = str(failed) if ours else type(failed).__name__ if failed else str(told.get("error") or "")
        tell(None, "sign-in.failed", provider=provider.row.name, why=why, address=client_address(request))

    def _refuse_reach(self, request: HttpRequest, row: IdentityProvider, user: User) -> None:
        if not speaks_for(row, user.email):
            raise self._refusal(request, row, "The domain of your account is not its own.")
        if row.tenant_id is not None and user.acts_for_platform:
            raise self._refusal(
                request, row, "People of the platform are not signed in by the provider of a tenant."
            )

    def _refusal(self, request: HttpRequest, row: IdentityProvider, why: str) -> ImmediateHttpResponse:
        tell(None, "sign-in.refused", provider=row.name, why=why, address=client_address(request))
        page = render(request, "socialaccount/refused.html", {"provider": row, "why": why}, status=403)
        return ImmediateHttpResponse(page)


def vouched_address(row: IdentityProvider, claims: dict[str, Any]) -> str:
    """Give the e-mail address that a provider vouches for and may: verified, of a domain confirmed to be its own."""
    email = str(claims.get("email") or "").strip().lower()
    if claims.get("email_verified") is not True or "@" not in email:
        return ""
    return email if speaks_for(row, email) else ""


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
