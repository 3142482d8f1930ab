"""Addresses that nothing is ever sent to, whoever names them. Plain Python: the rooms without Django need it, too."""

from __future__ import annotations

import ipaddress
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Where clouds tell machines their credentials, beside link-local 169.254.169.254.
_METADATA: Final = frozenset(
    map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16"))
)
#: Addresses that carry an IPv4 address: 6to4, Teredo, and both prefixes of NAT64.
_CARRIERS: Final = tuple(
    map(ipaddress.ip_network, ("2002::/16", "2001::/32", "64:ff9b::/96", "64:ff9b:1::/48", "::/96"))
)


class Refused(ValueError):
    """An address that is not spoken to; the message says why and what may be done."""


def never(address: Address) -> str:
    """Say why nothing is sent to an address, whatever operators allow; "" where that depends on them."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return "an IPv4 address written as IPv6"
        if not address.is_loopback and any(address in network for network in _CARRIERS):
            return "an IPv6 address that leads to an IPv4 one"
    if address in _METADATA:
        return "where a cloud tells machines their credentials"
    if address.is_link_local:
        return "link-local"
    if address.is_multicast:
        return "a multicast address"
    if address.is_unspecified:
        return "no machine's address"
    if address.is_reserved and not address.is_loopback:
        return "reserved"
    return ""


def is_private(address: Address) -> bool:
    """Say whether an address is not of the public internet."""
    # Python calls fec0::/10, the private networks of old, global.
    return not address.is_global or bool(getattr(address, "is_site_local", False))
