"""A placement in the making: how often each column is used, and the room that is left by the rows of the pools."""

from __future__ import annotations

import numpy as np

from clusters.planning.placement.columns import Columns, Floats, Integers, Mask


class Draft:
    """``used`` counts the endpoints in each column, ``unplaced`` those of each group that have none.

    ``room`` [pools, sizes] and ``quota_room`` are what they leave.
    """

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self.used = np.zeros(len(columns), np.int64)
        self.unplaced = columns.count.copy()
        self.room = columns.grid.room.copy()
        self.quota_room = columns.quota_room.copy()

    @classmethod
    def of(cls, columns: Columns, used: Integers) -> Draft:
        """Make a draft of counts that fit."""
        draft = cls(columns)
        at = np.flatnonzero(used)
        draft.used[at] = used[at]
        np.subtract.at(draft.unplaced, columns.group[at], used[at])
        np.subtract.at(draft.room, columns.pool[at], columns.units[at] * used[at, None])
        quota = columns.quota[columns.group[at]]
        under = quota >= 0
        np.subtract.at(draft.quota_room, quota[under], (columns.gpus[at] * used[at])[under])
        return draft

    def copy(self) -> Draft:
        """Give another that can be changed alone."""
        return Draft.of(self.columns, self.used)

    @property
    def objective(self) -> float:
        """What it counts."""
        at = np.flatnonzero(self.used)
        return float(self.columns.cost[at] @ self.used[at] + self.columns.penalty @ self.unplaced)

    def put(self, column: int, times: int = 1) -> None:
        """Place so many endpoints of the column's group in it; take them out where ``times`` is negative."""
        columns = self.columns
        group = columns.group[column]
        self.used[column] += times
        self.unplaced[group] -= times
        self.room[columns.pool[column]] -= columns.units[column] * times
        if columns.quota[group] >= 0:
            self.quota_room[columns.quota[group]] -= columns.gpus[column] * times

    def fits(self, at: Integers | slice) -> Mask:
        """Say which of these columns would fit once more."""
        columns = self.columns
        fit: Mask = (columns.units[at] <= self.room[columns.pool[at]]).all(axis=1)
        if len(self.quota_room):
            left = np.append(self.quota_room, np.iinfo(np.int64).max)
            fit &= columns.gpus[at] <= left[columns.quota[columns.group[at]]]
        return fit

    def cheapest(self, group: int, values: Floats) -> tuple[int, float, float] | None:
        """Give the fitting column of least value, that value and the next, infinite where there is none."""
        of_group = self.columns.of_group(group)
        fitting = np.flatnonzero(self.fits(of_group)) + of_group.start
        if not len(fitting):
            return None
        found = values[fitting]
        best = int(found.argmin())
        first = float(found[best])
        found[best] = np.inf
        return int(fitting[best]), first, float(found.min())
