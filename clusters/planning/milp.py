"""Linear and mixed-integer programs, solved by HiGHS in one thread.

``placement.linear`` is the other module that imports highspy, for programs that grow. ortools bundles another HiGHS,
and the two cannot live in one process.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Sequence
from typing import Final

import highspy
import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

INFINITY: Final = math.inf

_SOLVED: Final = (highspy.HighsModelStatus.kOptimal, highspy.HighsModelStatus.kModelEmpty)
_STOPPED: Final = (
    highspy.HighsModelStatus.kTimeLimit,
    highspy.HighsModelStatus.kIterationLimit,
    highspy.HighsModelStatus.kSolutionLimit,
    highspy.HighsModelStatus.kInterrupt,
)
_INFEASIBLE: Final = (
    highspy.HighsModelStatus.kInfeasible,
    highspy.HighsModelStatus.kUnboundedOrInfeasible,
)


class Status(enum.StrEnum):
    """How a solve ended. ``FEASIBLE`` has values that are not proven best, ``UNKNOWN`` has none.

    An integer program that is unbounded may be called infeasible: HiGHS does not always tell the two apart.
    """

    OPTIMAL = "optimal"
    FEASIBLE = "feasible"
    INFEASIBLE = "infeasible"
    UNBOUNDED = "unbounded"
    UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Solution:
    """What a solve found. ``bound`` is what no solution beats.

    ``values`` are of the variables, ``duals`` of the rows and ``reduced_costs`` of the variables, each the change
    of the objective per unit of its bound; both are empty for a mixed-integer program, all three without a solution.
    """

    status: Status
    objective: float
    bound: float
    values: Floats
    duals: Floats
    reduced_costs: Floats

    @property
    def is_found(self) -> bool:
        """Whether there are values."""
        return self.status in (Status.OPTIMAL, Status.FEASIBLE)

    @property
    def gap(self) -> float:
        """Distance of the objective to the bound over the objective; infinite without a solution or a bound."""
        if not self.is_found or not math.isfinite(self.bound):
            return math.inf
        distance = abs(self.objective - self.bound)
        return distance / max(abs(self.objective), 1e-12) if distance > 0 else 0.0


class _Solver(highspy.Highs):
    """HiGHS without callbacks: the base class enables them, which prints a banner before output can be off."""

    def __init__(self) -> None:
        super(highspy.Highs, self).__init__()


class Program:
    """A program under construction: add variables, add rows, solve, as often as wanted."""

    def __init__(self, *, maximise: bool = False) -> None:
        self._maximise = maximise
        self._variables = 0
        self._rows = 0
        self._costs: list[Floats] = []
        self._lower: list[Floats] = []
        self._upper: list[Floats] = []
        self._integer: list[NDArray[np.bool_]] = []
        self._row_lower: list[Floats] = []
        self._row_upper: list[Floats] = []
        self._entries: list[tuple[Indices, Indices, Floats]] = []

    def variables(
        self,
        count: int,
        *,
        cost: ArrayLike = 0.0,
        lower: ArrayLike = 0.0,
        upper: ArrayLike = INFINITY,
        integer: bool = False,
    ) -> Indices:
        """Add ``count`` variables; the numbers are one for all or one for each. Give their columns."""
        first = self._variables
        self._variables += count
        self._costs.append(_spread(cost, count))
        self._lower.append(_spread(lower, count))
        self._upper.append(_spread(upper, count))
        self._integer.append(np.full(count, integer))
        return np.arange(first, first + count, dtype=np.int64)

    def row(
        self,
        columns: Sequence[int] | Indices,
        coefficients: ArrayLike,
        *,
        lower: float = -INFINITY,
        upper: float = INFINITY,
    ) -> int:
        """Add one row, ``lower <= coefficients . columns <= upper``; give its number."""
        at = np.asarray(columns, dtype=np.int64)
        added = self.rows(1, np.zeros(len(at), np.int64), at, coefficients, lower=lower, upper=upper)
        return int(added[0])

    def rows(
        self,
        count: int,
        row: Indices,
        column: Indices,
        coefficient: ArrayLike,
        *,
        lower: ArrayLike = -INFINITY,
        upper: ArrayLike = INFINITY,
    ) -> Indices:
        """Add ``count`` rows from entries (row from 0, column, coefficient), none of them twice; give their numbers."""
        first = self._rows
        self._rows += count
        entries = _spread(coefficient, len(column))
        self._entries.append((np.asarray(row, np.int64) + first, np.asarray(column, np.int64), entries))
        self._row_lower.append(_spread(lower, count))
        self._row_upper.append(_spread(upper, count))
        return np.arange(first, first + count, dtype=np.int64)

    def solve(
        self,
        *,
        time_limit_s: float = INFINITY,
        gap: float = 1e-6,
        relaxed: bool = False,
        start: tuple[Indices, ArrayLike] | None = None,
    ) -> Solution:
        """Solve; ``relaxed`` forgets which variables are integer.

        ``start`` has columns and their values to begin from: all integer ones, or HiGHS searches for the rest.

        Raises:
            ValueError: an entry is beyond 1e15, or a bound is no number.
        """
        model = self._model(relaxed=relaxed)
        solver = _Solver()
        solver.setOptionValue("output_flag", False)
        solver.setOptionValue("threads", 1)
        solver.setOptionValue("random_seed", 0)
        solver.setOptionValue("time_limit", max(0.0, time_limit_s))
        solver.setOptionValue("mip_rel_gap", gap)
        solver.setOptionValue("mip_feasibility_tolerance", 1e-7)
        if solver.passModel(model) == highspy.HighsStatus.kError:
            raise ValueError("the program has numbers that HiGHS refuses")
        whole = bool(model.integrality_)
        if start is not None and whole:
            columns, values = start
            solver.setSolution(len(columns), columns.astype(np.int32), _spread(values, len(columns)))
        solver.run()
        return self._solution(solver, whole=whole)

    def _solution(self, solver: highspy.Highs, *, whole: bool) -> Solution:
        status, info = solver.getModelStatus(), solver.getInfo()
        found = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
        none = np.empty(0)
        worst = -INFINITY if self._maximise else INFINITY
        done = status in _SOLVED
        if done or (status in _STOPPED and found):
            solved = solver.getSolution()
            objective = float(info.objective_function_value)
            best = float(info.mip_dual_bound) if whole else objective if done else -worst
            return Solution(
                status=Status.OPTIMAL if done else Status.FEASIBLE,
                objective=objective,
                bound=best,
                values=np.array(solved.col_value),
                duals=none if whole else np.array(solved.row_dual),
                reduced_costs=none if whole else np.array(solved.col_dual),
            )
        if status in _INFEASIBLE:
            ended, bound = Status.INFEASIBLE, worst
        elif status == highspy.HighsModelStatus.kUnbounded:
            ended, bound = Status.UNBOUNDED, -worst
        else:
            ended = Status.UNKNOWN
            bound = float(info.mip_dual_bound) if whole and status in _STOPPED else -worst
        return Solution(
            status=ended, objective=worst, bound=bound, values=none, duals=none, reduced_costs=none
        )

    def _model(self, *, relaxed: bool) -> highspy.HighsLp:
        row, column, value = (
            np.concatenate([entry[part] for entry in self._entries]) if self._entries else np.empty(0)
            for part in range(3)
        )
        order = np.lexsort((row, column))
        starts = np.searchsorted(column[order], np.arange(self._variables + 1))
        model = highspy.HighsLp()
        model.num_col_ = self._variables
        model.num_row_ = self._rows
        model.sense_ = highspy.ObjSense.kMaximize if self._maximise else highspy.ObjSense.kMinimize
        model.col_cost_ = _joined(self._costs)
        model.col_lower_ = _joined(self._lower)
        model.col_upper_ = _joined(self._upper)
        model.row_lower_ = _joined(self._row_lower)
        model.row_upper_ = _joined(self._row_upper)
        model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        model.a_matrix_.start_ = starts.astype(np.int32)
        model.a_matrix_.index_ = row[order].astype(np.int32)
        model.a_matrix_.value_ = value[order].astype(np.float64)
        if not relaxed and any(kind.any() for kind in self._integer):
            kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
            model.integrality_ = [kinds[int(whole)] for whole in np.concatenate(self._integer)]
        return model


def _spread(numbers: ArrayLike, count: int) -> Floats:
    """Give one number for each of ``count``."""
    return np.broadcast_to(np.asarray(numbers, np.float64), (count,))


def _joined(parts: list[Floats]) -> Floats:
    return np.concatenate(parts) if parts else np.empty(0)
