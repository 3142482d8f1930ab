"""What the planner chooses and how it says no."""

from __future__ import annotations

import dataclasses
import json
from decimal import Decimal

import pytest

from clusters.planning.check import faults
from clusters.planning.plans import Plan, PlanStatus, Reason, Refusal, Relaxation, price_text
from clusters.planning.problem import LoadProfile, Pins, PoolState, Precision, ProblemError, QuotaState
from clusters.planning.search.order import plan
from tests.clusters.planning.problems import (
    BATCH,
    EXPERTS,
    INTERACTIVE,
    LLAMA_70B,
    NGRAM,
    STANDARD,
    order,
    pool,
)


def refusal_of(
    answer: Plan, *, pool: str = "fra-h100", precision: str = "bf16", tp: int = 1, pp: int = 1
) -> Refusal:
    (found,) = (
        one
        for one in answer.refusals
        if pool in one.pools
        and one.precision in (None, precision)
        and one.tp in (None, tp)
        and one.pp in (None, pp)
    )
    return found


def test_cheapest_allowed_pool_is_chosen_and_priced() -> None:
    dear, cheap = pool(), pool(id="ams-l40s", cluster="ams", gpu="l40s", price_per_gpu_hour=Decimal("0.90"))
    abroad = pool(id="us-l4", cluster="us", zones=frozenset({"US"}), price_per_gpu_hour=Decimal("0.01"))
    answer = plan(order(), [dear, cheap, abroad])
    chosen = answer.configuration
    assert answer.status is PlanStatus.PLACED
    assert chosen is not None
    assert (chosen.pool, chosen.tp, chosen.pp, chosen.replicas) == ("ams-l40s", 1, 1, 1)
    assert chosen.cost_per_hour == Decimal("0.90")
    assert chosen.price_per_hour == Decimal("1.35")
    # 1.35 / (2 requests/s x 128 tokens x 3600 s) x 10**6, half to even
    assert chosen.price_per_million_tokens == Decimal("1.464844")
    assert refusal_of(answer, precision=chosen.precision).dearer_by_per_hour == Decimal("2.40")


def test_equal_costs_go_to_fewer_gpus_then_the_lower_name() -> None:
    twins = [
        pool(id="b"),
        pool(id="a"),
        pool(id="c", price_per_gpu_hour=Decimal(0), state=PoolState.CORDONED),
    ]
    chosen = plan(order(), twins).configuration
    assert chosen is not None
    assert (chosen.pool, chosen.tp) == ("a", 1)
    free = plan(order(), [pool(price_per_gpu_hour=Decimal(0))]).configuration
    assert free is not None
    assert free.gpus == 1


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"zones": frozenset({"US"})}, Reason.RESIDENCY, "cluster fra stands in region eu-de-1 (zones: US)"),
        ({"certifications": frozenset()}, Reason.CERTIFICATION, "cluster fra lacks certification iso27001"),
        ({"runtimes": frozenset({"triton-python"})}, Reason.RUNTIME, "cluster fra offers triton-python"),
        ({"state": PoolState.UNREACHABLE}, Reason.CLUSTER_STATE, "(fra): the cluster is unreachable"),
        ({"free": (0, 0)}, Reason.CAPACITY, "h100_sxm in eu-de-1 (fra): needs 1, 0 free"),
        ({"free": ()}, Reason.POOL_SIZE, "needs 1, the pool has 0"),
        ({"gpu": "l4"}, Reason.ITL, "> 32 ms, 80% of the 40 ms of class interactive"),
    ],
)
def test_each_refusal_names_its_demand_and_its_cluster(
    changes: dict[str, object], reason: Reason, words: str
) -> None:
    answer = plan(order(certifications=frozenset({"iso27001"})), [pool(**changes)])
    refusal = refusal_of(answer)
    assert refusal.reason is reason
    assert words in refusal.message
    assert words in answer.message or reason is Reason.ITL  # more GPUs for each came further


def test_model_licence_bars_zones() -> None:
    answer = plan(order(model=EXPERTS, residency="global"), [pool(zones=frozenset({"US"}))])
    assert refusal_of(answer).reason is Reason.MODEL_ZONE
    assert "the licence of experts-47b allows zones EU" in answer.message


def test_memory_refusal_is_broken_down() -> None:
    refusal = refusal_of(plan(order(model=LLAMA_70B), [pool()]))
    assert refusal.reason is Reason.MEMORY
    assert refusal.memory is not None
    memory = refusal.memory
    assert memory.weights_gib == pytest.approx(70.55e9 * 2 / 2**30)
    # 2 x 80 layers x 8 heads x 128 x 2 bytes x 8192 tokens
    assert memory.kv_gib == pytest.approx(2.5)
    parts = memory.weights_gib + memory.kv_gib + memory.activations_gib + memory.framework_gib
    assert memory.needed_gib == pytest.approx(parts)
    assert "weights 131.4, KV cache 2.5 for 8192 tokens" in refusal.message
    assert "80.0 GiB" in refusal.message


