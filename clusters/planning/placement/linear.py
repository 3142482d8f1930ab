"""A linear program that grows, and is solved again from where it stood (HiGHS, one thread)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import highspy
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

#: ``simplex_strategy`` of HiGHS.
_DUAL, _PRIMAL = 1, 4


@dataclasses.dataclass(frozen=True, eq=False)
class Entries:
    """Nonzeros of added columns or rows: ``line`` counts those that are added, ``across`` names the others."""

    line: Integers
    across: Integers
    value: Floats

    @classmethod
    def joined(cls, parts: Sequence[Entries]) -> Entries:
        """Put nonzeros together."""
        return cls(
            np.concatenate([part.line for part in parts]) if parts else np.zeros(0, np.int64),
            np.concatenate([part.across for part in parts]) if parts else np.zeros(0, np.int64),
            np.concatenate([part.value for part in parts]) if parts else np.zeros(0),
        )

    def packed(self, lines: int) -> tuple[NDArray[np.int32], NDArray[np.int32], Floats]:
        """Give where each line starts, and the nonzeros in the order of the lines."""
        order = np.argsort(self.line, kind="stable")
        starts = np.searchsorted(self.line[order], np.arange(lines))
        return starts.astype(np.int32), self.across[order].astype(np.int32), self.value[order]


class _Solver(highspy.Highs):
    """HiGHS without callbacks: the base class enables them, which prints a banner before output can be off."""

    def __init__(self) -> None:
        super(highspy.Highs, self).__init__()


class GrowingProgram:
    """Minimise; every column is at least 0.

    ``values``, ``duals`` and ``objective`` are of the last solve that left any; ``duals`` tell what the objective
    changes per unit of a row's bound.
    """

    def __init__(self, lower: Floats, upper: Floats) -> None:
        self._solver = _Solver()
        self._solver.setOptionValue("output_flag", False)
        self._solver.setOptionValue("threads", 1)
        self._solver.setOptionValue("solver", "simplex")
        none = np.zeros(0, np.int32)
        self._solver.addRows(len(lower), lower, upper, 0, np.zeros(len(lower), np.int32), none, np.zeros(0))
        self.values = np.zeros(0)
        self.duals = np.zeros(len(lower))
        self.objective = np.inf

    def add_columns(self, cost: Floats, upper: Floats, entries: Entries) -> None:
        """Add columns; ``entries`` has their coefficients in the rows."""
        starts, rows, values = entries.packed(len(cost))
        self._solver.addCols(len(cost), cost, np.zeros(len(cost)), upper, len(rows), starts, rows, values)

    def add_rows(self, lower: Floats, upper: Floats, entries: Entries) -> None:
        """Add rows; ``entries`` has their coefficients in the columns."""
        starts, columns, values = entries.packed(len(lower))
        self._solver.addRows(len(lower), lower, upper, len(columns), starts, columns, values)

    def drop_columns(self, columns: Integers) -> None:
        """Drop columns; solve again before reading values."""
        if len(columns):
            self._solver.deleteCols(len(columns), columns.astype(np.int32))

    def set_bounds(self, columns: Integers, lower: Floats, upper: Floats) -> None:
        """Change the bounds of columns."""
        if len(columns):
            self._solver.changeColsBounds(len(columns), columns.astype(np.int32), lower, upper)

    def set_costs(self, cost: Floats) -> None:
        """Change all costs."""
        self._solver.changeColsCost(len(cost), np.arange(len(cost), dtype=np.int32), cost)

    def solve(self, limit_s: float, *, primal: bool = False) -> bool:
        """Solve; say whether the optimum was reached. ``primal`` suits new columns and costs, its opposite
        new rows and bounds."""
        if limit_s <= 0:
            return False
        self._solver.setOptionValue("simplex_strategy", _PRIMAL if primal else _DUAL)
        # The limit is of all runs together.
        self._solver.setOptionValue("time_limit", self._solver.getRunTime() + float(limit_s))
        self._solver.run()
        solution = self._solver.getSolution()
        if solution.value_valid:
            self.values = np.array(solution.col_value)
            self.objective = float(self._solver.getInfo().objective_function_value)
        if solution.dual_valid:
            self.duals = np.array(solution.row_dual)
        return bool(self._solver.getModelStatus() == highspy.HighsModelStatus.kOptimal)
