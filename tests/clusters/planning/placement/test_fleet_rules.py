"""Each rule and each preference of a placement."""

from __future__ import annotations

from typing import Any

import pytest

from clusters.planning.placement.fleet import FleetPlan
from clusters.planning.placement.stock import Stock
from tests.clusters.planning.placement.checker import judge
from tests.clusters.planning.placement.fleets import (
    Document,
    endpoint,
    fleet,
    pool,
    problem_of,
    solved,
    written,
)

FAR = {"region": "us-east", "zones": ["US"], "price": 1.0}


def _sound(document: Document) -> FleetPlan:
    plan = solved(document)
    assert judge(document, written(plan)) == (pytest.approx(plan.objective), [])
    return plan


def _pool_of(document: Document) -> str | None:
    plan = _sound(document)
    return plan.assignments[0].pool if plan.assignments else None


@pytest.mark.parametrize(
    ("demand", "offered", "word"),
    [
        ({"residency": "zone:EU"}, FAR, "residency"),
        ({"residency": "region:fr"}, {}, "residency"),
        ({"residency": "zone:nowhere"}, {}, "residency"),
        ({"certifications": ["C5", "FedRAMP"]}, {}, "certifications"),
        ({}, {"taints": ["maintenance"]}, "taints"),
        ({"current": "gone", "pinned": True}, {}, "pin"),
        ({}, {"gpu": "b200"}, "GPUs of type"),
        ({"gpus": 8, "replicas": 3}, {}, "large enough"),
        ({"gpus": 8}, {"free": [7, 7]}, "large enough"),
        ({"gpus": 16}, {"free": [8, 7, 8, 0][1:2]}, "large enough"),
        ({"spread": 3, "replicas": 3}, {}, "large enough"),
        ({"spread": 3, "replicas": 2}, {}, "failure domains"),
        ({"options": []}, {}, "no options"),
        ({"weight": 0.001}, {}, "penalty"),
        ({"weight": 0}, {}, "penalty"),
    ],
)
def test_what_bars_an_endpoint_is_said(demand: Document, offered: Document, word: str) -> None:
    plan = _sound(fleet([pool(**offered)], [endpoint(**demand)]))
    assert plan.assignments == ()
    assert word in plan.unplaced[0].reason
    assert plan.bound == pytest.approx(plan.objective)


def test_a_tolerated_taint_bars_nothing() -> None:
    document = fleet([pool(taints=["edge"])], [endpoint(tolerations=["edge", "other"])])
    assert _pool_of(document) == "c0/h100"


def test_what_others_take_is_said() -> None:
    plan = _sound(fleet([pool(free=[8])], [endpoint("a", gpus=8, weight=3), endpoint("b", gpus=8)]))
    assert [each.endpoint for each in plan.unplaced] == ["b"]
    assert "take the room of the 1 pools" in plan.unplaced[0].reason


def test_a_large_replica_takes_wholly_free_nodes() -> None:
    document = fleet([pool(free=[8, 7, 8, 0, 8])], [endpoint(gpus=16), endpoint("e1", gpus=7)])
    plan = _sound(document)
    by_name = {each.endpoint: each.replicas for each in plan.assignments}
    assert set(by_name["e0"][0]) <= {0, 2, 4}
    assert by_name["e1"] == ((1,),)


def test_a_replica_that_fills_no_whole_number_of_nodes_takes_them_wholly() -> None:
    plan = _sound(fleet([pool(free=[8, 8])], [endpoint(gpus=12), endpoint("e1", gpus=1)]))
    assert len(plan.assignments) == 1


@pytest.mark.parametrize(("saving", "stays"), [(0.1, True), (0.3, False)])
def test_moving_must_pay(saving: float, stays: bool) -> None:
    document = fleet([pool(), pool("c1/h100", price=2.0 - saving)], [endpoint(gpus=4, current="c0/h100")])
    assert _pool_of(document) == ("c0/h100" if stays else "c1/h100")


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        ({}, "far"),
        ({"near": "zone:EU", "near_penalty": 0.9}, "far"),
        ({"near": "zone:EU", "near_penalty": 1.1}, "c0/h100"),
        ({"load_cost": 3.0, "cached": ["c0/h100"]}, "far"),
        ({"load_cost": 5.0, "cached": ["c0/h100"]}, "c0/h100"),
        ({"load_cost": 5.0, "cached": ["far", "nowhere"]}, "far"),
        ({"load_cost": 5.0, "current": "c0/h100"}, "c0/h100"),
        ({"pinned": True, "current": "c0/h100"}, "c0/h100"),
    ],
)
def test_preferences_are_weighed_against_the_price(given: Document, chosen: str) -> None:
    assert _pool_of(fleet([pool(), pool("far", **FAR)], [endpoint(gpus=4, **given)])) == chosen


def test_a_quota_caps_its_endpoints_only() -> None:
    endpoints = [endpoint(f"e{number}", gpus=4, quota="tenant") for number in range(3)]
    document = fleet([pool()], [*endpoints, endpoint("free", gpus=4)], quotas=[{"id": "tenant", "gpus": 9}])
    plan = _sound(document)
    assert len(plan.assignments) == 3
    assert "free" in {each.endpoint for each in plan.assignments}
    assert "quota tenant" in plan.unplaced[0].reason


def test_a_quota_that_is_too_small_is_said() -> None:
    document = fleet([pool()], [endpoint(gpus=4, quota="t")], quotas=[{"id": "t", "gpus": 3}])
    assert _sound(document).unplaced[0].reason == "it needs 4 GPUs; quota t has 3"


def test_replicas_are_spread_over_failure_domains() -> None:
    racks = pool(free=[8, 8, 4], domains=["rack 1", "rack 1", "rack 2"])
    plan = _sound(fleet([racks], [endpoint(gpus=4, replicas=4, spread=2)]))
    assert (2,) in plan.assignments[0].replicas


def test_a_replica_over_several_nodes_stays_in_a_domain_when_it_is_spread() -> None:
    racks = pool(free=[8] * 4, domains=["1", "2", "1", "2"])
    plan = _sound(fleet([racks], [endpoint(gpus=16, replicas=2, spread=2)]))
    assert sorted(plan.assignments[0].replicas) == [(0, 2), (1, 3)]


def test_one_endpoint_is_admitted_against_what_is_taken() -> None:
    problem = problem_of(fleet([pool(free=[8]), pool("c1/h100", price=3.0, free=[8])], []))
    stock, asked = Stock(problem), problem_of(fleet([], [endpoint(gpus=8)])).endpoints[0]
    first, second, third = (stock.admit(asked) for _ in range(3))
    assert first is not None
    assert second is not None
    assert (first.pool, second.pool, third) == ("c0/h100", "c1/h100", None)
    stock.give_back(asked, first)
    again: Any = stock.admit(asked)
    assert again == first
