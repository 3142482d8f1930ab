"""What prices on room prove: no placement of the fleet counts less than their Lagrangian bound."""

from __future__ import annotations

import dataclasses
import math
from typing import Final

import numpy as np

from clusters.planning.placement.columns import Columns, Floats, Integers

#: Part of a bound that is given away for the rounding of its own sum.
_ROUNDING: Final = 1e-10


@dataclasses.dataclass(frozen=True, order=True)
class Cut:
    """A rounded row: pieces of ``size`` (by its place in the grid) in ``pool`` are counted in ``divisor``s.

    As the replicas of an endpoint share a pool, an endpoint of u pieces takes floor(u / divisor) of the
    floor(room / divisor) there are.
    """

    pool: int
    size: int
    divisor: int

    def columns(self, columns: Columns) -> tuple[Integers, Integers]:
        """Give the columns that count in it, and how much each does."""
        of_pool = columns.by_pool[self.pool]
        counts = columns.units[of_pool, self.size] // self.divisor
        some = counts > 0
        return of_pool[some], counts[some]

    def room(self, columns: Columns) -> int:
        """How much there is."""
        return int(columns.grid.room[self.pool, self.size]) // self.divisor


@dataclasses.dataclass(frozen=True, eq=False)
class Prices:
    """Prices of at least 0: ``room`` [pools, sizes] of a piece, ``quota`` of a GPU under each quota, of a unit of
    each cut, and ``unplaced`` of a unit of weight that is known to stay unplaced."""

    room: Floats
    quota: Floats
    cuts: tuple[tuple[Cut, float], ...] = ()
    unplaced: float = 0.0

    def mixed(self, other: Prices, share: float) -> Prices:
        """Mix these with a share of the others; both without cuts."""
        return Prices(
            (1 - share) * self.room + share * other.room, (1 - share) * self.quota + share * other.quota
        )

    @classmethod
    def none(cls, columns: Columns) -> Prices:
        """Nothing has a price."""
        return cls(np.zeros(columns.grid.room.shape), np.zeros(len(columns.quota_room)))


@dataclasses.dataclass(frozen=True, eq=False)
class Priced:
    """What everything counts with the prices: each column, the least of each group, and the bound they prove."""

    prices: Prices
    columns: Floats
    least: Floats
    bound: float


def priced(
    columns: Columns, prices: Prices, *, cost: Floats, penalty: Floats, unplaced_weight: float = 0.0
) -> Priced:
    """Count everything with the prices; ``unplaced_weight`` is what every placement leaves unplaced at least."""
    replica = np.einsum("pgs,ps->pg", columns.grid.pieces, prices.room)
    values = cost + columns.replicas * replica[columns.pool, columns.shape]
    if len(columns.quota_room):
        per_gpu = np.append(prices.quota, 0.0)
        values += columns.gpus * per_gpu[columns.quota][columns.group]
    given = float((prices.room * columns.grid.room).sum()) + float(prices.quota @ columns.quota_room)
    for cut, price in prices.cuts:
        at, counts = cut.columns(columns)
        values[at] += price * counts
        given += price * cut.room(columns)
    least = columns.least(values, penalty - prices.unplaced * columns.weight)
    whole = least @ columns.count
    bound = float(whole - given + prices.unplaced * unplaced_weight)
    scale = float(np.abs(least) @ columns.count) + given
    return Priced(prices, values, least, bound - _ROUNDING * scale)


def least_unplaced(columns: Columns, bound: float) -> float:
    """Give the least weight above ``bound`` that whole endpoints make up; ``bound`` itself for uneven weights."""
    if not len(columns.weight) or not np.all(columns.weight == np.floor(columns.weight)):
        return max(0.0, bound)
    unit = math.gcd(*(int(weight) for weight in columns.weight))
    return float(unit * math.ceil(bound / unit - 1e-6)) if unit and bound > 0 else 0.0
