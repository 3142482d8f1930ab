"""Outliers: replicas that fail more often, or are slower, than the others of their endpoint."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Final, NamedTuple

#: What is judged: requests of the last 10 to 20 s, no fewer than this.
HALF_S: Final = 10.0
LEAST_REQUESTS: Final = 10
#: How much larger its share of failures must be than the median of its peers'.
FAILURE_SHARE: Final = 0.2
#: How many times slower to the first token than the median of its peers it must be, and by how much at least.
SLOWER: Final = 3.0
SLOWER_S: Final = 0.2
#: How long it is out; each time in a row that much longer.
OUT_S: Final = 10.0
MOST_OUT_S: Final = 120.0


class Seen(NamedTuple):
    """What was seen of a replica: requests that ended in an answer or a failure, and its mean time to answer."""

    requests: int
    failures: int
    first_token_s: float


class Window:
    """Counts what was seen of one replica lately, in two halves of ``HALF_S`` seconds."""

    __slots__ = ("_before", "_since", "_young")

    def __init__(self, now: float) -> None:
        self._since = now
        self._young = [0, 0, 0.0]  # answers, failures, seconds
        self._before = [0, 0, 0.0]

    def answered(self, now: float, first_token_s: float) -> None:
        """Count an answer that began after ``first_token_s``."""
        self._turn(now)
        self._young[0] += 1
        self._young[2] += first_token_s

    def failed(self, now: float) -> None:
        """Count a failure."""
        self._turn(now)
        self._young[1] += 1

    def seen(self, now: float) -> Seen:
        """Sum up."""
        self._turn(now)
        answers, failures, seconds = (a + b for a, b in zip(self._young, self._before, strict=True))
        return Seen(int(answers + failures), int(failures), seconds / answers if answers else 0.0)

    def _turn(self, now: float) -> None:
        age = now - self._since
        if age >= HALF_S:
            self._before = self._young if age < 2 * HALF_S else [0, 0, 0.0]
            self._young = [0, 0, 0.0]
            self._since = now


def outliers(seen: Mapping[str, Seen], *, most: int) -> list[str]:
    """Give the ids of replicas to eject, at most ``most``, the worst first. ``seen`` are the peers of one endpoint.

    Those of which too little was seen are neither judged nor a measure for others.
    """
    judged = {name: each for name, each in seen.items() if each.requests >= LEAST_REQUESTS}
    if most <= 0 or len(judged) < 2:
        return []
    found: list[tuple[float, float, str]] = []
    for name, each in judged.items():
        peers = [other for peer, other in judged.items() if peer != name]
        worse = _share(each) - statistics.median(map(_share, peers))
        usual_s = statistics.median(peer.first_token_s for peer in peers)
        slower = each.first_token_s > SLOWER * usual_s and each.first_token_s - usual_s >= SLOWER_S
        if worse >= FAILURE_SHARE or slower:
            found.append((worse, each.first_token_s - usual_s, name))
    found.sort(reverse=True)
    return [name for _, _, name in found[:most]]


def _share(seen: Seen) -> float:
    return seen.failures / seen.requests
