"""Affinity: which replicas have seen how much of a prompt's beginning, and so may have it in their caches.

A prompt is cut at fixed places, and each cut is known by a hash of all that comes before it. A conversation's next
turn begins as its last one did, so that its first cuts are those of the turn before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

_FIRST: Final = 128  # characters: about 32 tokens, a block of an engine's cache
_MOST_CUTS: Final = 64
_MOST_REPLICAS: Final = 4  # remembered for one cut


def _places() -> tuple[int, ...]:
    places = [_FIRST]
    while len(places) < _MOST_CUTS:
        places.append(places[-1] + max(_FIRST, places[-1] // 8))
    return tuple(places)


#: Where prompts are cut, in characters: close together first, then ever further apart, up to about 700,000.
PLACES: Final = _places()


def cuts(prompt: str, *, salt: str) -> list[int]:
    """Give the hash of each cut of ``prompt``. Those of two ``salt`` have nothing in common."""
    before = hash(salt)
    start, length = 0, len(prompt)
    found = []
    for end in PLACES:
        if end > length:
            break
        before = hash((before, prompt[start:end]))
        found.append(before)
        start = end
    return found


class PrefixIndex:
    """Remembers replicas by cut: ``most_cuts`` at most, each for ``ttl_s`` / 2 to ``ttl_s`` seconds.

    Hashes are those of this process, keyed with its secret: nobody can make two prompts meet. Two generations are
    held; a look-up asks both, and the older one is dropped whole.
    """

    def __init__(self, *, clock: Callable[[], float], most_cuts: int = 100_000, ttl_s: float = 600.0) -> None:
        self._clock = clock
        self._half = most_cuts // 2
        self._half_s = ttl_s / 2
        self._young: dict[int, tuple[str, ...]] = {}
        self._old: dict[int, tuple[str, ...]] = {}
        self._born = self._old_born = clock()

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def matched(self, hashes: Sequence[int], length: int, replica_ids: Collection[str]) -> dict[str, float]:
        """Give the share of a prompt of ``length`` characters that each of ``replica_ids`` has seen, if any."""
        self._rotate()
        young, old = self._young, self._old
        found: dict[str, float] = {}
        for place, cut in zip(PLACES, hashes, strict=False):
            known, before = young.get(cut), old.get(cut)
            if known is None and before is None:
                # Whoever saw more of it saw this as well.
                break
            for replica_id in (*(known or ()), *(before or ())):
                if replica_id in replica_ids:
                    found[replica_id] = place / length
        return found

    def remember(self, hashes: Sequence[int], replica_id: str) -> None:
        """Note that ``replica_id`` has the prompt of ``hashes`` now."""
        self._rotate()
        young = self._young
        for cut in hashes:
            known = young.get(cut)
            if known is None:
                young[cut] = (replica_id,)
            elif replica_id not in known:
                young[cut] = (replica_id, *known[: _MOST_REPLICAS - 1])

    def _rotate(self) -> None:
        now = self._clock()
        if self._old and now - self._old_born >= 2 * self._half_s:
            self._old = {}
        if len(self._young) < self._half - _MOST_CUTS and now - self._born < self._half_s:
            return
        self._old, self._old_born = self._young, self._born
        self._young, self._born = {}, now
        if now - self._old_born >= 2 * self._half_s:
            self._old = {}
