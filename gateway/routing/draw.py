"""Draw: one of several by weight, by lot or, for a session, always the same."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from typing import Final

_RANGE: Final = 2**64


def draw(names: Sequence[str], weights: Sequence[float], *, session: str, rng: random.Random) -> int:
    """Give the index of one of ``names``, each as likely as its weight says; weights of 0 or less are never drawn.

    A ``session`` that is not empty always gets the same one while that is there, and any other with the same
    likelihood: weighted rendezvous hashing, https://www.snia.org/sites/default/files/SDC15_presentations/dist_sys/
    Jason_Resch_New_Consistent_Hashings_Rev.pdf. Taking one away, or changing a weight, moves only the sessions that
    have to move.

    Raises:
        ValueError: nothing can be drawn.
    """
    if not any(weight > 0 for weight in weights):
        raise ValueError("there is nothing to draw from")
    if not session:
        indices = range(len(names))
        return rng.choices(indices, weights=[max(0.0, weight) for weight in weights])[0]
    best, index = -math.inf, -1
    for i, (name, weight) in enumerate(zip(names, weights, strict=True)):
        if weight > 0 and (score := weight / -math.log(_uniform(session, name))) > best:
            best, index = score, i
    return index


def salted(session: str, *owners: str) -> str:
    """Make a session's name its owner's own, so that equal names of two owners have nothing in common."""
    return "\0".join((*owners, session)) if session else ""


def _uniform(session: str, name: str) -> float:
    """Give a number above 0 and below 1 that every process gives for the two."""
    content = f"{len(session)}\0{session}\0{name}".encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(content, digest_size=8).digest()
    return (int.from_bytes(digest, "big") + 0.5) / (_RANGE + 1.0)
