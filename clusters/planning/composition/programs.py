"""The linear form of Jiang et al. (arXiv 2502.00722, section 4), one program for any number of models.

With lam the multiple of the demand served per second and u_cw the copies' worth of configuration c busy with
workload w, ``sum_c h_cw u_cw = f_w lam`` and ``sum_w u_cw <= y_c`` with whole y_c under budget and stock. Their
makespan is 1 / lam: the paper's products of assignment and copies, and its search over the makespan, fall away.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

import numpy as np

from clusters.planning.composition.fleet import MOST
from clusters.planning.composition.tables import Counts, Table
from clusters.planning.milp import INFINITY, Floats, Program, Solution

#: A configuration that takes so many times longer for a workload than the hardest one lasts has no part in it.
_HOPELESS: Final = 1e6


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Draft:
    """A solved program: ``counts`` are the copies of each table's configurations, None without a solution.

    ``stock_prices`` is what one more GPU of each type would save, from a relaxed program's duals.
    """

    solution: Solution
    counts: tuple[Counts, ...] | None
    stock_prices: Floats


def draft(
    tables: Sequence[Table],
    *,
    prices: Floats,
    stock: Floats,
    budget: float | None = None,
    fastest: bool = False,
    relaxed: bool = False,
    time_limit_s: float = INFINITY,
    gap: float = 1e-6,
    start: Sequence[Counts] | None = None,
) -> Draft:
    """Find the cheapest copies that serve the demand, or with ``fastest`` those that serve most of it per second.

    ``start`` are copies that serve it. The objective of the fastest is in units of the demand's sum. A workload
    that no copy would serve makes both infeasible.
    """
    program = Program(maximise=fastest)
    total = sum(float(table.demand.sum()) for table in tables)
    pace = program.variables(1, cost=1.0) if fastest else None
    copies = []
    for table in tables:
        own = table.gpus @ prices
        most = _most_copies(table, prices=prices, stock=stock, budget=budget, fastest=fastest)
        counts = program.variables(len(own), cost=0.0 if fastest else own, upper=most, integer=not relaxed)
        copies.append(counts)
        if pace is None:
            _serve(program, table, counts)
        else:
            _serve_at(program, table, counts, int(pace[0]), total)
    everything = np.concatenate(copies)
    gpus = np.concatenate([table.gpus for table in tables])
    if budget is not None:
        program.row(everything, gpus @ prices, upper=budget)
    bounded = [at for at in range(len(stock)) if stock[at] < INFINITY]
    limits = []
    for at in bounded:
        users = gpus[:, at] > 0
        limits.append(program.row(everything[users], gpus[users, at], upper=float(stock[at])))
    begin = (everything, np.concatenate(start)) if start is not None else None
    solution = program.solve(time_limit_s=time_limit_s, gap=gap, start=begin)
    stock_prices = np.zeros(len(stock))
    if len(solution.duals):
        stock_prices[bounded] = np.maximum(0.0, -solution.duals[limits])
    found = None
    if solution.is_found and not relaxed:
        found = tuple(np.rint(solution.values[each]).astype(np.int64) for each in copies)
    return Draft(solution=solution, counts=found, stock_prices=stock_prices)


def served(table: Table, counts: Counts) -> tuple[float, Floats]:
    """Give the largest multiple of the demand that ``counts`` serve each second, and the shares (C x W) doing so.

    With the copies fixed the makespan is linear in the shares: the least T with ``sum_w (f_w / h_cw) x_cw <= y_c T``.
    """
    shares = np.zeros(table.rates.shape)
    with np.errstate(divide="ignore"):
        alone = table.demand / (
            table.rates * counts[:, None]
        )  # seconds of all of a workload on one configuration
    hardest = float(alone.min(axis=0).max())
    if not np.isfinite(hardest):
        return 0.0, shares
    row, column = np.nonzero(alone < hardest * _HOPELESS)
    program = Program()
    longest = program.variables(1, cost=1.0)
    share = program.variables(len(row))
    program.rows(len(table.demand), column, share, 1.0, lower=1.0, upper=1.0)
    everyone = np.arange(len(counts))
    program.rows(
        len(counts),
        np.concatenate([row, everyone]),
        np.concatenate([share, np.repeat(longest, len(counts))]),
        np.concatenate([alone[row, column] / hardest, -np.ones(len(counts))]),
        upper=0.0,
    )
    shares[row, column] = np.maximum(0.0, program.solve().values[share])
    shares /= shares.sum(axis=0)
    seconds = np.where(shares > 0, shares * np.where(shares > 0, alone, 0.0), 0.0).sum(axis=1).max()
    return 1 / float(seconds), shares


def _serve(program: Program, table: Table, copies: Counts) -> None:
    """Serve the demand: in shares, which keep their size however small a workload is.

    What would take more than a billion copies serves nothing.
    """
    row, column = np.nonzero(table.rates * MOST >= table.demand)
    share = program.variables(len(row))
    need = table.demand[column] / table.rates[row, column]
    program.rows(len(table.demand), column, share, 1.0, lower=1.0, upper=1.0)
    _divide_time(program, row, share, need, copies)
    # A copy that could serve all of a workload in part of its time is still a whole copy: share <= copies,
    # which brings the relaxation nearer to the whole numbers.
    loose = np.flatnonzero(need < 1)
    each = np.arange(len(loose))
    program.rows(
        len(loose),
        np.concatenate([each, each]),
        np.concatenate([share[loose], copies[row[loose]]]),
        np.concatenate([np.ones(len(loose)), -np.ones(len(loose))]),
        upper=0.0,
    )


def _serve_at(program: Program, table: Table, copies: Counts, pace: int, total: float) -> None:
    """Serve the demand's parts of ``total`` at a common pace, in parts of each workload's fastest rate."""
    row, column = np.nonzero(table.rates)
    busy = program.variables(len(row))
    rate, fastest = table.rates[row, column], table.rates.max(axis=0)
    each = np.arange(len(fastest))
    program.rows(
        len(fastest),
        np.concatenate([column, each]),
        np.concatenate([busy, np.full(len(fastest), pace)]),
        np.concatenate([rate / fastest[column], -table.demand / total / fastest]),
        lower=0.0,
        upper=0.0,
    )
    _divide_time(program, row, busy, np.ones(len(row)), copies)
    program.rows(len(fastest), column, copies[row], 1.0, lower=1.0)


def _divide_time(program: Program, row: Counts, served: Counts, need: Floats, copies: Counts) -> None:
    """Let nobody be busier than there are copies."""
    everyone = np.arange(len(copies))
    program.rows(
        len(copies),
        np.concatenate([row, everyone]),
        np.concatenate([served, copies]),
        np.concatenate([need, -np.ones(len(copies))]),
        upper=0.0,
    )


def _most_copies(
    table: Table, *, prices: Floats, stock: Floats, budget: float | None, fastest: bool
) -> Floats:
    """Copies of each configuration beyond which there is no use, no stock or no money."""
    with np.errstate(divide="ignore", invalid="ignore"):
        most = np.where(table.gpus > 0, stock / np.maximum(table.gpus, 1), INFINITY).min(
            axis=1, initial=INFINITY
        )
        if budget is not None:
            own = table.gpus @ prices
            most = np.minimum(most, np.where(own > 0, budget / np.where(own > 0, own, 1.0), INFINITY))
        if not fastest:
            alone = np.where(table.rates > 0, table.demand / np.where(table.rates > 0, table.rates, 1.0), 0.0)
            most = np.minimum(most, np.ceil(alone.sum(axis=1)))
    whole: Floats = np.floor(most + 1e-9)
    return whole
