"""How often one caller may ask the REST API: a count by minute, which all processes share by Django's cache."""

from __future__ import annotations

import dataclasses
import time

from django.conf import settings
from django.core.cache import caches

from tenants.errors import BerthError

WINDOW_S = 60


class TooMany(BerthError):
    """The caller asked more often than allowed; ``extra`` says when to come back."""

    code = "throttled"
    status = 429
    title = "Too many requests"


@dataclasses.dataclass(frozen=True)
class Rate:
    """What a caller has of its requests: ``most`` in a window, ``left`` of them, ``reset_s`` until the next."""

    most: int
    left: int
    reset_s: int

    def headers(self) -> dict[str, str]:
        """Give the RateLimit header fields (IETF draft-ietf-httpapi-ratelimit-headers-10)."""
        return {
            "RateLimit-Policy": f'"default";q={self.most};w={WINDOW_S}',
            "RateLimit": f'"default";r={max(self.left, 0)};t={self.reset_s}',
        }


def count_request(who: str) -> Rate | None:
    """Count a request of ``who``; None where nothing is limited.

    Who asks in bursts over the turn of a minute may have twice as many within a minute, never more.
    """
    most = settings.API_REQUESTS_PER_MINUTE
    if not most:
        return None
    now = time.time()
    window = int(now // WINDOW_S)
    name = f"rate:{who}:{window}"
    caches["counts"].add(name, 0, timeout=2 * WINDOW_S)
    return Rate(most, most - caches["counts"].incr(name), int((window + 1) * WINDOW_S - now) + 1)


def refuse_too_many(rate: Rate) -> None:
    """Check that the caller has not used up its requests.

    Raises:
        TooMany: it has.
    """
    if rate.left < 0:
        raise TooMany(
            f"At most {rate.most} requests a minute are taken from one caller; wait for {rate.reset_s} s.",
            retry_after=rate.reset_s,
        )
