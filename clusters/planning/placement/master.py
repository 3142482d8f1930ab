"""The fleet as a linear program over a part of its columns, with the duals as prices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clusters.planning.placement.bounds import Cut, Prices
from clusters.planning.placement.columns import Columns, Floats, Integers
from clusters.planning.placement.linear import Entries, GrowingProgram


class Master:
    """Minimise cost and penalties over the columns ``chosen``, in ``share`` of the room.

    Rows: each group is placed or unplaced; the pieces of each pool; the quotas; then cuts as they come. The
    program's columns are first what is unplaced of each group, then the chosen ones.
    """

    def __init__(self, columns: Columns, chosen: Integers, *, share: float = 1.0) -> None:
        self.columns = columns
        self.chosen = np.zeros(0, np.int64)
        self.cuts: list[Cut] = []
        self.unplaced_weight = 0.0
        self._groups = len(columns.count)
        needed = columns.rows_needed
        self._row_of = np.full(needed.shape, -1, np.int64)
        self._row_of[needed] = self._groups + np.arange(needed.sum())
        self._quota_row = self._groups + int(needed.sum())
        upper = np.concatenate([columns.count, columns.grid.room[needed] * share, columns.quota_room * share])
        lower = np.concatenate([columns.count, np.full(len(upper) - self._groups, -np.inf)])
        self._rows = len(upper)
        self._cut_rows: list[int] = []
        self._unplaced_row: int | None = None
        self.program = GrowingProgram(lower, upper)
        every = np.arange(self._groups)
        self.program.add_columns(
            columns.penalty, columns.count.astype(np.float64), Entries(every, every, np.ones(self._groups))
        )
        self.add(chosen)

    def add(self, chosen: Integers) -> None:
        """Add columns."""
        columns, number = self.columns, np.arange(len(chosen))
        group = columns.group[chosen]
        units = columns.units[chosen]
        rows = self._row_of[columns.pool[chosen]]
        line, size = np.nonzero((units > 0) & (rows >= 0))
        parts = [
            Entries(number, group, np.ones(len(chosen))),
            Entries(line, rows[line, size], units[line, size].astype(np.float64)),
        ]
        under = np.flatnonzero(columns.quota[group] >= 0)
        parts.append(
            Entries(
                under,
                self._quota_row + columns.quota[group[under]],
                columns.gpus[chosen[under]].astype(np.float64),
            )
        )
        if self.cuts:
            place = np.full(len(columns), -1, np.int64)
            place[chosen] = number
            parts += [
                Entries(place[at], np.full(len(at), row), counts.astype(np.float64))
                for row, cut in zip(self._cut_rows, self.cuts, strict=True)
                for at, counts in [_among(cut, columns, place)]
            ]
        self.program.add_columns(
            columns.cost[chosen], columns.count[group].astype(np.float64), Entries.joined(parts)
        )
        self.chosen = np.concatenate([self.chosen, chosen])

    def keep(self, columns: Integers) -> None:
        """Drop all chosen columns but these and those that are used."""
        kept = np.isin(self.chosen, columns) | (self.placed > 0)
        self.program.drop_columns(np.flatnonzero(~kept) + self._groups)
        self.chosen = self.chosen[kept]

    def add_cuts(self, cuts: Sequence[Cut]) -> None:
        """Add rounded rows."""
        place = np.full(len(self.columns), -1, np.int64)
        place[self.chosen] = self._groups + np.arange(len(self.chosen))
        found = [_among(cut, self.columns, place) for cut in cuts]
        self.program.add_rows(
            np.full(len(cuts), -np.inf),
            np.array([cut.room(self.columns) for cut in cuts], np.float64),
            Entries.joined(
                [
                    Entries(np.full(len(at), number), place[at], counts.astype(np.float64))
                    for number, (at, counts) in enumerate(found)
                ]
            ),
        )
        self.cuts += cuts
        self._cut_rows += range(self._rows, self._rows + len(cuts))
        self._rows += len(cuts)

    def require_unplaced(self, weight: float) -> None:
        """Add the row that this much weight stays unplaced."""
        every = np.arange(self._groups)
        self.program.add_rows(
            np.array([weight]),
            np.array([np.inf]),
            Entries(np.zeros(self._groups, np.int64), every, self.columns.weight),
        )
        self.unplaced_weight = weight
        self._unplaced_row = self._rows
        self._rows += 1

    def count_unplaced(self, *, only: bool) -> None:
        """Minimise the unplaced weight only, or cost and penalties again."""
        cost, penalty = self.columns.cost[self.chosen], self.columns.penalty
        self.program.set_costs(
            np.concatenate([self.columns.weight, np.zeros(len(cost))])
            if only
            else np.concatenate([penalty, cost])
        )

    def prices(self) -> Prices:
        """Give the duals, those of the wrong sign as 0."""
        duals = self.program.duals
        room = np.zeros(self._row_of.shape)
        some = self._row_of >= 0
        room[some] = np.maximum(0.0, -duals[self._row_of[some]])
        quota = np.maximum(0.0, -duals[self._quota_row : self._quota_row + len(self.columns.quota_room)])
        cuts = [(cut, float(-duals[row])) for row, cut in zip(self._cut_rows, self.cuts, strict=True)]
        unplaced = 0.0 if self._unplaced_row is None else max(0.0, float(duals[self._unplaced_row]))
        return Prices(room, quota, tuple(each for each in cuts if each[1] > 0), unplaced)

    @property
    def group_duals(self) -> Floats:
        """What one more endpoint of each group would count."""
        return self.program.duals[: self._groups]

    @property
    def placed(self) -> Floats:
        """How much of each chosen column is used."""
        return self.program.values[self._groups :]

    @property
    def unplaced(self) -> Floats:
        """How much of each group is unplaced."""
        return self.program.values[: self._groups]

    def solve(self, limit_s: float, *, primal: bool = False) -> bool:
        """Solve; say whether the optimum was reached."""
        return self.program.solve(limit_s, primal=primal)

    def free_columns(self) -> None:
        """Forget all changes of bounds."""
        every = np.arange(len(self.chosen))
        most = self.columns.count[self.columns.group[self.chosen]].astype(np.float64)
        self.bound_columns(every, np.zeros(len(every)), most)

    def bound_columns(self, at: Integers, lower: Floats, upper: Floats) -> None:
        """Change the bounds of chosen columns, by their places in ``chosen``."""
        self.program.set_bounds(at + self._groups, lower, upper)


def _among(cut: Cut, columns: Columns, place: Integers) -> tuple[Integers, Integers]:
    """Give the columns of a cut that have a place, and how much each counts."""
    at, counts = cut.columns(columns)
    some = place[at] >= 0
    return at[some], counts[some]
