"""The planner: one order over 20 clusters with 8 GPU types, fleets, what to buy, and how right estimates are."""

from __future__ import annotations

import dataclasses
import random
import time
from decimal import Decimal
from typing import Final

from bench.tools import composition, estimates, fleet, queueing
from bench.tools.figures import Figures, quantiles
from clusters.planning.architecture import Architecture
from clusters.planning.gpus import gpu_catalog
from clusters.planning.plans import Plan, PlanStatus
from clusters.planning.problem import LoadProfile, ModelSpec, Order, Pool, Precision, SloTargets
from clusters.planning.search.order import plan

CLUSTERS: Final = 20
GPU_TYPES: Final = ("l4", "l40s", "a100_pcie", "a100_sxm", "h100_sxm", "h200_sxm", "b200_sxm", "gb200")
REGIONS: Final = (("eu-de-1", "EU"), ("eu-fi-1", "EU"), ("us-east-1", "US"), ("ap-jp-1", "JP"))
NODES: Final = 8
REPEATS: Final = 60
SEED: Final = 8

MODEL: Final = ModelSpec(
    name="llama-3.1-70b",
    architecture=Architecture(
        parameters_total=70_550_000_000,
        parameters_active=70_550_000_000,
        layers=80,
        hidden_size=8192,
        heads=64,
        kv_heads=8,
        head_size=128,
        vocabulary=128_256,
    ),
    context_limit=131_072,
    precisions=(Precision.FP8, Precision.BF16, Precision.INT4),
    runtimes=("triton-llmapi",),
    licence="llama3.1",
)
CLASSES: Final = (
    SloTargets(
        name="interactive",
        ttft_p95_ms=500,
        itl_p95_ms=40,
        availability=Decimal("99.9"),
        price_factor=Decimal("1.5"),
    ),
    SloTargets(name="standard", ttft_p95_ms=2000, itl_p95_ms=80, availability=Decimal("99.5")),
    SloTargets(name="batch", ttft_p95_ms=None, itl_p95_ms=None, availability=Decimal(99)),
)
ORDER: Final = Order(
    model=MODEL,
    slo=CLASSES[1],
    residency="zone:EU",
    profile=LoadProfile(requests_per_second=4, input_tokens=1000, output_tokens=300),
    context_tokens=16_384,
)


def measure() -> Figures:
    """Measure one order, the speed model against measurements, queueing against simulation, fleets, purchases."""
    return {
        **_one_order(),
        **estimates.measure(),
        **queueing.measure(),
        **fleet.measure(),
        **composition.measure(),
    }


def _one_order() -> Figures:
    """Plan an order that finds its place, a bursty one that may run anywhere, one that finds all GPUs taken, and one
    that no GPU can serve.

    The last two also search for alternatives in other regions and classes.
    """
    pools = _pools()
    taken = [dataclasses.replace(pool, free=(0,) * NODES) for pool in pools]
    bursty = dataclasses.replace(ORDER.profile, burstiness=1.5, requests_per_second=40)
    anywhere = dataclasses.replace(ORDER, residency="global", profile=bursty)
    strict = dataclasses.replace(CLASSES[0], ttft_p95_ms=0.5)
    return {
        "pools": len(pools),
        **_timed("placed", ORDER, pools, PlanStatus.PLACED),
        **_timed("anywhere", anywhere, pools, PlanStatus.PLACED),
        **_timed("no_capacity", ORDER, taken, PlanStatus.NO_CAPACITY),
        **_timed("impossible", dataclasses.replace(ORDER, slo=strict), pools, PlanStatus.IMPOSSIBLE),
    }


def _timed(name: str, order: Order, pools: list[Pool], expected: PlanStatus) -> Figures:
    spent_ms: list[float] = []
    busy_ms: list[float] = []
    answer: Plan | None = None
    for _ in range(REPEATS):
        begun, busy = time.perf_counter(), time.process_time()
        answer = plan(order, pools, classes=CLASSES)
        spent_ms.append((time.perf_counter() - begun) * 1000)
        busy_ms.append((time.process_time() - busy) * 1000)
    assert answer is not None
    if answer.status is not expected:
        raise RuntimeError(f"the order {name} was answered {answer.status}: {answer.message}")
    return {
        **quantiles(name, spent_ms, "ms"),
        **quantiles(f"{name}_cpu", busy_ms, "ms", percents=(50,)),
        f"{name}_refusals": len(answer.refusals),
        f"{name}_alternatives": len(answer.alternatives),
    }


def _pools() -> list[Pool]:
    rng = random.Random(SEED)
    found = []
    for number in range(CLUSTERS):
        region, zone = REGIONS[number % len(REGIONS)]
        for gpu_type in GPU_TYPES:
            gpu = gpu_catalog()[gpu_type]
            each = gpu.gpus_per_node
            found.append(
                Pool(
                    id=f"cluster-{number:02}/{gpu_type}",
                    cluster=f"cluster-{number:02}",
                    region=region,
                    zones=frozenset({zone}),
                    gpu=gpu,
                    gpus_per_node=each,
                    free=tuple(rng.randint(0, each) for _ in range(NODES)),
                    price_per_gpu_hour=Decimal(rng.randint(60, 700)) / 100,
                    runtimes=frozenset({"triton-llmapi", "triton-python"}),
                )
            )
    return found
