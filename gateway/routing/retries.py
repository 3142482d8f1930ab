"""Retries: how long to wait before the next attempt, and whether there may be one at all."""

from __future__ import annotations

import random
from typing import Final

from gateway.contract import Timeouts

#: Share of an endpoint's requests that may be tried again, and how many besides; both within ``WINDOW_S`` seconds.
SHARE: Final = 0.1
BESIDES: Final = 10
WINDOW_S: Final = 10


def pause_s(timeouts: Timeouts, attempts: int, *, rng: random.Random) -> float:
    """Draw the pause after ``attempts`` attempts: anything from 0 to a bound that doubles ("full jitter",
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/)."""
    return rng.uniform(0.0, min(timeouts.backoff_s * 2 ** (attempts - 1), timeouts.backoff_most_s))


class RetryBudget:
    """Keeps attempts from multiplying when an endpoint is in trouble: at most a tenth more load than without.

    Counts by the second; see https://sre.google/sre-book/handling-overload/ for why.
    """

    __slots__ = ("_requests", "_retries", "_second")

    def __init__(self) -> None:
        self._requests = [0] * WINDOW_S
        self._retries = [0] * WINDOW_S
        self._second = 0

    def request(self, now: float) -> None:
        """Count a request."""
        self._turn(now)
        self._requests[self._second % WINDOW_S] += 1

    def take(self, now: float) -> bool:
        """Count another attempt of a request, if there may be one."""
        self._turn(now)
        if sum(self._retries) >= BESIDES + SHARE * sum(self._requests):
            return False
        self._retries[self._second % WINDOW_S] += 1
        return True

    def _turn(self, now: float) -> None:
        second = int(now)
        if second == self._second:
            return
        for passed in range(max(self._second + 1, second - WINDOW_S + 1), second + 1):
            self._requests[passed % WINDOW_S] = self._retries[passed % WINDOW_S] = 0
        self._second = second
