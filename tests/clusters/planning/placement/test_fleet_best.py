"""The solver against trying everything, and what holds for every fleet."""

from __future__ import annotations

import copy
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clusters.planning.placement.fleet import PlacementStatus
from tests.clusters.planning.placement.checker import judge
from tests.clusters.planning.placement.exhaustive import least_objective
from tests.clusters.planning.placement.fleets import Document, endpoint, fleet, fleets, pool, solved, written

relaxed = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


@relaxed
@given(document=fleets())
def test_no_bound_is_above_the_best_and_no_objective_below_it(document: Document) -> None:
    plan = solved(document)
    best = least_objective(document)
    assert judge(document, written(plan))[1] == []
    assert plan.bound <= best + 1e-6 * max(1.0, best)
    assert plan.objective >= best - 1e-6 * max(1.0, best)
    if plan.status is PlacementStatus.OPTIMAL:
        assert plan.objective == pytest.approx(best, rel=1e-5, abs=1e-9)


@relaxed
@given(document=fleets(soft=False))
def test_sizes_that_divide_each_other_are_placed_best(document: Document) -> None:
    plan = solved(document)
    assert plan.status is PlacementStatus.OPTIMAL
    assert plan.objective == pytest.approx(least_objective(document), rel=1e-5, abs=1e-9)


@relaxed
@given(document=fleets(soft=False, sizes=(1, 2, 3, 5, 6, 7, 9)))
def test_any_sizes_have_a_true_bound(document: Document) -> None:
    plan = solved(document)
    best = least_objective(document)
    assert judge(document, written(plan))[1] == []
    assert plan.bound <= best + 1e-6 * max(1.0, best)


@relaxed
@given(document=fleets(soft=False), seed=st.integers())
def test_more_supply_is_never_worse(document: Document, seed: int) -> None:
    more = copy.deepcopy(document)
    grown = random.Random(seed).choice(more["pools"])
    grown["free"].append(grown["gpus_per_node"])
    assert solved(more).objective <= solved(document).objective * (1 + 2e-6)


@relaxed
@given(document=fleets())
def test_the_same_fleet_is_placed_the_same(document: Document) -> None:
    first, second = written(solved(document)), written(solved(document))
    assert first.pop("seconds") >= 0 <= second.pop("seconds")
    assert first == second


def test_many_like_endpoints_share_what_is_there() -> None:
    document = fleet(
        [pool(free=[8] * 3 + [3] * 2), pool("c1/h100", price=3.0, free=[4] * 2)],
        [endpoint(f"e{number}", gpus=2, replicas=2) for number in range(9)],
    )
    plan = solved(document)
    assert judge(document, written(plan)) == (plan.objective, [])
    # 14 pairs are in the cheap pool and 4 in the other: 7 endpoints and 2.
    assert [each.pool for each in plan.assignments].count("c0/h100") == 7
    assert plan.unplaced == ()
    assert plan.status is PlacementStatus.OPTIMAL


def test_a_count_of_gpus_alone_would_place_too_many() -> None:
    document = fleet([pool(free=[3, 3, 3])], [endpoint(f"e{number}", gpus=2) for number in range(4)])
    plan = solved(document)
    assert len(plan.assignments) == 3
    assert plan.status is PlacementStatus.OPTIMAL
