"""Inference keys: their form, and their look-up by digest.

A key reads ``berth_``, 36 random base62 characters, then 6 base62 digits of the random part's CRC-32.
"""

from __future__ import annotations

import datetime as dt
import hmac
import zlib
from collections.abc import Mapping
from typing import Final

from gateway import errors
from gateway.contract import Key

PREFIX: Final = "berth_"
_RANDOM: Final = 36
_CHECK: Final = 6
_LENGTH: Final = len(PREFIX) + _RANDOM + _CHECK
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

#: Keys by the number of their pepper and their digest.
KeyIndex = Mapping[tuple[int, str], Key]


def checksum(random: str) -> str:
    """Give the six characters that end a key whose random part is ``random``."""
    value = zlib.crc32(random.encode())
    digits = []
    for _ in range(_CHECK):
        value, digit = divmod(value, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def well_formed(text: str) -> bool:
    """Say whether prefix, length and checksum are those of a key."""
    return (
        len(text) == _LENGTH
        and text.isascii()
        and text.startswith(PREFIX)
        and text[-_CHECK:] == checksum(text[len(PREFIX) : -_CHECK])
    )


def digest(text: str, pepper: bytes) -> str:
    """Give HMAC-SHA256 of the whole key, in hex."""
    return hmac.digest(pepper, text.encode(), "sha256").hex()


def bearer(authorization: str | None) -> str:
    """Take the key out of an ``Authorization`` header.

    Raises:
        ApiError: there is none (401).
    """
    scheme, _, text = (authorization or "").partition(" ")
    text = text.strip()
    if scheme.lower() != "bearer" or not text:
        raise errors.unauthenticated(
            "Send your API key in the header 'Authorization: Bearer <key>'.", code="missing_api_key"
        )
    return text


def find(text: str, *, peppers: Mapping[int, bytes], keys: KeyIndex) -> Key:
    """Look a key up under each pepper. A key whose checksum is wrong is refused without a look-up.

    Raises:
        ApiError: malformed or unknown (401).
    """
    if not well_formed(text):
        raise errors.unauthenticated(
            "This is not a well-formed API key: its prefix, length or checksum is wrong. Was it cut off?",
            code="malformed_api_key",
        )
    for number, pepper in peppers.items():
        key = keys.get((number, digest(text, pepper)))
        if key is not None:
            return key
    raise unknown()


def unknown() -> errors.ApiError:
    """No key here has this text (401)."""
    return errors.unauthenticated(
        "This API key is not known here: it was revoked, belongs to another gateway, or is only seconds old.",
        code="invalid_api_key",
    )


def require_current(key: Key, *, now: dt.datetime) -> None:
    """Check that a known key has not run out at ``now``.

    Raises:
        ApiError: it has expired (401).
    """
    if key.expires_at is not None and key.expires_at <= now:
        raise errors.unauthenticated(
            f"The API key {key.name!r} expired at {key.expires_at.isoformat()}.", code="expired_api_key"
        )
