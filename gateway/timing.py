"""When a request came to what: the marks from which its own time, its wait and its prefill follow."""

from __future__ import annotations

import time


class Timing:
    """Marks of one request, in seconds of ``time.perf_counter``; None until it comes to that."""

    __slots__ = ("_asking", "_waited_s", "admitted_at", "asked_at", "places", "started")

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.asked_at: float | None = None  # for its first place at a replica
        self.admitted_at: float | None = None  # to its last place
        self.places = 0
        self._asking: float | None = None
        self._waited_s = 0.0

    def asks(self) -> None:
        """Mark that it asks for a place at a replica."""
        self._asking = time.perf_counter()
        if self.asked_at is None:
            self.asked_at = self._asking

    def admitted(self) -> None:
        """Mark that it has the place that it asked for."""
        now = time.perf_counter()
        if self._asking is not None:
            self._waited_s += now - self._asking
            self._asking = None
        self.admitted_at = now
        self.places += 1

    def queued_s(self, now: float) -> float | None:
        """Give how long it waited for places until ``now``, over all attempts; None if it asked for none."""
        if self.asked_at is None:
            return None
        return self._waited_s + (0.0 if self._asking is None else now - self._asking)
