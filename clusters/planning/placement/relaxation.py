"""The linear relaxation: columns grown from duals, rows strengthened by rounding."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Final

import numpy as np

from clusters.planning.placement.bounds import Cut, Priced, Prices, least_unplaced, priced
from clusters.planning.placement.columns import Columns, Floats, Integers
from clusters.planning.placement.master import Master

#: Columns that a sample of the groups may have; its duals choose the first columns of the fleet.
SAMPLE: Final = 60_000
#: Columns of each group to begin with, and to add in a round.
FIRST_OF_GROUP: Final = 15
MORE_OF_GROUP: Final = 4
#: Added columns that a solve hardly notices.
FEW_MORE: Final = 200
#: Shares of the duals in prices between them and the best ones.
BETWEEN: Final = (0.1, 0.25, 0.5)
#: Rounds of cuts, and cuts on one row in a round.
CUT_ROUNDS: Final = 6
CUTS_OF_ROW: Final = 3
#: By how much a column must lower the objective to be worth adding.
WORTH: Final = 1e-7
#: How far values may be from what they mean.
LITTLE: Final = 1e-6


class Clock:
    """Time that is left."""

    def __init__(self, limit_s: float) -> None:
        self.began = time.monotonic()
        self._limit_s = limit_s

    @property
    def spent_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began

    @property
    def left_s(self) -> float:
        """Seconds to the limit, at least 0."""
        return max(0.0, self._limit_s - self.spent_s)

    def part(self, share: float) -> Clock:
        """Give a clock for a share of what is left."""
        return Clock(self.left_s * share)


@dataclasses.dataclass(eq=False)
class Relaxation:
    """The relaxation as far as it came: the best bound, and what everything counts with the prices that prove it.

    ``is_optimal`` says whether ``master`` holds an optimum over its columns and cuts,
    ``round_s`` how long a round of growing takes.
    """

    master: Master
    best: Priced
    is_optimal: bool = False
    round_s: float = 0.0

    def solve(self, clock: Clock, *, primal: bool = False) -> bool:
        """Solve the master; say whether the optimum was reached."""
        self.is_optimal = self.master.solve(clock.left_s, primal=primal)
        return self.is_optimal

    def look(self) -> Priced:
        """Price all columns with the duals, and better the bound, also with prices between these and the best."""
        master, columns = self.master, self.master.columns
        prices = master.prices()
        now = _priced(columns, prices, master.unplaced_weight)
        between: list[Priced] = []
        if not master.cuts and not master.unplaced_weight and now.bound < self.best.bound:
            between = [_priced(columns, self.best.prices.mixed(prices, share)) for share in BETWEEN]
        self.best = max([self.best, now, *between], key=lambda each: each.bound)
        return now


def relax(columns: Columns, clock: Clock) -> Relaxation:
    """Solve the relaxation, or come as far as the clock allows."""
    first = _first_prices(columns, clock)
    best = _priced(columns, first)
    chosen = (
        np.arange(len(columns))
        if len(columns) <= SAMPLE // 2
        else columns.smallest(best.columns, FIRST_OF_GROUP)
    )
    relaxation = Relaxation(Master(columns, chosen), best)
    if not (relaxation.solve(clock) and _grow(relaxation, clock)):
        return relaxation
    for _ in range(CUT_ROUNDS):
        cuts = _violated(relaxation.master)
        if not cuts:
            break
        relaxation.master.add_cuts(cuts)
        if not (relaxation.solve(clock) and _grow(relaxation, clock)):
            return relaxation
    weight = _least_weight(relaxation.master, clock)
    if weight > 0:
        relaxation.master.require_unplaced(weight)
    if relaxation.solve(clock):
        _grow(relaxation, clock)
    return relaxation


def _first_prices(columns: Columns, clock: Clock) -> Prices:
    """Give the duals of a sample of the groups in its share of the room, none where the fleet is small."""
    if len(columns) <= SAMPLE:
        return Prices.none(columns)
    share = SAMPLE / len(columns)
    sampled = np.random.default_rng(0).random(len(columns.count)) < share
    part = columns.part(sampled, np.ones(len(columns), np.bool_), columns.grid.room, columns.quota_room)
    master = Master(part, np.arange(len(part)), share=float(part.count.sum() / columns.count.sum()))
    master.solve(clock.left_s)
    return master.prices()


def _grow(relaxation: Relaxation, clock: Clock) -> bool:
    """Add columns to the solved master until none lowers the objective; say whether it came to that.

    It ends too, with the master solved, where the time that is left would not do for another round.
    """
    while True:
        began = clock.left_s
        more = _worth_adding(relaxation.master, relaxation.look().columns)
        if not len(more):
            return True
        if len(more) > FEW_MORE and relaxation.round_s > clock.left_s:
            return False
        relaxation.master.add(more)
        if not relaxation.solve(clock, primal=True):
            return False
        relaxation.round_s = max(0.5 * relaxation.round_s, began - clock.left_s)


def _worth_adding(master: Master, values: Floats) -> Integers:
    columns = master.columns
    worth = values - master.group_duals[columns.group]
    worth[master.chosen] = 0.0
    return columns.smallest(worth, MORE_OF_GROUP, np.flatnonzero(worth < -WORTH))


def _priced(columns: Columns, prices: Prices, unplaced_weight: float = 0.0) -> Priced:
    return priced(
        columns, prices, cost=columns.cost, penalty=columns.penalty, unplaced_weight=unplaced_weight
    )


def _violated(master: Master) -> list[Cut]:
    """Find rounded rows that the values break; those that break them most of each row."""
    columns = master.columns
    used = master.placed > LITTLE
    active, values = master.chosen[used], master.placed[used]
    order = np.argsort(columns.pool[active], kind="stable")
    active, values = active[order], values[order]
    ends = np.searchsorted(columns.pool[active], np.arange(len(columns.problem.pools) + 1))
    known, found = set(master.cuts), []
    for pool, size in np.argwhere(columns.rows_needed):
        of_pool = slice(ends[pool], ends[pool + 1])
        room = int(columns.grid.room[pool, size])
        units, x = columns.units[active[of_pool], size], values[of_pool]
        if not room or units @ x < room / 2:
            continue
        divisors = {int(unit) for unit in units} | {room // (k + 1) + 1 for k in range(1, 6)}
        broken = []
        for divisor in divisors - {0, 1}:
            over = float((units // divisor) @ x) - room // divisor
            cut = Cut(int(pool), int(size), divisor)
            if over > 1e-4 and cut not in known:
                broken.append((-over / max(1, room // divisor), cut))
        found += [cut for _, cut in sorted(broken)[:CUTS_OF_ROW]]
    return found


def _least_weight(master: Master, clock: Clock) -> float:
    """Give the least weight that any placement leaves unplaced, 0 where weights are no whole numbers."""
    columns = master.columns
    if not np.all(columns.weight == np.floor(columns.weight)):
        return 0.0
    best = 0.0
    nothing = np.zeros(len(columns))
    master.count_unplaced(only=True)
    for _ in range(8):
        if not master.solve(clock.left_s / 4, primal=True):
            break
        now = priced(columns, master.prices(), cost=nothing, penalty=columns.weight)
        best = max(best, now.bound)
        more = _worth_adding(master, now.columns)
        if not len(more) or math.ceil(best - LITTLE) >= master.program.objective - LITTLE:
            break
        master.add(more)
        master.count_unplaced(only=True)
    master.count_unplaced(only=False)
    return least_unplaced(columns, best)
