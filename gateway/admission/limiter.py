"""How many requests one replica may work on at once, found by watching it.

Additive increase while all is well, multiplicative decrease otherwise, as TCP does (Chiu and Jain, 1989); what
counts as well is taken from Netflix's concurrency-limits (https://github.com/Netflix/concurrency-limits): the
latency beside the one of a lightly loaded replica, and growth only while the limit is used. After a fall it grows
with every good answer up to half of where it fell from, as TCP's slow start does.
"""

from __future__ import annotations

from typing import Final

UNKNOWN_START: Final = 16
UNKNOWN_MOST: Final = 1024
_WINDOW_S: Final = 0.5
_WINDOW_SAMPLES: Final = 8
_SLOW_WINDOW_S: Final = 3.0
_SLOW_WINDOW_SAMPLES: Final = 3
_LATE_SHARE: Final = 0.1
_CUT: Final = 0.9
#: A target that a lightly loaded replica misses cannot be met by admitting less.
_OVER_BASE_WITH_TARGET: Final = 2.0
_OVER_BASE: Final = 4.0
#: Less than that may come from this process, and harms nobody whose class has no target.
_LEAST_LATE_MS: Final = 250.0
_BASE_WEIGHT: Final = 0.3
_FIRST_HOLD_S: Final = 1.0
_LONGEST_HOLD_S: Final = 30.0
_ROUND_S: Final = 0.5


class Limiter:
    """Starts at ``planned``, None where nobody planned; goes from 1 to twice that.

    Times are seconds of one clock that never goes back. ``in_flight`` counts the requests that the replica works
    on for this gateway, the one that is told of included.
    """

    def __init__(self, planned: int | None) -> None:
        self._planned = planned
        self._start = planned or UNKNOWN_START
        self._most = planned * 2 if planned else UNKNOWN_MOST
        self._limit = float(self._start)
        self._base_ms: float | None = None
        self._step = 1.0
        self._fast_to = 0.0
        self._ceiling = float("inf")
        self._well = True  # since the last cut
        self._hold_s = _FIRST_HOLD_S
        self._held_until = float("-inf")
        self._cut_at = float("-inf")
        self._grown = False  # since the last cut
        self._begin(None)

    @property
    def limit(self) -> int:
        """Most requests at once, at least 1."""
        return int(self._limit)

    def plan(self, planned: int | None) -> None:
        """Take up a changed plan: the limit keeps its proportion to it."""
        if planned == self._planned:
            return
        proportion = self._limit / self._start
        self._planned = planned
        self._start = planned or UNKNOWN_START
        self._most = planned * 2 if planned else UNKNOWN_MOST
        self._limit = min(max(1.0, self._start * proportion), float(self._most))

    def observe(self, *, ttft_ms: float, target_ms: float | None, in_flight: int, now: float) -> bool:
        """Note how long a first token took; gives whether the limit grew."""
        if self._since is None:
            self._since = now
        self._samples += 1
        self._sum_ms += ttft_ms
        self._in_flight += in_flight
        self._peak = max(self._peak, in_flight)
        latest_ms = self._latest_ms(target_ms)
        self._judged |= latest_ms is not None
        late = latest_ms is not None and ttft_ms > latest_ms
        self._late += late
        if not late:
            self._well = True
            if self._limit < self._fast_to and now >= self._held_until and in_flight >= self.limit:
                self._limit += 1
                self._grown = True
                return True
        elapsed = now - self._since
        enough = min(_WINDOW_SAMPLES, max(self.limit, _SLOW_WINDOW_SAMPLES))
        over = (elapsed >= _WINDOW_S and self._samples >= enough) or (
            elapsed >= _SLOW_WINDOW_S and self._samples >= _SLOW_WINDOW_SAMPLES
        )
        return over and self._close(now)

    def overloaded(self, *, in_flight: int, now: float) -> None:
        """Note that the replica refused for want of room, or says that it is short of memory.

        What it can do is less than what it was given; but other gateways may have given it the most, so that
        this one goes down to half at most. Signals of the same half second count once.
        """
        if now - self._cut_at >= _ROUND_S:
            self._cut(min(self._limit, max(in_flight - 1.0, self._limit / 2)) * _CUT, now)

    def _latest_ms(self, target_ms: float | None) -> float | None:
        base_ms = self._base_ms
        if target_ms is None:
            return None if base_ms is None else max(base_ms * _OVER_BASE, _LEAST_LATE_MS)
        return target_ms if base_ms is None else max(target_ms, base_ms * _OVER_BASE_WITH_TARGET)

    def _close(self, now: float) -> bool:
        mean_in_flight = self._in_flight / self._samples
        if mean_in_flight <= self._light:
            mean_ms = self._sum_ms / self._samples
            if self._base_ms is None:
                self._base_ms = mean_ms
            self._base_ms += _BASE_WEIGHT * (mean_ms - self._base_ms)
        late, judged = self._late > 1 + _LATE_SHARE * self._samples, self._judged
        used = self._peak >= self.limit - self.limit // 10
        self._begin(now)
        if late:
            # One that works on few is not slow because of how many they are.
            if mean_in_flight > self._light:
                self._cut(max(self._limit * _CUT, self._light), now)
            return False
        # What nothing can be held against may have what was planned for it.
        most = float(self._most if judged else self._start)
        if not used or now < self._held_until or self._limit >= most:
            return False
        before = self.limit
        # Fast as far as it was well before, one by one from there.
        known = min(self._ceiling, self._start if self._planned else self._most)
        self._limit = min(self._limit + self._step, max(known, self._limit + 1), most)
        self._step = min(self._step * 2, max(1.0, self._limit / 2)) if self._limit < known else 1.0
        self._grown = True
        return self.limit > before

    @property
    def _light(self) -> float:
        """How many in flight show how fast the replica can be: a quarter of the plan, or what it starts with."""
        return max(1.0, self._planned / 4) if self._planned else float(self._start)

    def _cut(self, limit: float, now: float) -> None:
        # It grew into this: it waits longer before it tries again. Else all is as before, and it may try soon.
        if self._well:
            self._ceiling = self._limit
            self._fast_to = self._limit / 2
            self._well = False
        self._hold_s = min(self._hold_s * 2, _LONGEST_HOLD_S) if self._grown else _FIRST_HOLD_S
        self._limit = max(1.0, min(limit, self._limit))
        self._held_until = now + self._hold_s
        self._cut_at = now
        self._step = 1.0
        self._grown = False

    def _begin(self, now: float | None) -> None:
        self._since = now
        self._samples = 0
        self._late = 0
        self._judged = False
        self._sum_ms = 0.0
        self._in_flight = 0
        self._peak = 0
