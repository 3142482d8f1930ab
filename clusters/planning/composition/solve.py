"""The best fleet for a problem: soonest done, highest rate, or least cost; and the best of one GPU type."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from typing import Final

from clusters.planning.composition import answers
from clusters.planning.composition.fleet import Fleet, FleetProblem, FleetStatus, Goal
from clusters.planning.composition.programs import draft, served
from clusters.planning.composition.stock_prices import compose, cost
from clusters.planning.composition.tables import Counts, Market, Table, market_of, tables_of
from clusters.planning.milp import Status
from clusters.planning.problem import ProblemError

#: Models up to which one program has them all; more are composed one by one at stock prices.
WHOLE_MODELS: Final = 2

TOO_LITTLE: Final = "budget and stock do not allow replicas for every workload"
TOO_LITTLE_TIME: Final = "no fleet was found in the time given, and none was excluded"

TOO_FAR_APART: Final = "the numbers are too far apart for the solver to find a fleet that serves everything"

#: Share of a demand that may go unserved by the solver's rounding.
SERVED: Final = 1e-5

#: Rates tried between none and the relaxed program's when many models are to be served as fast as can be.
HALVINGS: Final = 8


def solve(problem: FleetProblem, goal: Goal, *, time_limit_s: float = 60.0, gap: float = 1e-4) -> Fleet:
    """Find the best fleet for ``goal`` within ``gap`` of the bound, or the best that the time allows.

    Raises:
        ProblemError: neither money nor stock limits a fleet that is to be as fast as can be.
    """
    match goal:
        case Goal.LEAST_COST:
            return least_cost(problem, time_limit_s=time_limit_s, gap=gap)
        case Goal.LARGEST_RATE:
            return largest_rate(problem, time_limit_s=time_limit_s, gap=gap)
        case Goal.SHORTEST_MAKESPAN:
            return shortest_makespan(problem, time_limit_s=time_limit_s, gap=gap)


def shortest_makespan(problem: FleetProblem, *, time_limit_s: float = 60.0, gap: float = 1e-4) -> Fleet:
    """Find the fleet within budget and stock that is done with all requests soonest; as :func:`solve`."""
    fleet = largest_rate(problem, time_limit_s=time_limit_s, gap=gap)
    if fleet.rate is None and fleet.is_found:
        return dataclasses.replace(fleet, goal=Goal.SHORTEST_MAKESPAN, makespan_s=0.0, bound=0.0)
    bound = 1 / fleet.bound if fleet.bound else None
    gap_left = None
    if fleet.makespan_s is not None and bound is not None:
        gap_left = max(0.0, 1 - bound / fleet.makespan_s)
    return dataclasses.replace(fleet, goal=Goal.SHORTEST_MAKESPAN, bound=bound, gap=gap_left)


def largest_rate(problem: FleetProblem, *, time_limit_s: float = 60.0, gap: float = 1e-4) -> Fleet:
    """Find the fleet within budget and stock that serves the mix at the highest rate; as :func:`solve`."""
    begun = time.monotonic()
    _check_limited(problem)
    market, tables = market_of(problem), tables_of(problem)
    if (early := answers.without_search(problem, Goal.LARGEST_RATE, tables)) is not None:
        return early
    budget = None if problem.budget_per_hour is None else float(problem.budget_per_hour)
    if len(tables) <= WHOLE_MODELS:
        answer = draft(
            tables, prices=market.prices, stock=market.stock, budget=budget, fastest=True,
            time_limit_s=time_limit_s, gap=gap,
        )  # fmt: skip
        total = sum(float(table.demand.sum()) for table in tables)
        counts, status = answer.counts, answer.solution.status
        bound = answer.solution.bound / total if math.isfinite(answer.solution.bound) else None
        proven, excluded = status is Status.OPTIMAL, status is Status.INFEASIBLE
    else:
        counts, bound, excluded = _fastest_of_many(tables, market, budget, begun + time_limit_s, gap)
        proven = False
    spent = time.monotonic() - begun
    fleet = None if counts is None else answers.fleet_of(problem, Goal.LARGEST_RATE, tables, counts, spent)
    if fleet is not None and fleet.rate:
        bound = None if bound is None else max(bound, fleet.rate)
        left = None if bound is None else 1 - fleet.rate / bound
        return answers.judged(fleet, bound=bound, gap=left, best=proven or (left is not None and left <= gap))
    if fleet is not None:
        return answers.none(problem, Goal.LARGEST_RATE, TOO_FAR_APART, seconds=spent)
    words = TOO_LITTLE if excluded else TOO_LITTLE_TIME
    return answers.none(problem, Goal.LARGEST_RATE, words, excluded=excluded, bound=bound, seconds=spent)


def least_cost(problem: FleetProblem, *, time_limit_s: float = 60.0, gap: float = 1e-4) -> Fleet:
    """Find the cheapest fleet that serves every workload at the rate its demand says; as :func:`solve`."""
    begun = time.monotonic()
    market, tables = market_of(problem), tables_of(problem)
    if (early := answers.without_search(problem, Goal.LEAST_COST, tables)) is not None:
        return early
    deadline, composed = begun + time_limit_s, None
    if len(tables) > WHOLE_MODELS:
        composed = compose(tables, prices=market.prices, stock=market.stock, deadline=deadline, gap=gap)
    if composed is not None and (composed.counts is not None or composed.infeasible):
        counts, bound, excluded, proven = composed.counts, composed.bound, composed.infeasible, False
    else:
        left = max(0.0, deadline - time.monotonic())
        answer = draft(tables, prices=market.prices, stock=market.stock, time_limit_s=left, gap=gap)
        counts, status = answer.counts, answer.solution.status
        bound = max(0.0, answer.solution.bound, 0.0 if composed is None else composed.bound)
        proven, excluded = status is Status.OPTIMAL, status is Status.INFEASIBLE
    spent = time.monotonic() - begun
    if counts is None:
        words = answers.short_stock(tables, market) if excluded else TOO_LITTLE_TIME
        known = bound if math.isfinite(bound) else None
        return answers.none(problem, Goal.LEAST_COST, words, excluded=excluded, bound=known, seconds=spent)
    fleet = answers.fleet_of(problem, Goal.LEAST_COST, tables, counts, spent)
    if fleet.rate is None or fleet.rate < 1 - SERVED:
        return answers.none(problem, Goal.LEAST_COST, TOO_FAR_APART, seconds=spent)
    price, budget = float(fleet.cost_per_hour), problem.budget_per_hour
    left = max(0.0, 1 - bound / price) if price > 0 else 0.0
    best = proven or left <= gap
    if budget is not None and fleet.cost_per_hour > budget:
        words = f"the cheapest fleet found costs {fleet.cost_per_hour:f} an hour, the budget is {budget:f}"
        above = bound > float(budget)
        return answers.none(problem, Goal.LEAST_COST, words, excluded=above, bound=bound, seconds=spent)
    return answers.judged(fleet, bound=min(bound, price), gap=left, best=best)


def best_homogeneous(
    problem: FleetProblem,
    goal: Goal,
    *,
    any_stock: bool = False,
    time_limit_s: float = 60.0,
    gap: float = 1e-4,
) -> Fleet:
    """Find the best fleet of one GPU type for all models, in as much as there is or, with ``any_stock``, in any number.

    Raises:
        ProblemError: as in :func:`solve`.
    """
    begun = time.monotonic()
    if not tables_of(problem):
        return solve(problem, goal)
    best: Fleet | None = None
    undecided = False
    for number, offer in enumerate(problem.gpus):
        only = dataclasses.replace(
            problem,
            gpus=(dataclasses.replace(offer, stock=None) if any_stock else offer,),
            configurations=tuple(
                dataclasses.replace(each, gpus={offer.name: each.gpus[offer.name]})
                for each in problem.configurations
                if {gpu for gpu, count in each.gpus.items() if count} == {offer.name}
            ),
        )
        left = time_limit_s - (time.monotonic() - begun)
        fleet = solve(only, goal, time_limit_s=max(0.01, left / (len(problem.gpus) - number)), gap=gap)
        undecided |= fleet.status is FleetStatus.NOT_FOUND
        if fleet.is_found and (best is None or _better(fleet, best)):
            best = dataclasses.replace(fleet, message=f"{offer.name} only: {fleet.message}")
    spent = time.monotonic() - begun
    if best is None:
        words = "no GPU type alone serves every workload"
        return answers.none(problem, goal, words, excluded=not undecided, seconds=spent)
    return dataclasses.replace(best, seconds=spent)


def _fastest_of_many(
    tables: Sequence[Table], market: Market, budget: float | None, deadline: float, gap: float
) -> tuple[tuple[Counts, ...] | None, float | None, bool]:
    """Halve the rates between none and the relaxed program's: which of them has a fleet within the budget?

    Give copies, what no rate exceeds, and whether there is provably no fleet at all.
    """
    relaxed = draft(
        tables, prices=market.prices, stock=market.stock, budget=budget, fastest=True, relaxed=True,
        time_limit_s=max(0.01, deadline - time.monotonic()),
    ).solution  # fmt: skip
    if not relaxed.is_found:
        return None, None, relaxed.status is Status.INFEASIBLE
    total = sum(float(table.demand.sum()) for table in tables)
    bound = relaxed.objective / total
    low, high, best = 0.0, bound, None
    for number in range(HALVINGS):
        now = time.monotonic()
        rate = (low + high) / 2
        if rate <= 0 or now > deadline or high - low <= gap * high:
            break
        composed = compose(
            [table.scaled(rate) for table in tables], prices=market.prices, stock=market.stock,
            deadline=now + (deadline - now) / (HALVINGS - number), gap=gap,
        )  # fmt: skip
        counts = composed.counts
        if counts is not None and (budget is None or cost(tables, counts, market.prices) <= budget + 1e-9):
            best = counts
            low = max(rate, min(served(table, own)[0] for table, own in zip(tables, counts, strict=True)))
        else:
            high = rate
            if composed.infeasible or (budget is not None and composed.bound > budget):
                bound = rate
    return best, bound, False


def _check_limited(problem: FleetProblem) -> None:
    free = {
        offer.name
        for offer in problem.gpus
        if offer.stock is None and (problem.budget_per_hour is None or offer.price_per_hour == 0)
    }
    for each in problem.configurations:
        if {gpu for gpu, count in each.gpus.items() if count} <= free:
            raise ProblemError(
                "budget_per_hour",
                f"nothing limits how many of {each.name} there can be: give a budget or a stock",
            )


def _better(one: Fleet, other: Fleet) -> bool:
    if one.goal is Goal.LEAST_COST:
        return one.cost_per_hour < other.cost_per_hour
    return other.rate is not None and (one.rate is None or one.rate > other.rate)
