"""Counters in this process alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.limits.charges import Charge, Verdict
from gateway.limits.window import SPAN, Window, end_of, slot_at


class LocalCounters:
    """Windows by counter. ``clock`` gives seconds and never goes back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._windows: dict[str, Window] = {}
        self._sweep_at = 0

    def __len__(self) -> int:
        return len(self._windows)

    def enter(self, charges: Sequence[Charge]) -> Verdict:
        """Take all charges, or none where one does not fit."""
        moment = self._clock()
        now = slot_at(moment)
        windows = self._advanced(charges, now)
        refused, wait_until = -1, 0.0
        for index, (charge, window) in enumerate(zip(charges, windows, strict=True)):
            over = window.total + charge.cost - charge.limit
            if over > 0:
                until = end_of(window.free_after(over))
                if until > wait_until:
                    refused, wait_until = index, until
        if refused < 0:
            for charge, window in zip(charges, windows, strict=True):
                window.charge(now, charge.cost)
        return Verdict(
            refused=refused,
            wait_s=max(0.0, wait_until - moment),
            used=[window.total for window in windows],
            resets_s=[
                max(0.0, end_of(window.newest) - moment) if window.total else 0.0 for window in windows
            ],
            slot=now,
        )

    def note(self, charges: Sequence[Charge]) -> int:
        """Count charges that others let in, whether they fit or not; gives their slot."""
        now = slot_at(self._clock())
        for charge, window in zip(charges, self._advanced(charges, now), strict=True):
            window.charge(now, charge.cost)
        return now

    def correct(self, slot: int, counter: str, amount: int) -> None:
        """Add ``amount``, which may be negative, to what was charged in ``slot``."""
        window = self._windows.get(counter)
        if window is not None:
            window.correct(slot, amount)

    def _advanced(self, charges: Sequence[Charge], now: int) -> list[Window]:
        if now >= self._sweep_at:
            self._sweep(now)
        windows = []
        for charge in charges:
            window = self._windows.get(charge.counter)
            if window is None:
                window = self._windows[charge.counter] = Window()
            else:
                window.advance(now)
            windows.append(window)
        return windows

    def _sweep(self, now: int) -> None:
        """Forget counters that nobody used for a window."""
        self._sweep_at = now + SPAN
        for window in self._windows.values():
            window.advance(now)
        self._windows = {name: window for name, window in self._windows.items() if window.newest}
