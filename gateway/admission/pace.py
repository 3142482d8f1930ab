"""How often something happens, measured from the times between."""

from __future__ import annotations

from typing import Final

_MOST_WEIGHT: Final = 1 / 8
_LEAST_WEIGHT: Final = 1 / 512
_LONGEST_S: Final = 30.0
_SURE_AFTER: Final = 8
_SILENCE: Final = 4.0
_MOST_TOGETHER: Final = 64


class Pace:
    """Events a second, as a weighted mean over about the last ``memory_s`` seconds, at least 8 and at most 512 events.

    Only time between :meth:`begin` and :meth:`pause` counts. ``together`` says how many events may well come at the
    same moment, with silence before and after: the mean spans twice as many.
    """

    __slots__ = ("_count", "_last", "_mean_s", "_memory_s")

    def __init__(self, *, memory_s: float) -> None:
        self._memory_s = memory_s
        self._mean_s = 0.0
        self._count = 0
        self._last: float | None = None

    def sure(self, together: int = 1) -> bool:
        """Say whether enough was seen for :meth:`rate` to mean something."""
        return self._count >= max(_SURE_AFTER, min(together, _MOST_TOGETHER) + 1)

    def begin(self, now: float) -> None:
        """Count time from ``now`` on, unless it counts already."""
        if self._last is None:
            self._last = now

    def pause(self) -> None:
        """Count no time until the next :meth:`begin`."""
        self._last = None

    def forget(self) -> None:
        """Start anew."""
        self._mean_s, self._count, self._last = 0.0, 0, None

    def event(self, now: float, together: int = 1) -> None:
        """Note one event. The first after a pause only begins."""
        last, self._last = self._last, now
        if last is None:
            return
        interval = min(now - last, _LONGEST_S)
        self._count += 1
        # The weight follows the mean and not the interval itself, which would favour long intervals.
        weight = min(max(self._mean_s / self._memory_s, _LEAST_WEIGHT), _MOST_WEIGHT)
        weight = min(weight, 0.5 / min(together, _MOST_TOGETHER))
        self._mean_s += max(weight, 1 / self._count) * (interval - self._mean_s)

    def rate(self, now: float, together: int = 1) -> float:
        """Give events a second, fewer while the last one is long ago; 0 where none was seen."""
        if not self._count:
            return 0.0
        silence_s = 0.0 if self._last is None else now - self._last
        return 1.0 / max(self._mean_s, silence_s / max(_SILENCE, min(together, _MOST_TOGETHER)), 1e-6)
