"""Circuit breaker: a replica that fails again and again is left alone for a while, then tried by one request."""

from __future__ import annotations

from typing import Final

#: Failures in a row that open it.
FAILURES: Final = 3
FIRST_S: Final = 0.5
MOST_S: Final = 15.0
#: The pause before a replica is tried that would otherwise leave nothing to serve.
LAST_S: Final = 1.0


class Breaker:
    """Closed, open, or half-open with one probe. Times are seconds of any clock that never goes back.

    Each opening in a row lasts twice as long as the one before, from ``FIRST_S`` to ``MOST_S``.
    """

    __slots__ = ("_opened", "_openings", "_probing", "_row", "_until")

    def __init__(self) -> None:
        self._row = 0
        self._openings = 0
        self._opened = 0.0
        self._until: float | None = None  # None: closed
        self._probing = False

    @property
    def closed(self) -> bool:
        """Whether requests go there as if nothing had happened."""
        return self._until is None

    @property
    def clean(self) -> bool:
        """Whether there is nothing to remember."""
        return self._until is None and not self._row

    def allows(self, now: float, *, last: bool = False) -> bool:
        """Say whether a request may go there: the probe, if the pause is over and no other is under way.

        ``last`` asks for a replica without which nothing could serve, whose pause is ``LAST_S`` at most.
        """
        if self._until is None:
            return True
        until = min(self._until, self._opened + LAST_S) if last else self._until
        return not self._probing and now >= until

    def begin(self) -> bool:
        """Send a request there; say whether it is the probe."""
        if self._until is None:
            return False
        self._probing = True
        return True

    def end(self, *, probe: bool) -> None:
        """Let a request go that told nothing; another may be the probe then."""
        if probe:
            self._probing = False

    def answered(self, *, probe: bool) -> bool:
        """Note an answer; say whether it closed the breaker. While it is open only the probe's counts."""
        self._row = 0
        if self._until is None or not probe:
            return False
        self._until, self._openings, self._probing = None, 0, False
        return True

    def failed(self, now: float, *, probe: bool) -> bool:
        """Note a failure; say whether it opened the breaker, or kept it open."""
        if self._until is None:
            self._row += 1
            if self._row < FAILURES:
                return False
        elif not probe:
            # It began before the breaker opened, and tells nothing new.
            return False
        self._row, self._probing = 0, False
        self._opened = now
        self._until = now + min(FIRST_S * 2 ** min(self._openings, 10), MOST_S)
        self._openings += 1
        return True
