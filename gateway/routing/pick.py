"""Pick: one revision by its weight, then the best replica of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from typing import NamedTuple

from gateway.contract import Endpoint, Replica
from gateway.routing.filter import eligible
from gateway.routing.score import least_outstanding


class Target(NamedTuple):
    """Where a request goes."""

    revision_id: str
    replica: Replica


def pick(replicas: Sequence[Replica], *, score: Callable[[Replica], float], rng: random.Random) -> Replica:
    """Pick the replica with the highest score, ties by lot. ``replicas`` must not be empty."""
    if len(replicas) == 1:
        return replicas[0]
    scores = [score(replica) for replica in replicas]
    best = max(scores)
    return rng.choice([replica for replica, value in zip(replicas, scores, strict=True) if value == best])


def choose(
    endpoint: Endpoint,
    *,
    excluded: Collection[str],
    outstanding: Mapping[str, int],
    rng: random.Random,
    needs: Set[str] = frozenset(),
) -> Target | None:
    """Choose where a request to ``endpoint`` goes, or None if nothing may take it.

    Revisions without an eligible replica take no part in the draw, so that their weight goes to the others.
    """
    candidates = [
        (route, replicas)
        for route in endpoint.routes
        if route.weight > 0
        and (
            replicas := eligible(route.replicas, residency=endpoint.residency, excluded=excluded, needs=needs)
        )
    ]
    if not candidates:
        return None
    if len(candidates) == 1:
        route, replicas = candidates[0]
    else:
        weights = [route.weight for route, _ in candidates]
        route, replicas = rng.choices(candidates, weights=weights)[0]
    return Target(
        route.revision_id,
        pick(replicas, score=lambda replica: least_outstanding(replica, outstanding), rng=rng),
    )
