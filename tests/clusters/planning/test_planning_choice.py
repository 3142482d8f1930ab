"""What an order may say beyond model, class and place: pins, nearness, accepted quality, room for the worst."""

from __future__ import annotations

import dataclasses
from decimal import Decimal

import pytest

from clusters.planning.check import faults
from clusters.planning.plans import Configuration, Plan, PlanStatus, Reason, Relaxation
from clusters.planning.problem import (
    LoadProfile,
    Order,
    Pins,
    Pool,
    Precision,
    ProblemError,
    Quality,
    QuotaState,
)
from clusters.planning.search.order import plan
from clusters.specs import Tuning
from tests.clusters.planning.problems import BATCH, INTERACTIVE, LLAMA_8B, LLAMA_70B, STANDARD, order, pool


def placed(an_order: Order, *pools: Pool) -> Configuration:
    answer = plan(an_order, pools)
    assert faults(an_order, pools, answer) == []
    assert answer.configuration is not None, answer.message
    return answer.configuration


def reasons(answer: Plan, *, precision: Precision) -> set[Reason]:
    return {refusal.reason for refusal in answer.refusals if refusal.precision is precision}


CHEAP = pool(id="ams-l40s", cluster="ams", gpu="l40s", price_per_gpu_hour=Decimal("0.90"))


def test_a_pinned_gpu_type_is_kept_and_its_price_is_told() -> None:
    pinned = order(pins=Pins(gpu="h100_sxm"))
    answer = plan(pinned, [pool(), CHEAP])
    assert faults(pinned, [pool(), CHEAP], answer) == []
    assert answer.configuration is not None
    assert answer.configuration.gpu == "h100_sxm"
    (cost,) = answer.pin_costs
    assert (cost.pin, cost.value) == ("gpu", "h100_sxm")
    assert cost.saves_per_hour == answer.configuration.price_per_hour - cost.price_per_hour > 0
    assert {refusal.reason for refusal in answer.refusals if CHEAP.id in refusal.pools} == {Reason.PINNED}


def test_a_pin_that_nothing_meets_is_said_and_offered_without() -> None:
    answer = plan(order(pins=Pins(cluster="nowhere")), [pool()])
    assert answer.status is PlanStatus.IMPOSSIBLE
    assert "the order keeps to cluster nowhere; this is fra" in answer.message
    assert [(one.relaxation, one.value) for one in answer.alternatives] == [(Relaxation.PIN, "cluster")]


def test_pinned_parallelism_and_batches_are_kept() -> None:
    chosen = placed(order(pins=Pins(tp=2, pp=2, max_batch_size=7)), pool())
    assert (chosen.tp, chosen.pp, chosen.max_batch_size) == (2, 2, 7)
    assert chosen.tuning.max_batch_size == 7


@pytest.mark.parametrize("name", ["tp", "pp", "max_batch_size"])
def test_a_pin_below_one_is_refused(name: str) -> None:
    with pytest.raises(ProblemError) as caught:
        order(pins=Pins(**{name: 0}))
    assert caught.value.field == name


def test_near_is_worth_a_tenth_of_the_price_and_no_more() -> None:
    home = pool(id="fra", price_per_gpu_hour=Decimal("2.70"))
    away = pool(id="oslo", cluster="oslo", region="eu-no-1", price_per_gpu_hour=Decimal("2.50"))
    assert placed(order(), home, away).pool == "oslo"
    for place in ("eu-de-1", "EEA"):
        expected = "fra" if place == "eu-de-1" else "oslo"
        assert placed(order(near=place), home, away).pool == expected
    dear = dataclasses.replace(home, price_per_gpu_hour=Decimal("2.80"))
    assert placed(order(near="eu-de-1"), dear, away).pool == "oslo"


def test_of_equal_prices_the_cluster_that_has_the_weights_is_taken() -> None:
    there = pool(id="zrh", cluster="zrh", cached=frozenset({LLAMA_8B.name}))
    chosen = placed(order(), pool(), there)
    assert chosen.pool == "zrh"
    assert chosen.weights_cached


MADE = dataclasses.replace(LLAMA_8B, made=frozenset({Precision.FP8}))


def test_a_precision_that_is_made_is_not_offered_without_a_note() -> None:
    answer = plan(order(model=MADE), [pool()])
    assert reasons(answer, precision=Precision.FP8) == {Reason.QUALITY}
    assert answer.configuration is not None
    assert answer.configuration.precision is Precision.BF16


def test_a_note_that_must_be_accepted_is_shown_and_then_counts() -> None:
    note = Quality(note="two points worse at mathematics", needs_approval=True)
    careful = dataclasses.replace(MADE, quality={Precision.FP8: note})
    asked = order(model=careful, pins=Pins(precision=Precision.FP8))
    answer = plan(asked, [pool()])
    assert answer.status is PlanStatus.IMPOSSIBLE
    assert "two points worse at mathematics" in answer.message
    assert Relaxation.QUALITY in {one.relaxation for one in answer.alternatives}
    accepted = dataclasses.replace(asked, approved=frozenset({Precision.FP8}))
    chosen = placed(accepted, pool())
    assert chosen.precision is Precision.FP8
    (weights,) = (each for each in chosen.techniques if each.name == "Weights")
    assert "two points worse at mathematics" in weights.why


def test_interactive_replicas_stand_apart() -> None:
    safe = dataclasses.replace(INTERACTIVE, spare_replicas=1)
    chosen = placed(order(slo=safe), pool(free=(8, 8)))
    assert chosen.replicas == 2
    assert chosen.nodes == ((0,), (1,))
    racks = pool(free=(8, 8, 8), domains=("a", "a", "b"))
    assert placed(order(slo=safe), racks).nodes == ((0,), (2,))


