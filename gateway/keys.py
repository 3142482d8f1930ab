"""Inference keys: their form, their look-up by digest, and what each may be used for.

A key reads ``berth_``, 36 random base62 characters, then 6 base62 digits of the random part's CRC-32.
"""

from __future__ import annotations

import datetime as dt
import functools
import hmac
import ipaddress
import zlib
from collections.abc import Mapping
from typing import Final

from gateway import errors
from gateway.contract import Key, Verb

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


def require_place(key: Key, address: str) -> None:
    """Check that ``key`` may be used from ``address``; "" is one that is not known.

    Raises:
        ApiError: its networks do not hold it (403).
    """
    if key.networks and not _lies_in(key.networks, address):
        raise errors.not_allowed(
            f"The API key {key.name!r} may not be used from your address: it is limited to certain networks.",
            code="address_not_allowed",
        )


def require_verb(key: Key, verb: Verb) -> None:
    """Check that ``key`` may ask ``verb``.

    Raises:
        ApiError: it may not (403).
    """
    if key.verbs and verb not in key.verbs:
        raise errors.not_allowed(
            f"The API key {key.name!r} may not be used for {verb.value}: it is limited to {', '.join(key.verbs)}.",
            code="operation_not_allowed",
        )


def may_call(key: Key, target_id: str) -> bool:
    """Say whether ``key`` is not kept from an endpoint or named route with this id."""
    return not key.endpoints or target_id in key.endpoints


def require_target(key: Key, target_id: str, name: str) -> None:
    """Check that ``key`` may call the endpoint or named route ``name``. What stands behind a route it may call, too.

    Raises:
        ApiError: it may not (403).
    """
    if not may_call(key, target_id):
        raise errors.not_allowed(
            f"The API key {key.name!r} may not call {name!r}: it is limited to other endpoints or routes, which"
            " GET /v1/models lists.",
            code="endpoint_not_allowed",
            param="model",
        )


@functools.lru_cache(maxsize=8192)
def _lies_in(networks: tuple[str, ...], address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(found in network for network in _parsed(networks))


@functools.lru_cache(maxsize=4096)
def _parsed(networks: tuple[str, ...]) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    found = []
    for text in networks:
        try:
            found.append(ipaddress.ip_network(text))
        except ValueError:
            continue  # one that is not understood lets nobody in
    return tuple(found)
