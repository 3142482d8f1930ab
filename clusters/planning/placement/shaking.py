"""Ruin and recreate: empty a few pools in part, place anew with some noise, exchange, keep what is no worse."""

from __future__ import annotations

from typing import Final

import numpy as np

from clusters.planning.placement.bounds import Priced
from clusters.planning.placement.draft import Draft
from clusters.planning.placement.exchange import exchange
from clusters.planning.placement.regret import place_by_regret
from clusters.planning.placement.relaxation import Clock

#: Pools that are emptied at most, parts of them, and how far noise may change what columns count.
POOLS: Final = 4
PARTS: Final = (0.3, 0.5, 0.8)
NOISE: Final = (0.0, 20.0, 200.0)
#: By how much a draft may be worse than the one before, in parts of the least penalty there is.
WORSE: Final = 0.05
#: Rounds in a row without a better draft that end it.
FRUITLESS: Final = 150


def shake(draft: Draft, guide: Priced, clock: Clock) -> Draft:
    """Give the best draft found from ``draft`` on."""
    columns = draft.columns
    rng = np.random.default_rng(0)
    penalties = columns.penalty[columns.penalty > 0]
    worse = WORSE * float(penalties.min()) if len(penalties) else 0.0
    best = current = draft
    best_objective = current_objective = draft.objective
    fruitless = 0
    while clock.left_s and fruitless < FRUITLESS:
        trial = current.copy()
        _ruin(trial, rng)
        place_by_regret(trial, guide.columns + rng.random(len(columns)) * rng.choice(NOISE))
        exchange(trial, clock)
        objective = trial.objective
        fruitless += 1
        if objective <= current_objective + worse * rng.random():
            current, current_objective = trial, objective
        if objective < best_objective * (1 - 1e-9):
            best, best_objective, fruitless = trial, objective, 0
    return best


def _ruin(draft: Draft, rng: np.random.Generator) -> None:
    """Take out a part of what is in some pools, rather of those that unplaced endpoints could use."""
    columns = draft.columns
    waiting = np.flatnonzero((draft.unplaced > 0)[columns.group])
    pools = len(columns.problem.pools)
    odds = (np.bincount(columns.pool[waiting], minlength=pools) > 0) + 1e-3
    part = rng.choice(PARTS)
    chosen = rng.choice(
        pools, min(pools, int(rng.integers(1, POOLS + 1))), replace=False, p=odds / odds.sum()
    )
    for pool in chosen:
        placed = columns.by_pool[pool]
        placed = placed[draft.used[placed] > 0]
        for column in placed[rng.random(len(placed)) < part].tolist():
            draft.put(column, -int(draft.used[column]))
