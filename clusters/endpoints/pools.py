"""Pools as the planner sees them, for an endpoint that lets go of what it holds."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

from clusters.models import Reservation, Revision
from clusters.planning import problem


def released(pools: Sequence[problem.Pool], current: Revision | None) -> list[problem.Pool]:
    """Give the pools as they would be had ``current`` let go of its GPUs."""
    held = Reservation.objects.held().filter(revision=current).first() if current else None
    if held is None or current is None:
        return list(pools)
    per_node = Counter(dict.fromkeys(held.nodes, 0))
    for node in held.nodes:
        per_node[node] += held.gpus_per_replica // held.span
    return [
        dataclasses.replace(
            pool,
            free=tuple(min(pool.gpus_per_node, free + per_node[node]) for node, free in enumerate(pool.free)),
        )
        if pool.id == str(current.pool)
        else pool
        for pool in pools
    ]
