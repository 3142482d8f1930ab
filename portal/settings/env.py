"""The only reader of the environment. Every reader is loud: it names the variable and what it must be."""

from __future__ import annotations

import ipaddress
import os
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}


def text(name: str, default: str | None = None) -> str:
    """Read a string.

    Raises:
        ImproperlyConfigured: it is unset and there is no default.
    """
    value = os.environ.get(name, default)
    if value is None:
        raise ImproperlyConfigured(f"Set the environment variable {name}.")
    return value


def flag(name: str, default: bool = False) -> bool:
    """Read a yes or no."""
    value = os.environ.get(name, str(default)).strip().lower()
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise ImproperlyConfigured(f"{name} must be one of 1, 0, true, false, yes, no; it is {value!r}.")


def choice(name: str, words: tuple[str, ...]) -> str:
    """Read one of some words, empty where it is unset."""
    value = os.environ.get(name, "").strip()
    if value and value not in words:
        raise ImproperlyConfigured(f"{name} must be {' or '.join(words)}, or not be set; it is {value!r}.")
    return value


def number(name: str, default: int) -> int:
    """Read a whole number."""
    value = os.environ.get(name, str(default))
    try:
        return int(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a whole number; it is {value!r}.") from None


def words(name: str, default: str = "") -> list[str]:
    """Read a list separated by commas."""
    return [word.strip() for word in os.environ.get(name, default).split(",") if word.strip()]


def networks(name: str, default: str = "") -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Read networks in CIDR notation, separated by commas."""
    found = []
    for word in words(name, default):
        try:
            found.append(ipaddress.ip_network(word))
        except ValueError as error:
            raise ImproperlyConfigured(f"{name} must hold networks such as 10.20.0.0/16: {error}.") from None
    return found


def database(name: str, default: str | None = None, **options: Any) -> dict[str, Any]:
    """Read a ``postgresql://user:password@host:port/name?option=value`` URL as a Django database."""
    url = text(name, default)
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"} or not parts.path.strip("/"):
        raise ImproperlyConfigured(f"{name} must look like postgresql://user:password@host:5432/name.")
    query = dict(parse_qsl(parts.query))
    host = query.pop("host", None) or unquote(parts.hostname or "")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.strip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": host,
        "PORT": str(parts.port or query.pop("port", "")),
        "OPTIONS": {**query, **options},
    }


def signing_keys(name: str) -> dict[int, bytes]:
    """Read numbered seeds of Ed25519 keys, of 32 bytes each; none where the variable is empty."""
    found = numbered_keys(name) if text(name, "") else {}
    for number, seed in found.items():
        if len(seed) != 32:
            raise ImproperlyConfigured(f"Key {number} in {name} must have exactly 32 bytes (64 hex digits).")
    return found


def numbered_keys(name: str, default: str | None = None) -> dict[int, bytes]:
    """Read numbered keys, ``1:<hex>,2:<hex>``; the highest number is for what is new."""
    found: dict[int, bytes] = {}
    for item in text(name, default).split(","):
        head, _, tail = item.strip().partition(":")
        try:
            found[int(head)] = bytes.fromhex(tail)
        except ValueError:
            raise ImproperlyConfigured(f"{name} must look like 1:<hex>,2:<hex>.") from None
        if len(found[int(head)]) < 16:
            raise ImproperlyConfigured(f"Key {head} in {name} must have at least 16 bytes (32 hex digits).")
    return found
