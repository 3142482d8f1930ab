"""Copies in arrays become a fleet in names; what stands in the way of one becomes words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

import numpy as np

from clusters.planning.composition.fleet import (
    Assignment,
    Copies,
    Fleet,
    FleetProblem,
    FleetStatus,
    Goal,
)
from clusters.planning.composition.programs import draft, served
from clusters.planning.composition.tables import Counts, Market, Table

#: Shares below this are the solver's rounding.
ROUNDING: Final = 1e-7


def fleet_of(
    problem: FleetProblem, goal: Goal, tables: Sequence[Table], counts: Sequence[Counts], seconds: float
) -> Fleet:
    """Name the copies, who serves what, what it costs and what stays in stock."""
    copies, assignments, used, rates = [], [], dict[str, int](), []
    for table, own in zip(tables, counts, strict=True):
        rate, shares = served(table, own)
        rates.append(rate)
        for row in np.flatnonzero(own):
            each, count = table.configurations[row], int(own[row])
            copies.append(
                Copies(configuration=each.name, count=count, price_per_hour=problem.price(each) * count)
            )
            for gpu, needed in each.gpus.items():
                used[gpu] = used.get(gpu, 0) + needed * count
            assignments += [
                Assignment(model=table.model.name, workload=name, configuration=each.name, share=float(share))
                for name, share in zip(table.workloads, shares[row], strict=True)
                if share > ROUNDING
            ]
    rate = min(rates)
    return Fleet(
        goal=goal,
        status=FleetStatus.FEASIBLE,
        message="",
        copies=tuple(copies),
        assignments=tuple(assignments),
        rate=rate,
        makespan_s=1 / rate if rate > 0 else None,
        cost_per_hour=sum((each.price_per_hour for each in copies), Decimal(0)),
        gpus_left=_left(problem, used),
        seconds=seconds,
    )


def judged(fleet: Fleet, *, bound: float | None, gap: float | None, best: bool) -> Fleet:
    """Say how good it is."""
    if best:
        status, message = FleetStatus.OPTIMAL, "no fleet is better"
    else:
        status = FleetStatus.FEASIBLE
        message = (
            "nothing is known of better ones" if gap is None else f"none is better by more than {gap:.2%}"
        )
    return dataclasses.replace(fleet, status=status, message=message, bound=bound, gap=gap)


def none(
    problem: FleetProblem,
    goal: Goal,
    message: str,
    *,
    excluded: bool = False,
    bound: float | None = None,
    seconds: float = 0.0,
) -> Fleet:
    """Say why there is no fleet; ``excluded`` where that is proven."""
    return Fleet(
        goal=goal,
        status=FleetStatus.INFEASIBLE if excluded else FleetStatus.NOT_FOUND,
        message=message,
        bound=bound,
        gpus_left=_left(problem, {}),
        seconds=seconds,
    )


def without_search(problem: FleetProblem, goal: Goal, tables: Sequence[Table]) -> Fleet | None:
    """Answer what needs no search: nothing is asked, or something that no configuration serves."""
    if not tables:
        return Fleet(
            goal=goal,
            status=FleetStatus.OPTIMAL,
            message="nothing is asked for",
            gap=0.0,
            gpus_left=_left(problem, {}),
        )
    for table in tables:
        if workload := table.unserved():
            return none(
                problem, goal, f"no configuration serves {workload} of {table.model.name}", excluded=True
            )
    return None


def short_stock(tables: Sequence[Table], market: Market) -> str:
    """Say how much of the demand the stock serves, budget aside."""
    if (market.stock < np.inf).all():
        most = draft(tables, prices=market.prices, stock=market.stock, fastest=True, relaxed=True).solution
        share = most.objective / sum(float(table.demand.sum()) for table in tables)
        if not most.is_found:
            return "the stock has no replicas for every workload"
        if share < 1:
            return f"the stock serves at most {share:.1%} of the demand"
    return "whole replicas from this stock do not serve the demand"


def _left(problem: FleetProblem, used: Mapping[str, int]) -> dict[str, int]:
    return {
        offer.name: offer.stock - used.get(offer.name, 0) for offer in problem.gpus if offer.stock is not None
    }