def test_precision_needs_silicon_for_it() -> None:
    answer = plan(order(model=LLAMA_70B), [pool(gpu="a100_sxm")])
    assert refusal_of(answer, precision="fp8").reason is Reason.PRECISION
    assert refusal_of(answer, precision="int4", tp=2).reason is not Reason.PRECISION


def test_replica_larger_than_a_node_is_refused() -> None:
    answer = plan(order(), [pool(gpus_per_node=2, free=(2, 2))])
    assert refusal_of(answer, tp=4).reason is Reason.NODE_SIZE


def test_prompt_too_long_for_its_class_is_refused_for_ttft() -> None:
    profile = LoadProfile(requests_per_second=0.001, input_tokens=60_000, output_tokens=1000)
    answer = plan(order(profile=profile, context_tokens=65_536), [pool()])
    assert refusal_of(answer).reason is Reason.TTFT
    assert Relaxation.SLO_CLASS not in {one.relaxation for one in answer.alternatives}
    as_batch = plan(order(profile=profile, context_tokens=65_536), [pool()], classes=[BATCH])
    assert [one.value for one in as_batch.alternatives] == ["batch"]


def test_single_gpu_runtime_is_not_split() -> None:
    answer = plan(order(model=NGRAM, context_tokens=4096), [pool(gpu="l4")])
    assert answer.configuration is not None
    assert answer.configuration.runtime == "triton-python"
    assert refusal_of(answer, tp=2).reason is Reason.RUNTIME


def test_replicas_grow_with_load_and_with_bursts() -> None:
    profile = dataclasses.replace(order().profile, requests_per_second=200, burstiness=3.0)
    chosen = plan(order(profile=profile), [pool(free=(8,) * 8)]).configuration
    assert chosen is not None
    assert 1 < chosen.replicas_floor < chosen.replicas == chosen.replicas_ceiling
    assert chosen.utilisation <= 0.8
    assert chosen.tokens_per_s * 0.8 >= 200 * 128
    assert chosen.tokens_per_s * 1.0 >= 3 * 200 * 128  # the busiest minute


def test_fewer_dearer_gpus_win_where_many_cheap_ones_would_be_needed() -> None:
    pools = [pool(), pool(id="ams-l40s", cluster="ams", gpu="l40s", price_per_gpu_hour=Decimal("2.00"))]
    quiet, busy = plan(order(rate=2), pools), plan(order(rate=100), pools)
    assert quiet.configuration is not None
    assert busy.configuration is not None
    assert (quiet.configuration.pool, busy.configuration.pool) == ("ams-l40s", "fra-h100")
    dearer = refusal_of(busy, pool="ams-l40s", precision="fp8").dearer_by_per_hour
    assert dearer is not None
    assert dearer > 0


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("5.5000000000", "5.50"),
        ("12", "12.00"),
        ("1E+2", "100.00"),
        ("0.01250", "0.0125"),
        ("0E-10", "0.00"),
    ],
)
def test_price_is_written_without_trailing_zeros(amount: str, text: str) -> None:
    assert price_text(Decimal(amount)) == text


def test_messages_write_prices_for_people() -> None:
    pools = [
        pool(price_per_gpu_hour=Decimal("2.5000000000")),
        pool(id="zrh", price_per_gpu_hour=Decimal("8.0000000000")),
    ]
    answer = plan(order(pins=Pins(precision=Precision.BF16)), pools)
    assert answer.message.endswith("for 3.75 per hour")
    assert "at 8.25 more per hour" in refusal_of(answer, pool="zrh").message


def test_idle_order_gets_one_replica_unless_its_floor_is_zero() -> None:
    idle = plan(order(rate=0), [pool()]).configuration
    asleep = plan(order(rate=0, replicas_floor=0), [pool()]).configuration
    assert idle is not None
    assert asleep is not None
    assert (idle.replicas, idle.price_per_million_tokens) == (1, None)
    assert (asleep.replicas, asleep.replicas_ceiling, asleep.cost_per_hour) == (0, 1, 0)


def test_ceiling_below_the_load_is_refused() -> None:
    answer = plan(order(rate=2000, replicas_ceiling=1), [pool()])
    assert refusal_of(answer).reason is Reason.REPLICAS
    assert "the order allows 1" in answer.message


def test_replicas_are_packed_into_nodes() -> None:
    tight = plan(
        order(model=LLAMA_70B, replicas_floor=2, pins=Pins(precision=Precision.BF16)),
        [pool(free=(6, 6, 3))],
    )
    chosen = tight.configuration
    assert chosen is not None
    assert (chosen.tp, chosen.nodes) == (2, ((2,), (0,)))  # the fullest node that has room first
    scattered = plan(order(model=LLAMA_70B, pins=Pins(precision=Precision.BF16)), [pool(free=(1, 1, 1, 1))])
    assert scattered.status is PlanStatus.NO_CAPACITY
    assert "needs 4, 4 free, room for 0 x 4" in refusal_of(scattered, tp=4).message


