"""Programs and how their solving ends."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from clusters.planning.milp import Program, Status


def knapsack(*, maximise: bool = True) -> Program:
    program = Program(maximise=maximise)
    items = program.variables(2, cost=[1, 2], upper=3, integer=True)
    program.row(items, [1, 1.5], upper=4)
    return program


def test_whole_numbers_and_their_relaxation() -> None:
    whole = knapsack().solve()
    assert (whole.status, whole.objective, whole.gap) == (Status.OPTIMAL, 5, 0)
    assert whole.values.tolist() == [1, 2]
    assert whole.duals.size == 0
    relaxed = knapsack().solve(relaxed=True)
    assert relaxed.objective == pytest.approx(16 / 3)
    assert relaxed.duals == pytest.approx([4 / 3])


def test_rows_come_from_entries_in_any_order() -> None:
    program = Program()
    columns = program.variables(3, cost=1)
    rows = program.rows(2, np.array([1, 0, 1]), columns[[2, 0, 1]], [1.0, 2.0, 1.0], lower=[4.0, 3.0])
    solution = program.solve()
    assert rows.tolist() == [0, 1]
    assert solution.objective == pytest.approx(5)
    assert solution.values[0] == pytest.approx(2)


def test_a_start_is_taken_where_there_is_no_time() -> None:
    program = knapsack()
    solution = program.solve(start=(np.array([0, 1]), [3, 0]), time_limit_s=0)
    assert solution.is_found
    assert solution.objective >= 3


def test_what_cannot_be_solved_is_told() -> None:
    program = knapsack()
    program.row([0, 1], [1, 1], lower=10)
    assert program.solve().status is Status.INFEASIBLE
    assert program.solve(relaxed=True).status is Status.INFEASIBLE
    unbounded = Program(maximise=True)
    unbounded.variables(1, cost=1)
    assert unbounded.solve().status is Status.UNBOUNDED
    assert not unbounded.solve().is_found
    assert math.isinf(unbounded.solve().gap)
    assert Program().solve().status is Status.OPTIMAL


def test_nothing_is_printed() -> None:
    code = "from clusters.planning.milp import Program; p = Program(); p.variables(2, cost=1, integer=True); p.solve()"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert shown.stdout == ""
