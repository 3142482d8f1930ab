"""Secrets at rest: AES-256-GCM under a key derived from the peppers, bound to the row they belong to."""

from __future__ import annotations

import functools
import secrets

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tenants import secret_keys

_NONCE = 12


def seal(plain: bytes, *, bound_to: str) -> bytes:
    """Encrypt ``plain``; it opens again only with the same ``bound_to`` (table, row and field)."""
    pepper_id = secret_keys.newest_pepper()
    nonce = secrets.token_bytes(_NONCE)
    head = pepper_id.to_bytes(4, "big")
    return head + nonce + _cipher(pepper_id).encrypt(nonce, plain, head + bound_to.encode())


def unseal(sealed: bytes, *, bound_to: str) -> bytes:
    """Decrypt what :func:`seal` gave.

    Raises:
        InvalidTag: it was changed, or sealed for something else.
        KeyError: its pepper is no longer among the peppers.
    """
    head, nonce, rest = sealed[:4], sealed[4 : 4 + _NONCE], sealed[4 + _NONCE :]
    return _cipher(int.from_bytes(head, "big")).decrypt(nonce, rest, head + bound_to.encode())


def _cipher(pepper_id: int) -> AESGCM:
    return AESGCM(_derive(secret_keys.peppers()[pepper_id]))


@functools.lru_cache(maxsize=16)
def _derive(pepper: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"berth sealing v1").derive(pepper)
