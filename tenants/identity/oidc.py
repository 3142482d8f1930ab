"""OpenID Connect as allauth speaks it, made strict: signature, nonce and PKCE always, and no way around them."""

from __future__ import annotations

import secrets
from typing import Any

from allauth.account.models import EmailAddress
from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.models import SocialApp, SocialToken
from allauth.socialaccount.providers.base.constants import AuthProcess
from allauth.socialaccount.providers.oauth2.client import OAuth2Client, OAuth2Error
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from allauth.utils import build_absolute_uri
from django.http import HttpRequest
from django.urls import reverse

from tenants.identity import tokens
from tenants.identity.sealed import unseal_field
from tenants.models import IdentityProvider

NEEDED = ("authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri")


class Endpoint(OpenIDConnectOAuth2Adapter):
    """The provider's side: discovery and the exchange of a code for a person."""

    nonce = ""  # of the sign-in that is answered; set from its state by the callback

    @property
    def openid_config(self) -> dict[str, Any]:
        if not hasattr(self, "_openid_config"):
            provider = self.get_provider()
            self._openid_config = discover(provider.row.issuer)
        return self._openid_config

    @property
    def basic_auth(self) -> bool:
        return by_basic(self.openid_config, has_secret=self.get_provider().row.client_secret is not None)

    def get_client(self, request: HttpRequest, app: SocialApp) -> OAuth2Client:
        app.secret = secret_of(app.row)
        return super().get_client(request, app)

    def complete_login(self, request: HttpRequest, app: SocialApp, token: SocialToken, **kwargs: Any) -> Any:
        try:
            with get_adapter().get_requests_session() as session:
                claims = tokens.id_token_claims(
                    str(kwargs["response"].get("id_token", "")),
                    keys=tokens.keys_of(session, self.openid_config["jwks_uri"]),
                    issuer=self.openid_config["issuer"],
                    client_id=app.client_id,
                    nonce=self.nonce,
                )
        except tokens.TokenRefused as error:
            raise OAuth2Error(error.message) from error
        told = self._fetch_user_info(token.token)
        if told.get("sub") != claims["sub"]:
            raise OAuth2Error("The provider told of another person than the token is of.")
        return self.get_provider().sociallogin_from_response(request, {**claims, **told})

    def get_callback_url(self, request: HttpRequest, app: SocialApp) -> str:
        return build_absolute_uri(
            request, reverse("openid_connect_callback", kwargs={"provider_id": self.provider_id})
        )


class Provider(OpenIDConnectProvider):
    """One row of :class:`IdentityProvider`."""

    oauth2_adapter_class = Endpoint
    pkce_enabled_default = True

    @property
    def row(self) -> IdentityProvider:
        return self.app.row

    def get_redirect_from_request_kwargs(self, request: HttpRequest) -> dict[str, Any]:
        # Nothing of this is the caller's to choose: not the scopes, and not to connect an account to another.
        kwargs = super().get_redirect_from_request_kwargs(request)
        nonce = secrets.token_urlsafe(24)
        return {
            "process": AuthProcess.LOGIN,
            "scope": self.get_scope(),
            "auth_params": {"nonce": nonce},
            "nonce": nonce,
            **({"next_url": kwargs["next_url"]} if "next_url" in kwargs else {}),
        }

    def extract_uid(self, data: dict[str, Any]) -> str:
        return str(data["sub"])

    def extract_common_fields(self, data: dict[str, Any]) -> dict[str, Any]:
        return {"email": data.get("email"), "name": data.get("name")}

    def extract_email_addresses(self, data: dict[str, Any]) -> list[EmailAddress]:
        verified = data.get("email_verified") is True
        return [EmailAddress(email=str(data.get("email") or ""), verified=verified, primary=True)]

    def groups_of(self, claims: dict[str, Any]) -> list[str]:
        """Read the groups out of what the provider told; what is no list of texts is none."""
        return groups_in(claims, self.row.groups_claim)

    def extract_extra_data(self, data: dict[str, Any]) -> dict[str, Any]:
        """Keep of a person no more than is read later."""
        kept = ("sub", "email", "email_verified", "name", self.row.groups_claim)
        return {name: data[name] for name in kept if name in data}


def discover(issuer: str) -> dict[str, Any]:
    """Read a provider's own description of itself.

    Raises:
        OAuth2Error: it is another's, or incomplete.
        RequestException: it cannot be had.
    """
    with get_adapter().get_requests_session() as session:
        answer = session.get(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    answer.raise_for_status()
    found = answer.json()
    if not isinstance(found, dict) or str(found.get("issuer", "")).rstrip("/") != issuer.rstrip("/"):
        raise OAuth2Error("The provider calls itself by another issuer than the one that is set.")
    missing = [name for name in NEEDED if not isinstance(found.get(name), str)]
    if missing:
        raise OAuth2Error(f"The provider's description lacks {', '.join(missing)}.")
    return found


def by_basic(described: dict[str, Any], *, has_secret: bool) -> bool:
    """Say whether a client gives its secret in a header: where the provider says nothing, that is the standard."""
    ways = described.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
    return has_secret and "client_secret_post" not in ways


def app_of(row: IdentityProvider) -> SocialApp:
    """Give a provider as allauth knows them, in no table of allauth's; the secret is opened when it is needed."""
    app = SocialApp(
        provider=Provider.id,
        provider_id=str(row.id),
        name=row.name,
        client_id=row.client_id,
        settings={"server_url": row.issuer, "oauth_pkce_enabled": True, "scope": row.scopes.split()},
    )
    app.row = row
    return app


def secret_of(row: IdentityProvider) -> str:
    """Open a provider's client secret; public clients have none."""
    if row.client_secret is None:
        return ""
    return unseal_field(row=row, field="client_secret")


def groups_in(claims: dict[str, Any], claim: str) -> list[str]:
    """Read groups out of claims; what is no list of texts is none."""
    found = claims.get(claim)
    if isinstance(found, str):
        found = [found]
    if not isinstance(found, list):
        return []
    return sorted({each for each in found if isinstance(each, str) and 0 < len(each) <= 200})
