"""What a customer takes for granted: more load costs more, less freedom is never cheaper."""

from __future__ import annotations

import dataclasses

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clusters.planning.plans import Plan
from clusters.planning.problem import Order, Pins, Pool, PoolState
from clusters.planning.search.order import plan
from tests.clusters.planning.problems import orders, pool_lists

relaxed = settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])


def roomy(pools: list[Pool]) -> list[Pool]:
    """The pools with everything free and much of it, so that only the choice itself is judged."""
    return [
        dataclasses.replace(pool, free=(pool.gpus_per_node,) * 400, state=PoolState.ACTIVE) for pool in pools
    ]


def price(answer: Plan) -> float:
    chosen = answer.configuration
    return float("inf") if chosen is None else float(chosen.cost_per_hour)


def free(order: Order) -> Order:
    """The order without bounds of replicas, which would make more load impossible rather than dearer."""
    return dataclasses.replace(order, replicas_floor=None, replicas_ceiling=None)


def loaded(order: Order, factor: float) -> Order:
    rate = order.profile.requests_per_second * factor
    return dataclasses.replace(order, profile=dataclasses.replace(order.profile, requests_per_second=rate))


@relaxed
@given(order=orders(), pools=pool_lists(), factor=st.floats(1, 50))
def test_more_load_is_never_cheaper(order: Order, pools: list[Pool], factor: float) -> None:
    order, pools = free(order), roomy(pools)
    assert price(plan(loaded(order, factor), pools)) >= price(plan(order, pools))


@relaxed
@given(order=orders(), pools=pool_lists(), factor=st.floats(1, 50))
def test_more_load_never_needs_fewer_gpus_of_a_type(order: Order, pools: list[Pool], factor: float) -> None:
    order = free(order)
    for pool in roomy(pools):
        little, much = plan(order, [pool]).configuration, plan(loaded(order, factor), [pool]).configuration
        if little is None:
            assert much is None
        elif much is not None:
            assert much.gpus >= little.gpus


@relaxed
@given(order=orders(), pools=pool_lists(), factor=st.floats(1, 5))
def test_longer_and_burstier_requests_are_never_cheaper(
    order: Order, pools: list[Pool], factor: float
) -> None:
    order, pools = free(order), roomy(pools)
    before = price(plan(order, pools))
    profile = order.profile
    for harder in (
        dataclasses.replace(profile, burstiness=profile.burstiness * factor),
        dataclasses.replace(profile, prefix_share=0.0),
    ):
        assert price(plan(dataclasses.replace(order, profile=harder), pools)) >= before


@relaxed
@given(order=orders(), pools=pool_lists(), part=st.floats(0.1, 1), which=st.sampled_from(["ttft", "itl"]))
def test_a_tighter_target_is_never_cheaper(order: Order, pools: list[Pool], part: float, which: str) -> None:
    order, pools = free(order), roomy(pools)
    name = f"{which}_p95_ms"
    target = getattr(order.slo, name) or 5000.0
    tighter = dataclasses.replace(order, slo=dataclasses.replace(order.slo, **{name: target * part}))
    assert price(plan(tighter, pools)) >= price(plan(order, pools))


@relaxed
@given(order=orders(), pools=pool_lists())
def test_a_wider_residency_is_never_dearer(order: Order, pools: list[Pool]) -> None:
    pools = roomy(pools)
    wider = {"region:us-east-1": "zone:US", "zone:EU": "zone:EEA"}.get(order.residency, "global")
    before = price(plan(order, pools))
    assert price(plan(dataclasses.replace(order, residency=wider), pools)) <= before
    assert price(plan(dataclasses.replace(order, residency="global"), pools)) <= before


@relaxed
@given(order=orders(), pools=pool_lists(), data=st.data())
def test_what_an_order_keeps_to_is_never_cheaper(
    order: Order, pools: list[Pool], data: st.DataObject
) -> None:
    pools = roomy(pools)
    pins = Pins(
        gpu=data.draw(st.sampled_from([None, "h100_sxm", "l40s"])),
        tp=data.draw(st.sampled_from([None, 1, 2, 4])),
        pp=data.draw(st.sampled_from([None, 1, 2])),
        max_batch_size=data.draw(st.sampled_from([None, 1, 16])),
    )
    loose = dataclasses.replace(order, pins=Pins())
    kept = plan(dataclasses.replace(order, pins=pins), pools)
    assert price(kept) >= price(plan(loose, pools))
    if kept.configuration is not None:
        assert {cost.pin for cost in kept.pin_costs} == set(pins.set())
        assert all(cost.saves_per_hour >= 0 for cost in kept.pin_costs)


@relaxed
@given(order=orders(), pools=pool_lists(), spare=st.integers(1, 3))
def test_spare_replicas_are_never_cheaper_and_priced_apart(
    order: Order, pools: list[Pool], spare: int
) -> None:
    order, pools = free(order), roomy(pools)
    safer = dataclasses.replace(order, slo=dataclasses.replace(order.slo, spare_replicas=spare))
    answer = plan(safer, pools)
    assert price(answer) >= price(plan(order, pools))
    chosen = answer.configuration
    if chosen is not None:
        headroom = chosen.headroom
        assert headroom.for_load + headroom.for_peak + headroom.spare == chosen.replicas
        assert headroom.spare == spare
        alone = chosen.price_per_hour / chosen.replicas
        assert headroom.price_per_hour == alone * (headroom.for_peak + headroom.spare)
        assert chosen.utilisation <= 0.8
