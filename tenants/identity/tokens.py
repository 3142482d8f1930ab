"""Tokens of OpenID Connect, checked by their signature and by every claim that makes them ours."""

from __future__ import annotations

import json
import time
from typing import Any, Final

import jwt

from tenants.identity.pinned import PinnedSession

#: Signatures by a key pair; those by a shared secret, or none, prove nothing of who signed.
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
#: Clocks may differ by so much.
LEEWAY_S: Final = 60
LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"


class TokenRefused(Exception):
    """A provider's token is not one that Berth can go by; ``message`` says why."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def id_token_claims(
    token: str, *, keys: dict[str, Any], issuer: str, client_id: str, nonce: str
) -> dict[str, Any]:
    """Give the claims of an ID token that this provider signed for us, now, for this very sign-in.

    Raises:
        TokenRefused: signature, issuer, audience, times or nonce are not right; the message says which.
    """
    claims = _claims(token, keys=keys, issuer=issuer, client_id=client_id, needs=["exp", "iat", "sub"])
    if not nonce or claims.get("nonce") != nonce:
        raise TokenRefused("The token answers another sign-in: its nonce is not ours.")
    audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
    if (len(audiences) > 1 or "azp" in claims) and claims.get("azp") != client_id:
        raise TokenRefused("The token was made for another client.")
    return claims


def logout_token_claims(token: str, *, keys: dict[str, Any], issuer: str, client_id: str) -> dict[str, Any]:
    """Give the claims of a back-channel logout token.

    Raises:
        TokenRefused: it is not one, or not this provider's for us.
    """
    claims = _claims(token, keys=keys, issuer=issuer, client_id=client_id, needs=["iat"])
    events = claims.get("events")
    if not isinstance(events, dict) or LOGOUT_EVENT not in events or "nonce" in claims:
        raise TokenRefused("This is no logout token.")
    if not isinstance(claims.get("sub"), str):
        raise TokenRefused("The logout token names nobody; Berth needs its sub.")
    if time.time() - claims["iat"] > 600:
        raise TokenRefused("The logout token is too old.")
    return claims


def _claims(
    token: str, *, keys: dict[str, Any], issuer: str, client_id: str, needs: list[str]
) -> dict[str, Any]:
    try:
        head = jwt.get_unverified_header(token)
        if head.get("alg") not in ALGORITHMS:
            raise TokenRefused(f"The token is signed by {head.get('alg')!r}, which proves nothing.")
        return jwt.decode(
            token,
            key=_key(keys, head),
            algorithms=[head["alg"]],
            issuer=issuer,
            audience=client_id,
            leeway=LEEWAY_S,
            options={"require": [*needs, "iss", "aud"]},
        )
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise TokenRefused(f"The token does not hold: {error}") from error


def _key(keys: dict[str, Any], head: dict[str, Any]) -> Any:
    """Find the key that a token names, among those for signing; one that names none may have the only one."""
    found = [each for each in keys.get("keys", []) if each.get("use", "sig") == "sig"]
    if "kid" in head:
        found = [each for each in found if each.get("kid") == head["kid"]]
    if len(found) != 1:
        raise TokenRefused("The provider has no key by which this token could be checked.")
    if found[0].get("alg", head["alg"]) != head["alg"] or found[0].get("kty") == "oct":
        raise TokenRefused("The token is signed in another way than its key is for.")
    return jwt.PyJWK.from_json(json.dumps(found[0]), algorithm=head["alg"]).key


def keys_of(session: PinnedSession, url: str) -> dict[str, Any]:
    """Fetch a provider's keys."""
    answer = session.get(url)
    answer.raise_for_status()
    found = answer.json()
    if not isinstance(found, dict):
        raise TokenRefused("The provider's keys are no JSON Web Key Set.")
    return found