def test_bursts_need_replicas_of_their_own_unless_nobody_waits() -> None:
    steady = dataclasses.replace(order().profile, requests_per_second=100)
    bursty = dataclasses.replace(steady, burstiness=4.0)
    room = pool(free=(8,) * 10)
    calm = placed(order(profile=steady), room)
    busy = placed(order(profile=bursty), room)
    assert calm.headroom.for_peak == 0
    assert busy.headroom.for_load == calm.headroom.for_load
    assert busy.headroom.for_peak > 0
    assert placed(order(profile=bursty, slo=BATCH), room).headroom.for_peak == 0


def test_the_front_goes_from_the_cheapest_to_the_fastest() -> None:
    answer = plan(order(slo=STANDARD, model=LLAMA_70B), [pool(), CHEAP])
    assert answer.front[0].chosen
    assert len(answer.front) > 1
    prices = [point.price_per_hour for point in answer.front]
    speeds = [point.answer_ms for point in answer.front]
    assert prices == sorted(prices)
    assert speeds == sorted(speeds, reverse=True)


def test_the_next_context_size_is_priced() -> None:
    answer = plan(order(context_tokens=8192), [pool()])
    step = answer.next_context
    assert step is not None
    assert step.context_tokens == 16_384
    assert answer.configuration is not None
    assert step.price_per_hour == answer.configuration.price_per_hour + step.extra_per_hour
    assert plan(order(context_tokens=131_072), [pool()]).next_context is None


def test_disaggregation_is_worked_out_and_said_not_to_be_deployable() -> None:
    apart = plan(order(rate=20), [pool()]).disaggregated
    assert apart is not None
    assert apart.prefill_replicas >= 1
    assert apart.decode_replicas >= 1
    assert "no runtime of Berth can be deployed so yet" in apart.message
    assert plan(order(rate=0), [pool()]).disaggregated is None


def test_stages_are_used_only_where_no_group_holds_the_model() -> None:
    large = dataclasses.replace(
        LLAMA_70B,
        name="dense-400b",
        architecture=dataclasses.replace(
            LLAMA_70B.architecture, parameters_total=400_000_000_000, parameters_active=400_000_000_000,
            layers=120,
        ),
        precisions=(Precision.BF16,),
    )  # fmt: skip
    slow = dataclasses.replace(BATCH, name="slow")
    spanning = pool(free=(8, 7, 8, 8), spans_nodes=True)
    chosen = placed(order(model=large, slo=slow), spanning)
    assert (chosen.tp, chosen.pp) == (8, 2)
    assert chosen.nodes == ((0, 2),)
    alone = plan(order(model=large, slo=slow), [pool(free=(8, 8, 8, 8))])
    assert alone.status is PlanStatus.IMPOSSIBLE
    assert "does not fit into a node of 8" in " ".join(one.message for one in alone.refusals)
    small = plan(order(), [pool()])
    assert {one.reason for one in small.refusals if one.pp not in (None, 1)} <= {
        Reason.DOMINATED,
        Reason.NODE_SIZE,
    }


def test_a_quota_of_one_gpu_type_leaves_the_others() -> None:
    quota = QuotaState(type_limits={"l40s": 1}, types_used={"l40s": 1})
    answer = plan(order(), [pool(), CHEAP], quota=quota)
    assert answer.configuration is not None
    assert answer.configuration.gpu == "h100_sxm"
    over = [one for one in answer.refusals if one.reason is Reason.QUOTA]
    assert over
    assert any("the quota allows 1 l40s, 1 are used and 1 more are needed" in one.message for one in over)


def test_the_class_settings_bound_the_plan_and_are_part_of_it() -> None:
    chosen = placed(order(tuning=Tuning(max_batch_size=3, max_num_tokens=2048)), pool())
    assert chosen.max_batch_size == chosen.tuning.max_batch_size == 3
    assert chosen.tuning.max_num_tokens == 2048
    names = [each.name for each in chosen.techniques]
    assert names == [
        "Weights",
        "KV cache",
        "Parallelism",
        "In-flight batching",
        "Chunked prefill",
        "Prefix reuse",
        "Speculative decoding",
    ]
    assert all(each.setting and each.why for each in chosen.techniques)


def test_a_smaller_share_for_the_cache_leaves_room_for_fewer_requests() -> None:
    patient = order(slo=BATCH, context_tokens=131_072, pins=Pins(precision=Precision.BF16, tp=1))
    usual = placed(patient, pool())
    less = placed(dataclasses.replace(patient, tuning=Tuning(kv_cache_fraction=0.5)), pool())
    assert less.memory.kv_available_gib == pytest.approx(usual.memory.kv_available_gib * 5 / 9)
    assert less.tuning.kv_cache_fraction == 0.5
    refused = plan(dataclasses.replace(patient, tuning=Tuning(kv_cache_fraction=0.2)), [pool()])
    assert {one.reason for one in refused.refusals if one.tp == 1} >= {Reason.MEMORY}


def test_an_answer_longer_than_the_context_is_refused() -> None:
    with pytest.raises(ProblemError) as caught:
        order(output_limit=10_000, context_tokens=8192)
    assert caught.value.field == "output_limit"


@pytest.mark.parametrize(
    ("field", "value"), [("input_cv", -1.0), ("output_cv", 11.0), ("prefix_share", 1.0), ("burstiness", 0.5)]
)
def test_a_profile_that_cannot_be_names_its_field(field: str, value: float) -> None:
    with pytest.raises(ProblemError) as caught:
        LoadProfile(requests_per_second=1, input_tokens=10, output_tokens=10, **{field: value})
    assert caught.value.field == field
