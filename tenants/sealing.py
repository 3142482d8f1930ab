"""Secrets at rest: AES-256-GCM under a key that the control plane alone has, bound to the row they belong to."""

from __future__ import annotations

import functools
import secrets

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

_NONCE = 12


def seal(plain: bytes, *, bound_to: str) -> bytes:
    """Encrypt ``plain`` under the newest key; it opens again only with the same ``bound_to`` (table, row, field)."""
    number = max(_keys())
    nonce = secrets.token_bytes(_NONCE)
    head = number.to_bytes(4, "big")
    return head + nonce + _cipher(number).encrypt(nonce, plain, head + bound_to.encode())


def unseal(sealed: bytes, *, bound_to: str) -> bytes:
    """Decrypt what :func:`seal` gave.

    Raises:
        InvalidTag: it was changed, or sealed for something else.
        KeyError: its key is no longer among the sealing keys.
    """
    head, nonce, rest = sealed[:4], sealed[4 : 4 + _NONCE], sealed[4 + _NONCE :]
    return _cipher(int.from_bytes(head, "big")).decrypt(nonce, rest, head + bound_to.encode())


def _keys() -> dict[int, bytes]:
    if not settings.SEALING_KEYS:
        raise ImproperlyConfigured("Set BERTH_SEALING_KEYS to 1:<64 hex digits> before sealing secrets.")
    return settings.SEALING_KEYS


def _cipher(number: int) -> AESGCM:
    return AESGCM(_derive(_keys()[number]))


@functools.lru_cache(maxsize=16)
def _derive(key: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"berth sealing v1").derive(key)
