"""Waiting longer after each failure, with jitter so that many gateways do not return at once."""

from __future__ import annotations

import random


class Backoff:
    """Delays from ``first_s``, doubling up to ``most_s``, each drawn from its upper half."""

    def __init__(self, *, first_s: float, most_s: float) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._delay_s = first_s

    def next(self) -> float:
        """Give the seconds to wait now."""
        delay, self._delay_s = self._delay_s, min(self._delay_s * 2, self._most_s)
        return delay * random.uniform(0.5, 1.0)  # noqa: S311

    def reset(self) -> None:
        """Begin again after a success."""
        self._delay_s = self._first_s
