"""A sliding window over slots of half a second: never more than the limit in any 60 seconds.

What is charged in a slot counts until :data:`SPAN` further slots are over, which is 60 to 60.5 s later. A charge is
taken only if it and all that counts are within the limit; so in any 60 seconds, wherever they begin, what was
charged and not given back is at most the limit. Two weighted calendar minutes, the usual counter, let nearly twice
the limit through where a burst ends one minute and the next is paced. The method is the segmented window of
.NET's ``System.Threading.RateLimiting.SlidingWindowRateLimiter``, with the begun segment counted on top.
"""

from __future__ import annotations

from collections import deque
from typing import Final

SLOT_MS: Final = 500
SPAN: Final = 120  # slots after its own in which a charge still counts
WINDOW_S: Final = SPAN * SLOT_MS / 1000


def slot_at(seconds: float) -> int:
    """Give the slot of a moment."""
    return int(seconds * 1000) // SLOT_MS


def end_of(slot: int) -> float:
    """Give the moment from which what was charged in ``slot`` no longer counts."""
    return (slot + SPAN + 1) * SLOT_MS / 1000


class Window:
    """One counter. Slots are numbers that never fall from call to call."""

    __slots__ = ("_slots", "total")

    def __init__(self) -> None:
        self._slots: deque[list[int]] = deque()  # [slot, charged], oldest first
        self.total = 0

    def advance(self, now: int) -> None:
        """Forget what no longer counts in slot ``now``."""
        slots = self._slots
        while slots and slots[0][0] < now - SPAN:
            self.total -= slots.popleft()[1]

    def charge(self, now: int, amount: int) -> None:
        """Count ``amount`` in slot ``now``."""
        self.total += amount
        if self._slots and self._slots[-1][0] >= now:
            self._slots[-1][1] += amount
        else:
            self._slots.append([now, amount])

    def correct(self, slot: int, amount: int) -> None:
        """Add ``amount``, which may be negative, to what was charged in ``slot``, unless that no longer counts."""
        for entry in reversed(self._slots):
            if entry[0] <= slot:
                if entry[0] == slot:
                    amount = max(amount, -entry[1])
                    entry[1] += amount
                    self.total += amount
                return

    def free_after(self, amount: int) -> int:
        """Give the slot with whose end ``amount`` of what counts has gone; the newest if all of it is less."""
        for slot, charged in self._slots:
            amount -= charged
            if amount <= 0:
                return slot
        return self.newest

    @property
    def newest(self) -> int:
        """The last slot in which something was charged; 0 if nothing counts."""
        return self._slots[-1][0] if self._slots else 0
