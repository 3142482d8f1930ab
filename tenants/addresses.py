"""Where a request comes from, seen through the proxies that operators named."""

from __future__ import annotations

import ipaddress

from django.conf import settings
from django.http import HttpRequest


def client_address(request: HttpRequest) -> str:
    """Give the address of whoever asks, or "" where the server does not know it.

    Only proxies in ``TRUSTED_PROXIES`` are believed: ``X-Forwarded-For`` is read from its end, as far as those who
    wrote it are trusted. What comes first in it anybody may have written.
    """
    found = request.META.get("REMOTE_ADDR", "")
    for word in reversed(request.headers.get("X-Forwarded-For", "").split(",")):
        claimed = _address(word)
        if claimed is None or not _trusted(found):
            break
        found = str(claimed)
    return found


def _trusted(text: str) -> bool:
    address = _address(text)
    return address is not None and any(address in network for network in settings.TRUSTED_PROXIES)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text.strip())
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