def test_over_quota_says_which_limit() -> None:
    gpus = plan(order(), [pool()], quota=QuotaState(gpu_limit=4, gpus_used=4))
    assert gpus.status is PlanStatus.OVER_QUOTA
    assert "the quota allows 4 GPUs, 4 are used and 1 more" in gpus.message
    endpoints = plan(order(), [pool()], quota=QuotaState(endpoint_limit=3, endpoints_used=3))
    assert endpoints.status is PlanStatus.OVER_QUOTA
    assert "the quota allows 3 endpoints" in endpoints.message
    assert gpus.alternatives == endpoints.alternatives == ()


def test_residency_nobody_satisfies_says_where_each_cluster_stands_and_what_could_be_had() -> None:
    pools = [pool(), pool(id="us-h100", cluster="us", region="us-east-1", zones=frozenset({"US"}))]
    answer = plan(order(residency="zone:CH"), pools)
    assert answer.status is PlanStatus.IMPOSSIBLE
    assert "cluster fra stands in region eu-de-1" in answer.message
    assert "cluster us stands in region us-east-1" in answer.message
    assert [(one.relaxation, one.value) for one in answer.alternatives] == [
        (Relaxation.RESIDENCY, "region:eu-de-1"),
        (Relaxation.RESIDENCY, "region:us-east-1"),
    ]
    assert all(one.configuration.cost_per_hour == Decimal("2.50") for one in answer.alternatives)


def test_full_cluster_offers_priced_alternatives() -> None:
    pools = [pool(free=(0,)), pool(id="oslo", cluster="oslo", region="eu-no-1", zones=frozenset({"EEA"}))]
    answer = plan(order(), pools, classes=[INTERACTIVE, STANDARD])
    assert answer.status is PlanStatus.NO_CAPACITY
    assert [one.configuration.cluster for one in answer.alternatives] == ["oslo"]


def test_headlines_give_the_nearest_miss_of_each_other_pool() -> None:
    pools = [pool(), pool(id="us", zones=frozenset()), pool(id="zrh", price_per_gpu_hour=Decimal(9))]
    answer = plan(order(), pools)
    assert [(*one.pools, one.reason) for one in answer.headlines()] == [
        ("us", Reason.RESIDENCY),
        ("zrh", Reason.DEARER),
    ]


def test_no_pools_is_an_answer_too() -> None:
    answer = plan(order(), [])
    assert (answer.status, answer.message) == (PlanStatus.IMPOSSIBLE, "no cluster has GPUs")


def test_plan_becomes_json_with_money_as_strings() -> None:
    document = json.loads(json.dumps(plan(order(), [pool()]).to_document()))
    assert document["status"] == "placed"
    assert document["configuration"]["cost_per_hour"] == "2.50"
    assert {refusal["reason"] for refusal in document["refusals"]} >= {"dearer"}
    assert document["front"][0]["chosen"]


def test_order_that_contradicts_itself_names_the_field() -> None:
    for changes, field in (
        ({"context_tokens": 200_000}, "context_tokens"),
        ({"context_tokens": 100}, "profile"),
        ({"pins": Pins(precision=Precision.NVFP4)}, "precision"),
        ({"replicas_floor": 3, "replicas_ceiling": 2}, "replicas_ceiling"),
        ({"replicas_floor": -1}, "replicas_floor"),
        ({"rate": float("nan")}, "requests_per_second"),
    ):
        with pytest.raises(ProblemError) as caught:
            order(**changes)
        assert caught.value.field == field
    with pytest.raises(ProblemError, match="same id"):
        plan(order(), [pool(), pool()])


def test_checker_finds_what_is_wrong_with_a_plan() -> None:
    pools = [pool(), pool(id="zrh", price_per_gpu_hour=Decimal(9))]
    sound = plan(order(), pools)
    assert sound.configuration is not None
    assert faults(order(), pools, sound) == []

    def broken(**changes: object) -> list[str]:
        configuration = dataclasses.replace(sound.configuration, **changes)  # type: ignore[type-var]
        return faults(order(), pools, dataclasses.replace(sound, configuration=configuration))

    assert any("cost" in fault for fault in broken(cost_per_hour=Decimal(1)))
    assert any("ITL" in fault for fault in broken(itl_p95_ms=41.0))
    assert any("faster than memory" in fault for fault in broken(itl_ms=0.1))
    assert any("free GPUs" in fault for fault in broken(nodes=((0,),) * 9))
    assert any("carry the load" in fault for fault in broken(tokens_per_s=1.0))
    assert any(
        "missing" in fault for fault in faults(order(), pools, dataclasses.replace(sound, refusals=()))
    )
    full = [dataclasses.replace(one, free=(0,)) for one in pools]
    assert any("free GPUs" in fault for fault in faults(order(), full, sound))
