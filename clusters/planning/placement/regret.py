"""Greedy: place first what loses most by waiting."""

from __future__ import annotations

import heapq
from typing import Final

import numpy as np

from clusters.planning.placement.columns import Floats
from clusters.planning.placement.draft import Draft

#: Part of the free GPUs from which what endpoints need at least makes them scarce.
SCARCE: Final = 0.5


def place_by_regret(draft: Draft, values: Floats) -> None:
    """Place unplaced endpoints at least value, in the order of what the second-best place would add per GPU.

    An endpoint that has one place left loses its penalty; where GPUs are scarce what it loses unplaced is added
    for all. ``values`` are what the columns count, plain or priced.
    """
    columns = draft.columns
    scarce = _is_scarce(draft)
    queue: list[tuple[float, int, int]] = []

    def push(group: int) -> None:
        found = draft.cheapest(group, values)
        penalty = float(columns.penalty[group])
        if found is not None and columns.cost[found[0]] < penalty:
            column, best, second = found
            unplaced = max(penalty, best)
            regret = min(second, unplaced) - best + (unplaced - best if scarce else 0.0)
            heapq.heappush(queue, (-regret / float(columns.gpus[column]), group, column))

    for group in np.flatnonzero(draft.unplaced):
        push(int(group))
    while queue:
        _, group, column = heapq.heappop(queue)
        if draft.fits(slice(column, column + 1))[0]:
            draft.put(column)
            if not draft.unplaced[group]:
                continue
        push(group)


def _is_scarce(draft: Draft) -> bool:
    columns = draft.columns
    least = columns.least(columns.gpus.astype(np.float64), np.full(len(columns.count), np.inf))
    needed = float((least * draft.unplaced)[np.isfinite(least)].sum())
    free = sum(sum(pool.free) for pool in columns.problem.pools)
    return needed > SCARCE * free
