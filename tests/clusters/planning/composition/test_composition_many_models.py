"""Many models that share the stock: composed one by one at its prices, close to the best of all at once."""

from __future__ import annotations

import dataclasses
import random
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings

from clusters.planning.composition import solve
from clusters.planning.composition.fleet import (
    Configuration,
    FleetProblem,
    FleetStatus,
    GpuOffer,
    ModelLoad,
    Workload,
)
from clusters.planning.composition.solve import largest_rate, least_cost, shortest_makespan
from tests.clusters.planning.composition.fleets import cost_of, every_fleet, faults, problems, rate_of

ROUNDING = 1e-7

some = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def crowd(count: int, *, stock: int, seed: int = 3) -> FleetProblem:
    """``count`` models, each on three GPU types at 1, 2 or 4 of them, of two workloads."""
    draws = random.Random(seed)
    speed = {"small": 1.0, "middle": 2.2, "large": 5.0}
    return FleetProblem(
        gpus=tuple(
            GpuOffer(name=name, price_per_hour=Decimal(price), stock=stock)
            for name, price in (("small", "0.5"), ("middle", "1.2"), ("large", "3.1"))
        ),
        models=tuple(
            ModelLoad(
                name=f"m{number}",
                workloads=(
                    Workload(name="long", demand=draws.uniform(0.5, 4)),
                    Workload(name="short", demand=draws.uniform(0.5, 8)),
                ),
            )
            for number in range(count)
        ),
        configurations=tuple(
            Configuration(
                name=f"m{number}-{gpu}-{size}",
                model=f"m{number}",
                gpus={gpu: size},
                rates=(
                    speed[gpu] * size**0.9 * draws.uniform(0.8, 1.2),
                    speed[gpu] * size**0.8 * draws.uniform(1.5, 2.5),
                ),
            )
            for number in range(count)
            for gpu in speed
            for size in (1, 2, 4)
        ),
    )


@pytest.mark.parametrize(("count", "stock"), [(6, 12), (12, 20), (30, 45)])
def test_the_stock_is_shared_and_the_bound_is_near(count: int, stock: int) -> None:
    problem = crowd(count, stock=stock)
    fleet = least_cost(problem, time_limit_s=6)
    assert fleet.is_found, fleet.message
    assert faults(problem, fleet, rate=1) == []
    assert min(fleet.gpus_left.values()) < 4
    assert fleet.gap is not None
    assert fleet.bound is not None
    assert fleet.gap < 0.05
    assert fleet.bound <= float(fleet.cost_per_hour)


def test_it_is_near_one_program_of_all_models(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = crowd(5, stock=8)
    apart = least_cost(problem)
    monkeypatch.setattr(solve, "WHOLE_MODELS", 5)
    whole = least_cost(problem, time_limit_s=10)
    assert whole.bound is not None
    assert apart.bound is not None
    assert apart.cost_per_hour <= whole.cost_per_hour * Decimal("1.03")
    assert apart.bound <= float(whole.cost_per_hour) * (1 + 1e-6)


@some
@given(problem=problems(models=3))
def test_the_bound_holds_for_every_fleet(problem: FleetProblem) -> None:
    fitting = [counts for counts in every_fleet(problem, most=3) if rate_of(problem, counts) >= 1 - ROUNDING]
    fleet = least_cost(dataclasses.replace(problem, budget_per_hour=None))
    if fitting:
        assert fleet.is_found
        assert fleet.bound is not None
        assert fleet.bound <= float(min(cost_of(problem, counts) for counts in fitting)) * (1 + 1e-6)
    if fleet.is_found:
        assert faults(problem_without_budget(problem), fleet, rate=1) == []


@some
@given(problem=problems(models=3))
def test_rates_of_three_models_keep_to_budget_and_bound(problem: FleetProblem) -> None:
    best = max(rate_of(problem, counts) for counts in every_fleet(problem, most=3))
    fleet = largest_rate(problem)
    if fleet.bound is not None:
        assert fleet.bound >= float(best) * (1 - 1e-6)
    if fleet.is_found:
        assert faults(problem, fleet) == []
        assert fleet.rate is not None
        assert fleet.rate >= float(best) / 2
    elif best > 0:
        assert fleet.status is FleetStatus.NOT_FOUND


def test_many_models_are_done_together_within_the_budget() -> None:
    problem = dataclasses.replace(crowd(4, stock=10), budget_per_hour=Decimal(12))
    fleet = shortest_makespan(problem, time_limit_s=10)
    assert fleet.is_found
    assert faults(problem, fleet) == []
    assert fleet.bound is not None
    assert fleet.makespan_s is not None
    assert fleet.bound <= fleet.makespan_s <= fleet.bound * 1.25


def test_one_model_too_many_is_told() -> None:
    for stock, message in ((4, "the stock has no replicas for"), (15, "the stock serves at most")):
        fleet = least_cost(crowd(30, stock=stock), time_limit_s=5)
        assert fleet.status is FleetStatus.INFEASIBLE
        assert fleet.message.startswith(message)


def problem_without_budget(problem: FleetProblem) -> FleetProblem:
    return dataclasses.replace(problem, budget_per_hour=None)
