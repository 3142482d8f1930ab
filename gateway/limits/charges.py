"""What one request asks of counters, and what they answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Charge(NamedTuple):
    """``cost`` units of one counter, of which at most ``limit`` may be used in a window."""

    counter: str
    limit: int
    cost: int


class Verdict(NamedTuple):
    """Whether all charges were taken, or none.

    ``refused`` is the index of the charge that waits longest, -1 if all were taken; ``wait_s`` is how long until
    there is room for it if nothing else changes. ``used`` and ``resets_s`` say for each charge how much of its
    limit counts now, and in how many seconds nothing of that will. ``slot`` is where they were written, ``life``
    of which data, empty for those of this process.
    """

    refused: int
    wait_s: float
    used: Sequence[int]
    resets_s: Sequence[float]
    slot: int
    life: str = ""
