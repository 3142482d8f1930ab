"""Networks that a key may be used from, in CIDR notation."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable
from typing import Final

from django.core.exceptions import ValidationError

MOST_NETWORKS: Final = 50

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")


def parse(text: str) -> Network:
    """Read one network; an address alone is a network of one. IPv4 written as IPv6 becomes IPv4.

    Raises:
        ValueError: it is none, or an address within it is written in the place of it; the message says which.
    """
    text = text.strip()
    try:
        found = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"{text[:60]!r} is no network; write it as 203.0.113.0/24 or 2001:db8::/32."
        ) from None
    if "%" in text:
        raise ValueError(f"{text[:60]!r} names an interface, which a gateway does not see.")
    written = ipaddress.ip_address(text.partition("/")[0])
    if written != found.network_address:
        raise ValueError(f"{text!r} is an address within {found}; write {found}, or {written} for it alone.")
    if isinstance(found, ipaddress.IPv6Network) and found.subnet_of(_MAPPED):
        mapped = found.network_address.ipv4_mapped
        assert mapped is not None
        return ipaddress.IPv4Network((mapped, found.prefixlen - 96))
    return found


def normalised(texts: Iterable[str]) -> list[str]:
    """Write networks the one usual way, each once, in order.

    Raises:
        ValueError: one is none; the message says which.
    """
    return list(dict.fromkeys(str(parse(text)) for text in texts))


def known_networks(texts: list[str]) -> None:
    """Refuse what is no list of networks, or one that is too long."""
    if len(texts) > MOST_NETWORKS:
        raise ValidationError(f"Name at most {MOST_NETWORKS} networks.")
    try:
        normalised(texts)
    except ValueError as error:
        raise ValidationError(str(error)) from error


def contain(networks: Iterable[str], address: str) -> bool:
    """Say whether ``address`` lies in one of ``networks``. One that is not known, "", lies in none."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(found in _parsed(text) for text in networks)


def within(inner: Iterable[str], outer: Iterable[str]) -> bool:
    """Say whether each network of ``inner`` lies in one of ``outer``."""
    outside = [_parsed(text) for text in outer]
    return all(any(_covers(each, _parsed(text)) for each in outside) for text in inner)


@functools.lru_cache(maxsize=4096)
def _parsed(text: str) -> Network:
    return ipaddress.ip_network(text)


def _covers(outer: Network, inner: Network) -> bool:
    if isinstance(outer, ipaddress.IPv4Network):
        return isinstance(inner, ipaddress.IPv4Network) and inner.subnet_of(outer)
    return isinstance(inner, ipaddress.IPv6Network) and inner.subnet_of(outer)
