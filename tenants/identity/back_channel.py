"""Back-channel logout: a provider says that somebody signed out there, or was switched off."""

from __future__ import annotations

from allauth.socialaccount.providers.oauth2.client import OAuth2Error

from tenants import scope
from tenants.errors import NotFound
from tenants.identity import tokens
from tenants.identity.oidc import discover
from tenants.identity.pinned import Failed, PinnedSession
from tenants.identity.sign_in import sessions_end
from tenants.identity.trail import tell
from tenants.models import IdentityProvider, ProviderIdentity


def provider_signed_out(*, provider_id: str, logout_token: str) -> int:
    """End the sessions of whom a provider's logout token names; gives how many.

    Raises:
        NotFound: there is no such provider.
        TokenRefused: the token is not this provider's for us.
    """
    with scope.platform("a provider says that somebody signed out"):
        provider = IdentityProvider.objects.filter(id=provider_id, active=True).first()
    if provider is None:
        raise NotFound
    try:
        described = discover(provider.issuer)
        with PinnedSession() as session:
            keys = tokens.keys_of(session, described["jwks_uri"])
    except (Failed, OAuth2Error) as error:
        raise tokens.TokenRefused("The provider's keys cannot be had; send it again later.") from error
    claims = tokens.logout_token_claims(
        logout_token, keys=keys, issuer=described["issuer"], client_id=provider.client_id
    )
    with scope.platform("a provider says that somebody signed out"):
        identity = (
            ProviderIdentity.objects.select_related("user")
            .filter(provider=provider, subject=claims["sub"])
            .first()
        )
    if identity is None:
        return 0
    ended = sessions_end(user=identity.user, identity=identity)
    tell(identity.user, "sign-out", by=f"provider {provider.name}", sessions=ended)
    return ended
