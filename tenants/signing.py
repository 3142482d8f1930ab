"""Signatures that others can check: Ed25519 under numbered keys, of which anyone may have the public half."""

from __future__ import annotations

import base64
import functools
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from django.conf import settings

from tenants.errors import BerthError, Invalid

SEED: Final = 32


class SigningNotSetUp(BerthError):
    code = "signing-not-set-up"
    status = 503
    title = "This installation has no key to sign with"


def sign(content: bytes) -> tuple[int, bytes]:
    """Sign with the newest key; give its number and the signature of 64 bytes.

    Raises:
        SigningNotSetUp: there is no key.
    """
    number = newest()
    return number, _private(settings.SIGNING_KEYS[number]).sign(content)


def newest() -> int:
    """Give the number of the key that signs.

    Raises:
        SigningNotSetUp: there is none.
    """
    if not settings.SIGNING_KEYS:
        raise SigningNotSetUp(
            "Nothing can be signed here yet; whoever runs this installation sets BERTH_SIGNING_KEYS."
        )
    return max(settings.SIGNING_KEYS)


def verifies(key: Ed25519PublicKey, content: bytes, signature: bytes) -> bool:
    """Say whether ``signature`` is that of ``content`` by the owner of ``key``."""
    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True


def public_keys() -> dict[int, Ed25519PublicKey]:
    """Give the public halves by number."""
    return {number: _private(seed).public_key() for number, seed in sorted(settings.SIGNING_KEYS.items())}


def public_pem(key: Ed25519PublicKey) -> str:
    """Give a public key as PEM, as openssl reads it."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, form).decode()


def public_jwks() -> dict[str, list[dict[str, str]]]:
    """Give the public halves as a JSON Web Key Set (RFC 7517, RFC 8037)."""
    return {"keys": [_jwk(number, key) for number, key in public_keys().items()]}


def read_public_key(text: str) -> Ed25519PublicKey:
    """Read a public key from PEM.

    Raises:
        Invalid: it is none.
    """
    try:
        key = serialization.load_pem_public_key(text.encode())
    except ValueError as error:
        raise Invalid("This is no public key in PEM.") from error
    if not isinstance(key, Ed25519PublicKey):
        raise Invalid("This key is of another kind than Ed25519.")
    return key


def _jwk(number: int, key: Ed25519PublicKey) -> dict[str, Any]:
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    x = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    return {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": str(number), "x": x}


@functools.lru_cache(maxsize=16)
def _private(seed: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(seed[:SEED])
