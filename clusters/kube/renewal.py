"""A ServiceAccount's token: how long it holds, and how Berth gets its next one before it ends."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import datetime as dt

import msgspec

from clusters.kube import kinds
from clusters.kube.client import KubeClient
from clusters.kube.errors import Fault, Unreachable

_DUE = 2 / 3  # of a token's life, after which the next one is asked for


@dataclasses.dataclass(frozen=True)
class TokenLife:
    """What a token says of itself. ``namespace`` and ``name`` are those of its ServiceAccount.

    ``expires_at`` is None for a token that never ends (a Secret's).
    """

    namespace: str
    name: str
    issued_at: dt.datetime | None
    expires_at: dt.datetime | None


def token_life(token: str) -> TokenLife | None:
    """Read a ServiceAccount's token; None for any other kind of token.

    Its signature is not checked: it is Berth's own credential, and only the cluster decides on it.
    """
    try:
        part = token.split(".")[1]
        claims = msgspec.json.decode(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        system, kind, namespace, name = str(claims["sub"]).split(":")
        issued, expires = (_time(claims.get(key)) for key in ("iat", "exp"))
    except (
        IndexError,
        KeyError,
        TypeError,
        ValueError,
        OverflowError,
        binascii.Error,
        msgspec.DecodeError,
        AttributeError,
    ):
        return None
    if (system, kind) != ("system", "serviceaccount"):
        return None
    return TokenLife(namespace, name, issued, expires)


def due(expires_at: dt.datetime, issued_at: dt.datetime, now: dt.datetime) -> bool:
    """Whether two thirds of a token's life are over."""
    return now >= issued_at + (expires_at - issued_at) * _DUE


def renew(client: KubeClient, namespace: str, name: str, seconds: int) -> tuple[str, dt.datetime]:
    """Ask for a new token of a ServiceAccount; give it with its end. The cluster may shorten ``seconds``.

    Raises:
        Forbidden: the credentials may not create tokens for this account.
        KubeError: the cluster did not give one.
    """
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": seconds},
    }
    answer = client.create(kinds.SERVICE_ACCOUNT, body, namespace, name=name, subresource="token")
    status = answer.get("status") or {}
    try:
        return str(status["token"]), dt.datetime.fromisoformat(status["expirationTimestamp"])
    except (KeyError, ValueError):
        raise Unreachable(Fault.NOT_KUBERNETES, "The cluster's answer holds no token.") from None


def _time(seconds: object) -> dt.datetime | None:
    return dt.datetime.fromtimestamp(float(seconds), dt.UTC) if isinstance(seconds, int | float) else None
