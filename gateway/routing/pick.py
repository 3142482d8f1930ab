"""Pick: one revision by its weight, then the best replica of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from gateway.contract import Replica
from gateway.routing.draw import draw
from gateway.routing.filter import Option


class Target(NamedTuple):
    """Where a request goes."""

    revision_id: str
    replica: Replica


def draw_revision(choices: Sequence[Option], *, session: str, rng: random.Random) -> Option:
    """Draw a revision by weight, for a session always the same. ``choices`` must not be empty."""
    if len(choices) == 1:
        return choices[0]
    names = [option.revision_id for option in choices]
    return choices[draw(names, [option.weight for option in choices], session=session, rng=rng)]


def stick(replicas: Sequence[Replica], *, session: str, rng: random.Random) -> Replica:
    """Give the replica of a session, the same while it is there. ``replicas`` must not be empty."""
    names = [replica.replica_id for replica in replicas]
    return replicas[draw(names, [1.0] * len(names), session=session, rng=rng)]


def pick(replicas: Sequence[Replica], scores: Sequence[float], *, rng: random.Random) -> Replica:
    """Pick the replica with the highest score, ties by lot. ``replicas`` must not be empty."""
    best = max(scores)
    return rng.choice([replica for replica, score in zip(replicas, scores, strict=True) if score == best])
