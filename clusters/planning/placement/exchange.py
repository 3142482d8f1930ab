"""Local search: put unplaced endpoints where others make way, by moving elsewhere or by counting less."""

from __future__ import annotations

from typing import Final

import numpy as np

from clusters.planning.placement.columns import Integers, Mask
from clusters.planning.placement.draft import Draft
from clusters.planning.placement.regret import place_by_regret
from clusters.planning.placement.relaxation import Clock

#: Unplaced endpoints that are tried in the place of one, in each pool.
TRIED: Final = 40
#: Rounds over all unplaced endpoints.
ROUNDS: Final = 8
#: What an exchange must gain.
GAIN: Final = 1e-6


def exchange(draft: Draft, clock: Clock) -> None:
    """Improve ``draft`` until no exchange does or the time is over."""
    search = _Exchange(draft)
    place_by_regret(draft, draft.columns.cost)
    search.look_again(None)
    for _ in range(ROUNDS):
        if not clock.left_s or not (search.one_for_one(clock) + search.many_for_one(clock)):
            return


class _Exchange:
    """``elsewhere`` is what the cheapest column with room counts for each group, its penalty where none has."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._columns = draft.columns
        self._open = np.full(len(self._columns), np.inf)
        self._elsewhere = np.zeros(0)

    def look_again(self, pools: set[int] | None) -> None:
        """See what fits now in these pools, None for all."""
        if pools is None:
            every = np.arange(len(self._columns))
            self._open = np.where(self._draft.fits(every), self._columns.cost, np.inf)
        else:
            for pool in pools:
                at = self._columns.by_pool[pool]
                self._open[at] = np.where(self._draft.fits(at), self._columns.cost[at], np.inf)
        self._elsewhere = self._columns.least(self._open, self._columns.penalty)

    def one_for_one(self, clock: Clock) -> int:
        """Place each unplaced endpoint where one other makes way; count the exchanges."""
        columns, draft, done = self._columns, self._draft, 0
        least = columns.least(columns.gpus.astype(np.float64), np.full(len(columns.count), np.inf))
        waiting = np.flatnonzero((draft.unplaced > 0) & (least < np.inf))
        for group in waiting[np.argsort(-columns.penalty[waiting] / least[waiting], kind="stable")]:
            while draft.unplaced[group] and clock.left_s and self._make_way(int(group)):
                done += 1
        return done

    def _make_way(self, group: int) -> bool:
        columns, draft = self._columns, self._draft
        of_group = columns.of_group(group)
        own = np.arange(of_group.start, of_group.stop)
        in_pool = np.full(len(columns.problem.pools), -1, np.int64)
        cheap = own[np.argsort(-columns.cost[own], kind="stable")]
        in_pool[columns.pool[cheap]] = cheap
        placed = np.flatnonzero(draft.used)
        placed = placed[in_pool[columns.pool[placed]] >= 0]
        placed = placed[columns.group[placed] != group]
        takes = in_pool[columns.pool[placed]]
        short = columns.units[takes] - draft.room[columns.pool[placed]]
        fits = (short <= columns.units[placed]).all(axis=1) & self._quota_allows(group, takes, placed)
        placed, takes = placed[fits], takes[fits]
        change = columns.cost[takes] - columns.penalty[group]
        change += self._elsewhere[columns.group[placed]] - columns.cost[placed]
        for best in np.argsort(change, kind="stable")[:10]:
            if change[best] > -GAIN:
                return False
            if self._swap(int(placed[best]), [int(takes[best])]):
                return True
        return False

    def _quota_allows(self, group: int, takes: Integers, placed: Integers) -> Mask:
        columns, quota = self._columns, int(self._columns.quota[group])
        if quota < 0:
            return np.ones(len(takes), np.bool_)
        given = np.where(columns.quota[columns.group[placed]] == quota, columns.gpus[placed], 0)
        allowed: Mask = columns.gpus[takes] <= self._draft.quota_room[quota] + given
        return allowed

    def _swap(self, leaves: int, come: list[int]) -> bool:
        """Do an exchange, with a new place for what leaves if there is one; undo it if it does not gain."""
        columns, draft = self._columns, self._draft
        before = float(columns.cost[leaves])
        draft.put(leaves, -1)
        for column in come:
            draft.put(column)
        group = int(columns.group[leaves])
        found = draft.cheapest(group, columns.cost)
        after = float(columns.penalty[group])
        moved = found is not None and found[1] < after
        if found is not None and moved:
            draft.put(found[0])
            after = found[1]
        change = (
            after - before + float(sum(columns.cost[c] - columns.penalty[columns.group[c]] for c in come))
        )
        if change > -GAIN:
            if found is not None and moved:
                draft.put(found[0], -1)
            for column in come:
                draft.put(column, -1)
            draft.put(leaves)
            return False
        pools = {int(columns.pool[leaves])}
        if found is not None and moved:
            pools.add(int(columns.pool[found[0]]))
        self.look_again(pools)
        return True

    def many_for_one(self, clock: Clock) -> int:
        """Place several unplaced endpoints where one makes way; count the exchanges."""
        done = 0
        for pool in range(len(self._columns.problem.pools)):
            if not clock.left_s:
                break
            while self._several_into(pool):
                done += 1
        return done

    def _several_into(self, pool: int) -> bool:
        columns, draft = self._columns, self._draft
        of_pool = columns.by_pool[pool]
        waiting = of_pool[draft.unplaced[columns.group[of_pool]] > 0]
        gain = columns.penalty[columns.group[waiting]] - columns.cost[waiting]
        waiting = waiting[np.argsort(-gain / columns.gpus[waiting], kind="stable")][:TRIED]
        placed = of_pool[draft.used[of_pool] > 0]
        loss = self._elsewhere[columns.group[placed]] - columns.cost[placed]
        for place in np.argsort(loss / columns.gpus[placed], kind="stable"):
            leaves = int(placed[place])
            room = draft.room[pool] + columns.units[leaves]
            come, gained = self._fill(room, waiting, leaves)
            if len(come) > 1 and gained > loss[place] + GAIN and self._swap(leaves, come):
                return True
        return False

    def _fill(self, room: Integers, waiting: Integers, leaves: int) -> tuple[list[int], float]:
        columns, draft = self._columns, self._draft
        quota_room = draft.quota_room.copy()
        if columns.quota[columns.group[leaves]] >= 0:
            quota_room[columns.quota[columns.group[leaves]]] += columns.gpus[leaves]
        come: list[int] = []
        gained = 0.0
        taken: dict[int, int] = {}
        fitting = waiting[(columns.units[waiting] <= room).all(axis=1)]
        for column in fitting.tolist():
            group = int(columns.group[column])
            quota = int(columns.quota[group])
            while (
                taken.get(group, 0) < draft.unplaced[group]
                and (columns.units[column] <= room).all()
                and (quota < 0 or columns.gpus[column] <= quota_room[quota])
            ):
                room = room - columns.units[column]
                if quota >= 0:
                    quota_room[quota] -= columns.gpus[column]
                taken[group] = taken.get(group, 0) + 1
                come.append(column)
                gained += float(columns.penalty[group] - columns.cost[column])
        return come, gained
