"""The text of API keys: ``berth_`` + 36 random base62 characters + 6 of their CRC-32.

36 base62 characters carry 214 bits. The checksum lets anyone refuse a mistyped key without a look-up.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import zlib

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

PREFIX = "berth_"
#: How many characters are kept to recognise a key by: 6 of its random ones, which say nothing of the others.
HINT = 12
_RANDOM = 36
_CHECK = 6
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def generate() -> str:
    """Make a new key."""
    random = "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM))
    return PREFIX + random + _checksum(random)


def well_formed(key: str) -> bool:
    """Say whether prefix, length and checksum are those of a key."""
    body = key.removeprefix(PREFIX)
    return (
        key.startswith(PREFIX)
        and len(body) == _RANDOM + _CHECK
        and body.isascii()
        and body[_RANDOM:] == _checksum(body[:_RANDOM])
    )


def digest(key: str, pepper_id: int) -> str:
    """Give HMAC-SHA256 of the key, in hex, under the numbered pepper."""
    return hmac.new(peppers()[pepper_id], key.encode(), hashlib.sha256).hexdigest()


def newest_pepper() -> int:
    """Give the number of the pepper that signs new keys."""
    return max(peppers())


def peppers() -> dict[int, bytes]:
    """Give all peppers by number.

    Raises:
        ImproperlyConfigured: none is set.
    """
    if not settings.KEY_PEPPERS:
        raise ImproperlyConfigured("Set BERTH_KEY_PEPPERS to 1:<64 hex digits> before using keys.")
    return settings.KEY_PEPPERS


def _checksum(random: str) -> str:
    value = zlib.crc32(random.encode())
    digits = []
    for _ in range(_CHECK):
        value, digit = divmod(value, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
