"""Small problems against a search of every fleet, and what more money or stock must never do."""

from __future__ import annotations

import dataclasses
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clusters.planning.composition.fleet import (
    Configuration,
    FleetProblem,
    FleetStatus,
    Goal,
    GpuOffer,
    ModelLoad,
    Workload,
)
from clusters.planning.composition.solve import best_homogeneous, largest_rate, least_cost, shortest_makespan
from clusters.planning.problem import ProblemError
from tests.clusters.planning.composition.fleets import (
    WORKED_EXAMPLE,
    cost_of,
    every_fleet,
    faults,
    problems,
    rate_of,
)

#: Tenths are not exact: three copies of 0.7 are to serve 2.1.
ROUNDING = 1e-7

some = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


@some
@given(problem=st.one_of(problems(), problems(models=2)))
def test_no_fleet_is_faster(problem: FleetProblem) -> None:
    best = max(rate_of(problem, counts) for counts in every_fleet(problem, most=4))
    fleet = largest_rate(problem, gap=0)
    if best == 0:
        assert fleet.status is FleetStatus.INFEASIBLE
        assert fleet.message
    else:
        assert fleet.status is FleetStatus.OPTIMAL
        assert fleet.rate == pytest.approx(float(best), rel=1e-5)
        assert faults(problem, fleet) == []


@some
@given(problem=st.one_of(problems(), problems(models=2)))
def test_no_fleet_is_cheaper(problem: FleetProblem) -> None:
    costs = [
        cost_of(problem, counts)
        for counts in every_fleet(problem, most=4)
        if rate_of(problem, counts) >= 1 - ROUNDING
    ]
    fleet = least_cost(problem, gap=0)
    if not costs:
        assert fleet.status is FleetStatus.INFEASIBLE
        assert fleet.message
    else:
        assert (fleet.status, fleet.cost_per_hour) == (FleetStatus.OPTIMAL, min(costs))
        assert faults(problem, fleet, rate=1) == []


@some
@given(problem=problems(), more=st.integers(1, 50), which=st.integers(0, 1), extra=st.integers(1, 3))
def test_more_money_or_stock_is_never_worse(problem: FleetProblem, more: int, which: int, extra: int) -> None:
    assert problem.budget_per_hour is not None
    gpus = list(problem.gpus)
    gpus[which] = dataclasses.replace(gpus[which], stock=(gpus[which].stock or 0) + extra)
    richer = dataclasses.replace(problem, budget_per_hour=problem.budget_per_hour + Decimal(more) / 10)
    fuller = dataclasses.replace(problem, gpus=tuple(gpus))
    rate = largest_rate(problem, gap=0).rate or 0.0
    for better in (richer, fuller):
        assert (largest_rate(better, gap=0).rate or 0.0) >= rate * (1 - 1e-6)
    cost = least_cost(problem, gap=0)
    if cost.is_found:
        assert least_cost(richer, gap=0).cost_per_hour == cost.cost_per_hour
        assert least_cost(fuller, gap=0).cost_per_hour <= cost.cost_per_hour


@some
@given(problem=problems())
def test_one_gpu_type_is_never_better_than_all(problem: FleetProblem) -> None:
    alone = best_homogeneous(problem, Goal.LARGEST_RATE, gap=0)
    assert (alone.rate or 0.0) <= (largest_rate(problem, gap=0).rate or 0.0) * (1 + 1e-6)
    if alone.is_found:
        used = {each.name: set(each.gpus) for each in problem.configurations}
        assert len(set[str]().union(*(used[each.configuration] for each in alone.copies))) == 1


def test_nothing_asked_for_needs_no_fleet() -> None:
    idle = ModelLoad(name="model", workloads=(Workload(name="w1", demand=0), Workload(name="w2", demand=0)))
    problem = dataclasses.replace(WORKED_EXAMPLE, models=(idle,))
    for solve in (largest_rate, least_cost, shortest_makespan):
        fleet = solve(problem)
        assert (fleet.status, fleet.copies, fleet.cost_per_hour) == (FleetStatus.OPTIMAL, (), 0)
    assert shortest_makespan(problem).makespan_s == 0


def test_what_stands_in_the_way_is_named() -> None:
    unserved = dataclasses.replace(
        WORKED_EXAMPLE,
        configurations=(Configuration(name="one", model="model", gpus={"t1": 1}, rates=(1.0, 0.0)),),
    )
    assert largest_rate(unserved).message == "no configuration serves w2 of model"
    assert least_cost(unserved).status is FleetStatus.INFEASIBLE
    poor = dataclasses.replace(WORKED_EXAMPLE, budget_per_hour=Decimal(1))
    assert shortest_makespan(poor).message == "budget and stock do not allow replicas for every workload"
    assert shortest_makespan(poor).status is FleetStatus.INFEASIBLE
    assert least_cost(WORKED_EXAMPLE).message == "the stock serves at most 5.4% of the demand"
    modest = dataclasses.replace(
        WORKED_EXAMPLE,
        models=(
            ModelLoad(
                name="model", workloads=(Workload(name="w1", demand=2.0), Workload(name="w2", demand=0.5))
            ),
        ),
    )
    fleet = least_cost(dataclasses.replace(modest, budget_per_hour=Decimal(3)))
    assert (fleet.status, fleet.copies) == (FleetStatus.INFEASIBLE, ())
    assert fleet.message.endswith("an hour, the budget is 3")


def test_a_fleet_that_nothing_limits_is_no_question() -> None:
    unlimited = (GpuOffer(name="t1", price_per_hour=Decimal(4)), *WORKED_EXAMPLE.gpus[1:])
    problem = dataclasses.replace(WORKED_EXAMPLE, gpus=unlimited, budget_per_hour=None)
    with pytest.raises(ProblemError, match="nothing limits how many of 1xt1"):
        largest_rate(problem)
    assert least_cost(problem).is_found


def test_too_little_time_is_no_proof() -> None:
    fleet = largest_rate(WORKED_EXAMPLE, time_limit_s=0)
    assert fleet.status in (FleetStatus.NOT_FOUND, FleetStatus.FEASIBLE, FleetStatus.OPTIMAL)
    assert fleet.status is not FleetStatus.INFEASIBLE
