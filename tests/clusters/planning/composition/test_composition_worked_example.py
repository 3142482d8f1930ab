"""The worked example of Jiang et al., whose optimum is known."""

from __future__ import annotations

import dataclasses
from decimal import Decimal

import pytest

from clusters.planning.composition.fleet import FleetStatus, Goal, ModelLoad, Workload
from clusters.planning.composition.solve import (
    best_homogeneous,
    largest_rate,
    least_cost,
    shortest_makespan,
)
from tests.clusters.planning.composition.fleets import WORKED_EXAMPLE, faults

OPTIMUM_S = 28.431372549


def test_the_optimum_has_the_papers_copies_and_beats_its_makespan() -> None:
    fleet = shortest_makespan(WORKED_EXAMPLE)
    assert fleet.status is FleetStatus.OPTIMAL
    assert fleet.makespan_s == pytest.approx(OPTIMUM_S, rel=1e-9)
    assert fleet.makespan_s < 28.67
    assert {each.configuration: each.count for each in fleet.copies} == {"1xt1": 1, "TP2xt2": 1}
    assert (fleet.cost_per_hour, fleet.gpus_left) == (8, {"t1": 1, "t2": 0, "t3": 2})
    assert faults(WORKED_EXAMPLE, fleet) == []


def test_rate_and_makespan_are_one_question() -> None:
    fleet = largest_rate(WORKED_EXAMPLE)
    assert fleet.rate == pytest.approx(1 / OPTIMUM_S, rel=1e-9)
    assert fleet.bound == pytest.approx(1 / OPTIMUM_S, rel=1e-4)


def test_the_same_rate_costs_the_same_money() -> None:
    workloads = (Workload(name="w1", demand=80 / 28.44), Workload(name="w2", demand=20 / 28.44))
    problem = dataclasses.replace(WORKED_EXAMPLE, models=(ModelLoad(name="model", workloads=workloads),))
    fleet = least_cost(problem)
    assert (fleet.status, fleet.cost_per_hour) == (FleetStatus.OPTIMAL, 8)
    assert faults(problem, fleet, rate=1) == []


def test_one_gpu_type_is_better_only_where_there_is_more_of_it() -> None:
    scarce = best_homogeneous(WORKED_EXAMPLE, Goal.SHORTEST_MAKESPAN)
    plenty = best_homogeneous(WORKED_EXAMPLE, Goal.SHORTEST_MAKESPAN, any_stock=True)
    assert scarce.makespan_s == pytest.approx(140 / 3)
    assert plenty.makespan_s == pytest.approx(70 / 3)
    assert {each.configuration: each.count for each in plenty.copies} == {"TP2xt2": 2}
    assert plenty.cost_per_hour == Decimal(8)
