"""What holds for every plan, judged by a checker that shares no code with the search."""

from __future__ import annotations

import dataclasses
import random

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from clusters.planning.check import faults
from clusters.planning.plans import PlanStatus, Reason, Relaxation
from clusters.planning.problem import Order, Pins, Pool, PoolState, QuotaState
from clusters.planning.search.order import plan
from tests.clusters.planning.problems import BATCH, INTERACTIVE, STANDARD, orders, pool_lists, quotas

CLASSES = (INTERACTIVE, STANDARD, BATCH)

relaxed = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])


@relaxed
@given(order=orders(), pools=pool_lists(), quota=quotas())
def test_every_plan_is_sound(order: Order, pools: list[Pool], quota: QuotaState) -> None:
    answer = plan(order, pools, quota=quota, classes=CLASSES)
    assert faults(order, pools, answer, quota=quota) == []


@relaxed
@given(order=orders(), pools=pool_lists(), quota=quotas())
def test_no_pool_alone_would_be_cheaper(order: Order, pools: list[Pool], quota: QuotaState) -> None:
    together = plan(order, pools, quota=quota)
    alone = [plan(order, [pool], quota=quota) for pool in pools]
    placed = [answer.configuration for answer in alone if answer.configuration is not None]
    assert (together.status is PlanStatus.PLACED) == bool(placed)
    if together.configuration is not None:
        assert together.configuration in placed
        if together.configuration.replicas:
            assert together.configuration.cost_per_hour == min(one.cost_per_hour for one in placed)


@relaxed
@given(order=orders(), pools=pool_lists(), quota=quotas(), seed=st.integers())
def test_the_order_of_the_input_does_not_matter(
    order: Order, pools: list[Pool], quota: QuotaState, seed: int
) -> None:
    shuffled = list(pools)
    random.Random(seed).shuffle(shuffled)
    first = plan(order, pools, quota=quota, classes=CLASSES)
    assert plan(order, shuffled, quota=quota, classes=CLASSES[::-1]) == first


@relaxed
@given(order=orders(), pools=pool_lists(), place=st.text(max_size=8))
def test_residency_is_closed(order: Order, pools: list[Pool], place: str) -> None:
    unknown = dataclasses.replace(order, residency=f"zone:?{place}")
    answer = plan(unknown, pools)
    assert answer.status is PlanStatus.IMPOSSIBLE
    assert {refusal.reason for refusal in answer.refusals} <= {Reason.RESIDENCY}
    for refusal in answer.refusals:
        assert all(cluster in refusal.message for cluster in refusal.clusters)
        assert unknown.residency in refusal.message


@relaxed
@given(order=orders(), pools=pool_lists())
def test_waiting_can_help_exactly_where_capacity_is_all_that_is_wanting(
    order: Order, pools: list[Pool]
) -> None:
    free = [
        dataclasses.replace(pool, free=(pool.gpus_per_node,) * len(pool.free), state=PoolState.ACTIVE)
        for pool in pools
    ]
    now, empty = plan(order, pools), plan(order, free)
    if now.status is PlanStatus.NO_CAPACITY:
        assert empty.status is PlanStatus.PLACED
    if now.status is PlanStatus.IMPOSSIBLE:
        assert empty.status is PlanStatus.IMPOSSIBLE


@relaxed
@given(order=orders(), pools=pool_lists())
def test_alternatives_can_be_ordered_as_they_say(order: Order, pools: list[Pool]) -> None:
    for alternative in plan(order, pools, classes=CLASSES).alternatives:
        match alternative.relaxation:
            case "residency":
                again = dataclasses.replace(order, residency=alternative.value)
            case "certifications":
                again = dataclasses.replace(order, certifications=frozenset())
            case "pin":
                again = dataclasses.replace(order, pins=Pins())
            case _:
                (slo,) = (slo for slo in CLASSES if slo.name == alternative.value)
                again = dataclasses.replace(order, slo=slo)
        assert plan(again, pools).configuration == alternative.configuration


@relaxed
@given(order=orders(), pools=pool_lists(), quota=quotas())
def test_all_that_could_be_ordered_with_one_demand_less_is_offered(
    order: Order, pools: list[Pool], quota: QuotaState
) -> None:
    answer = plan(order, pools, quota=quota, classes=CLASSES)
    assume(answer.configuration is None)
    asked = {(Relaxation.CERTIFICATIONS, "none"): dataclasses.replace(order, certifications=frozenset())}
    asked |= {(Relaxation.PIN, name): dataclasses.replace(order, pins=Pins()) for name in order.pins.set()}
    asked |= {(Relaxation.SLO_CLASS, slo.name): dataclasses.replace(order, slo=slo) for slo in CLASSES}
    asked |= {
        (Relaxation.RESIDENCY, f"region:{region}"): dataclasses.replace(order, residency=f"region:{region}")
        for region in {pool.region for pool in pools}
        if order.residency != "global"
    }
    possible = {key: plan(again, pools, quota=quota).configuration for key, again in asked.items()}
    offered = {(one.relaxation, one.value): one.configuration for one in answer.alternatives}
    asked_for = {key for key, again in asked.items() if again != order}
    assert offered == {key: possible[key] for key in asked_for if possible[key] is not None}
