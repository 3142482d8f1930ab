"""How fast one batch asks: slowly at first, faster while it is answered, and hardly at all while it is refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 30.0
#: However much later a refusal asks to come back: budgets are raised and endpoints resumed before they said.
_LONGEST_ASKED_S: Final = 300.0


class Pace:
    """Additive increase, multiplicative decrease of the lines in flight, and a pause that doubles with refusals.

    ``clock`` gives seconds of a clock that never goes back.
    """

    def __init__(self, *, most: int, clock: Callable[[], float], rng: random.Random) -> None:
        self._most = float(most)
        self._clock = clock
        self._rng = rng
        self._limit = 1.0
        self._refusals = 0
        self._open_at = 0.0

    @property
    def limit(self) -> int:
        """Lines that may be in flight."""
        return int(self._limit)

    def closed_s(self) -> float:
        """Seconds until the next line may be asked, 0 if it may be asked now."""
        return max(0.0, self._open_at - self._clock())

    def answered(self) -> None:
        """A line was answered: when all in flight were, one more may be."""
        self._refusals = 0
        self._limit = min(self._most, self._limit + 1.0 / self._limit)

    def refused(self, retry_after_s: float | None) -> None:
        """There was no room for a line. Refusals of lines that were asked before a pause belong to that pause."""
        if self.closed_s():
            return
        longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**self._refusals)
        self._refusals = min(self._refusals + 1, 16)
        self._limit = max(1.0, self._limit / 2)
        asked = min(retry_after_s or 0.0, _LONGEST_ASKED_S)
        # Drawn, because other batches were refused at the same moment.
        self._open_at = self._clock() + asked + longest * self._rng.uniform(0.5, 1.0)
