"""Where a request comes from, seen through the proxies that the operator named."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Sequence

from aiohttp import web

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Addresses:
    """Gives clients' addresses. Only ``proxies`` are believed: ``X-Forwarded-For`` is read from its end, as far as
    those who wrote it are trusted. What comes first in it anybody may have written."""

    def __init__(self, proxies: Sequence[Network] = ()) -> None:
        self._proxies = tuple(proxies)

    def of(self, request: web.Request) -> str:
        """Give the address of whoever asks, "" where it is not known. It is used for nothing but a key's networks."""
        found = _address(request.remote or "")
        if found is None:
            return ""
        if self._proxies:
            words = [
                word for line in request.headers.getall("X-Forwarded-For", ()) for word in line.split(",")
            ]
            while words and self._trusted(found) and (claimed := _address(words.pop().strip())) is not None:
                found = claimed
        return str(found)

    def _trusted(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        return any(address in network for network in self._proxies)


@functools.lru_cache(maxsize=4096)
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
