"""Integer programs until the gap is closed or the time is over."""

from __future__ import annotations

from typing import Final

import numpy as np

from clusters.planning.placement.columns import Mask
from clusters.planning.placement.draft import Draft
from clusters.planning.placement.exchange import exchange
from clusters.planning.placement.programs import improved
from clusters.planning.placement.relaxation import Clock, Relaxation
from clusters.planning.placement.shaking import shake

#: Gap that ends the search where more of it is not cheap, and seconds that may be spent below it.
ENOUGH: Final = 1e-4
BELOW_S: Final = 5.0
#: Gap above which the search goes on though nothing is gained.
NEAR: Final = 2e-3
#: Gap of the integer programs.
EXACT: Final = 1e-7
#: Part of a program's bound that is given away for HiGHS's tolerances.
TOLERANCE: Final = 1e-9
#: Columns of a program over the whole fleet, over the best columns of all of it, and over a part of it.
MOST_COLUMNS: Final = 40_000
CORE_COLUMNS: Final = 25_000
PART_COLUMNS: Final = 6_000
#: Columns of a group in a program over the best columns or over a part.
OF_GROUP: Final = 12
#: Seconds of a program over a part, and programs in a row without gain that are enough.
PART_S: Final = 3.0
FRUITLESS: Final = 6
#: Parts of the time for shaking, and for a program over the best columns of all groups.
SHAKING: Final = 0.15
CORE: Final = 0.9


class Search:
    """The best draft so far and the best bound."""

    def __init__(self, draft: Draft, bound: float) -> None:
        self.draft = draft
        self.objective = draft.objective
        self.bound = bound

    @property
    def gap(self) -> float:
        """How far the objective is above the bound, in parts of the bound."""
        distance = self.objective - self.bound
        return 0.0 if distance <= 0 else distance / self.bound if self.bound > 0 else np.inf

    def offer(self, draft: Draft) -> bool:
        """Take a draft if it is better; say whether it was."""
        objective = draft.objective
        if objective >= self.objective - 1e-9 * abs(self.objective):
            return False
        self.draft, self.objective = draft, objective
        return True


def polish(search: Search, relaxation: Relaxation, clock: Clock) -> None:
    """Close the gap with a program over all columns that could be better, where they are few, else over parts."""
    if search.gap <= EXACT or not clock.left_s or not len(search.draft.columns):
        return
    if _whole(search, relaxation, clock):
        return
    if search.gap > ENOUGH:
        search.offer(shake(search.draft, relaxation.best, clock.part(SHAKING)))
    before = search.objective
    if not _core(search, relaxation, clock.part(CORE)):
        _parts(search, relaxation, clock)
    if search.objective < before:
        _whole(search, relaxation, clock)


def _core(search: Search, relaxation: Relaxation, clock: Clock) -> bool:
    """Solve over the best columns of each group; say whether they were few enough."""
    columns = search.draft.columns
    best = columns.smallest(relaxation.best.columns, OF_GROUP)
    if len(best) > CORE_COLUMNS:
        return False
    if search.gap > ENOUGH and clock.left_s:
        outcome = improved(
            search.draft,
            np.ones(len(columns.count), np.bool_),
            np.union1d(best, np.flatnonzero(search.draft.used)),
            limit_s=clock.left_s,
            gap=ENOUGH / 2,
            cuts=tuple(relaxation.master.cuts),
            unplaced_weight=relaxation.master.unplaced_weight,
        )
        search.offer(outcome.draft)
    return True


def _whole(search: Search, relaxation: Relaxation, clock: Clock) -> bool:
    """Solve over the columns that a better placement can use: those within the gap of their group's least.

    Say whether they were few enough.
    """
    columns = search.draft.columns
    above = relaxation.best.columns - relaxation.best.least[columns.group]
    among = np.flatnonzero((above <= search.objective - relaxation.best.bound) | (search.draft.used > 0))
    if len(among) > MOST_COLUMNS or not clock.left_s:
        return False
    limit_s = clock.left_s if search.gap > ENOUGH else min(BELOW_S, clock.left_s)
    outcome = improved(
        search.draft,
        np.ones(len(columns.count), np.bool_),
        among,
        limit_s=limit_s,
        gap=EXACT,
        cuts=tuple(relaxation.master.cuts),
        unplaced_weight=relaxation.master.unplaced_weight,
    )
    before = search.objective
    search.offer(outcome.draft)
    proven = min(outcome.bound, before) * (1 - TOLERANCE)
    search.bound = max(search.bound, proven)
    return True


def _parts(search: Search, relaxation: Relaxation, clock: Clock) -> None:
    """Free what shares a few pools, and what waits for them, again and again."""
    rng = np.random.default_rng(0)
    columns = search.draft.columns
    fruitless = 0
    while clock.left_s and search.gap > (ENOUGH if fruitless < FRUITLESS else NEAR):
        groups, pools = _neighbours(search.draft, relaxation, rng)
        own = np.flatnonzero(groups[columns.group])
        near = columns.smallest(relaxation.best.columns, OF_GROUP, own)
        inside = own[pools[columns.pool[own]]]
        among = np.union1d(np.union1d(near, inside), own[search.draft.used[own] > 0])
        limit_s = min(PART_S, clock.left_s)
        outcome = improved(search.draft, groups, among, limit_s=limit_s, gap=EXACT)
        if search.offer(outcome.draft):
            fruitless = 0
            exchanged = search.draft.copy()
            exchange(exchanged, clock.part(0.5))
            search.offer(exchanged)
        else:
            fruitless += 1


def _neighbours(draft: Draft, relaxation: Relaxation, rng: np.random.Generator) -> tuple[Mask, Mask]:
    """Choose a pool where something was lost, and pools that its endpoints could go to."""
    columns = draft.columns
    used = np.flatnonzero(draft.used)
    lost = np.zeros(len(columns.problem.pools))
    np.add.at(
        lost, columns.pool[used], (relaxation.best.columns - relaxation.best.least[columns.group])[used]
    )
    waiting = np.flatnonzero((draft.unplaced > 0)[columns.group])
    wanted = np.bincount(columns.pool[waiting], minlength=len(lost)) > 0
    odds = lost + wanted * (lost.mean() + 1.0) + 1e-9
    groups = np.zeros(len(columns.count), np.bool_)
    pools = np.zeros(len(lost), np.bool_)
    size = 0
    for pool in rng.choice(len(lost), len(lost), replace=False, p=odds / odds.sum()):
        of_pool = columns.by_pool[pool]
        placed = np.unique(columns.group[of_pool[draft.used[of_pool] > 0]])
        if size + len(placed) * OF_GROUP > PART_COLUMNS and size:
            break
        groups[placed] = True
        pools[pool] = True
        size += len(placed) * OF_GROUP
    open_to = np.unique(columns.group[waiting[pools[columns.pool[waiting]]]])
    if len(open_to) > 60:
        open_to = rng.choice(open_to, 60, replace=False)
    groups[open_to] = True
    return groups, pools
