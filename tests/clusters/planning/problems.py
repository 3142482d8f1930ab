"""Orders and pools for the planner's tests: some real shapes, and strategies that make many more."""

from __future__ import annotations

import dataclasses
from decimal import Decimal

from hypothesis import strategies as st

from clusters.planning.architecture import Architecture
from clusters.planning.gpus import gpu_catalog
from clusters.planning.problem import (
    LoadProfile,
    ModelSpec,
    Order,
    Pins,
    Pool,
    PoolState,
    Precision,
    QuotaState,
    SloTargets,
)

ENGINES = frozenset({"triton-llmapi", "triton-python"})

LLAMA_8B = ModelSpec(
    name="llama-3.1-8b",
    architecture=Architecture(
        parameters_total=8_030_000_000,
        parameters_active=8_030_000_000,
        layers=32,
        hidden_size=4096,
        heads=32,
        kv_heads=8,
        head_size=128,
        vocabulary=128_256,
    ),
    context_limit=131_072,
    precisions=(Precision.BF16, Precision.FP8),
    runtimes=("triton-llmapi",),
    licence="llama3.1",
)
LLAMA_70B = dataclasses.replace(
    LLAMA_8B,
    name="llama-3.1-70b",
    architecture=dataclasses.replace(
        LLAMA_8B.architecture,
        parameters_total=70_550_000_000,
        parameters_active=70_550_000_000,
        layers=80,
        hidden_size=8192,
        heads=64,
    ),
    precisions=(Precision.FP8, Precision.BF16, Precision.INT4),
)
EXPERTS = dataclasses.replace(
    LLAMA_8B,
    name="experts-47b",
    architecture=dataclasses.replace(
        LLAMA_8B.architecture, parameters_total=46_700_000_000, parameters_active=12_900_000_000
    ),
    precisions=(Precision.BF16, Precision.NVFP4),
    zones=frozenset({"EU"}),
)
NGRAM = ModelSpec(
    name="ngram",
    architecture=Architecture(
        parameters_total=250_000,
        parameters_active=250_000,
        layers=1,
        hidden_size=64,
        heads=1,
        kv_heads=1,
        head_size=64,
        vocabulary=4096,
    ),
    context_limit=4096,
    precisions=(Precision.BF16,),
    runtimes=("triton-python",),
)

INTERACTIVE = SloTargets(
    name="interactive",
    ttft_p95_ms=500,
    itl_p95_ms=40,
    availability=Decimal("99.9"),
    price_factor=Decimal("1.5"),
)
STANDARD = SloTargets(name="standard", ttft_p95_ms=2000, itl_p95_ms=80, availability=Decimal("99.5"))
BATCH = SloTargets(name="batch", ttft_p95_ms=None, itl_p95_ms=None, availability=Decimal(99))

BASE_POOL = Pool(
    id="fra-h100",
    cluster="fra",
    region="eu-de-1",
    zones=frozenset({"EU", "EEA"}),
    gpu=gpu_catalog()["h100_sxm"],
    gpus_per_node=8,
    free=(8, 8),
    price_per_gpu_hour=Decimal("2.50"),
    runtimes=ENGINES,
    certifications=frozenset({"iso27001"}),
)

BASE_ORDER = Order(
    model=LLAMA_8B,
    slo=INTERACTIVE,
    residency="zone:EU",
    profile=LoadProfile(requests_per_second=2, input_tokens=512, output_tokens=128),
    context_tokens=8192,
)


def pool(**changes: object) -> Pool:
    """The base pool, changed; ``gpu`` may be a name of the catalog."""
    if isinstance(changes.get("gpu"), str):
        changes["gpu"] = gpu_catalog()[str(changes["gpu"])]
    return dataclasses.replace(BASE_POOL, **changes)


def order(**changes: object) -> Order:
    """The base order, changed; ``rate`` changes the request rate."""
    if "rate" in changes:
        changes["profile"] = dataclasses.replace(BASE_ORDER.profile, requests_per_second=changes.pop("rate"))
    return dataclasses.replace(BASE_ORDER, **changes)


@st.composite
def pool_lists(draw: st.DrawFn) -> list[Pool]:
    """Up to six pools over a few regions and GPU types, some full, cordoned or away."""
    places = {"eu-de-1": {"EU", "EEA"}, "eu-no-1": {"EEA"}, "us-east-1": {"US"}, "": set()}
    likely = ["eu-de-1"] * 4 + sorted(places)
    pools = []
    for index in range(draw(st.sampled_from([4, 6, 2, 1, 0]))):
        region = draw(st.sampled_from(likely))
        per_node = draw(st.sampled_from([8, 8, 4, 2, 1]))
        pools.append(
            pool(
                id=f"p{index}",
                cluster=f"c{index // 2}",
                region=region,
                zones=frozenset(places[region]),
                gpu=draw(st.sampled_from(["l4", "l40s", "a100_sxm", "h100_sxm", "b200_sxm"])),
                gpus_per_node=per_node,
                free=tuple(draw(st.lists(st.sampled_from([per_node, per_node // 2, 1, 0]), max_size=6))),
                price_per_gpu_hour=Decimal(draw(st.integers(0, 12))) / 4,
                runtimes=draw(st.sampled_from([*[ENGINES] * 5, frozenset({"triton-llmapi"}), frozenset()])),
                certifications=draw(st.sampled_from([frozenset({"iso27001"})] * 3 + [frozenset()])),
                state=draw(st.sampled_from([*[PoolState.ACTIVE] * 5, *PoolState])),
            )
        )
    return pools


@st.composite
def orders(draw: st.DrawFn) -> Order:
    """Orders over four models and three classes, with and without wishes."""
    model = draw(st.sampled_from([LLAMA_8B, LLAMA_70B, EXPERTS, NGRAM]))
    floor = draw(st.sampled_from([None, None, 0, 1, 3]))
    return order(
        model=model,
        slo=draw(st.sampled_from([INTERACTIVE, STANDARD, BATCH])),
        residency=draw(
            st.sampled_from(
                [*["global", "zone:EU", "zone:EEA"] * 4, "region:us-east-1", "zone:XX", "region:", "EU"]
            )
        ),
        profile=LoadProfile(
            requests_per_second=draw(st.sampled_from([0, 0.01, 0.5, 1.0, 4.0, 30.0, 5000.0])),
            input_tokens=draw(st.sampled_from([16, 512, 2000])),
            output_tokens=draw(st.sampled_from([128, 256, 1000, 1])),
            burstiness=draw(st.sampled_from([1.0, 3.8])),
        ),
        context_tokens=draw(st.sampled_from([3000, 4096])),
        certifications=draw(st.sampled_from([frozenset(), frozenset({"iso27001"})])),
        replicas_floor=floor,
        replicas_ceiling=draw(st.sampled_from([None, None, 3, 10])),
        pins=Pins(precision=draw(st.sampled_from([None, None, *model.precisions]))),
    )


def quotas() -> st.SearchStrategy[QuotaState]:
    """No quota, a roomy one, a tight one and one that is used up."""
    return st.builds(
        QuotaState,
        gpu_limit=st.sampled_from([None, None, 2, 16]),
        gpus_used=st.integers(0, 3),
        endpoint_limit=st.sampled_from([None, None, 2]),
        endpoints_used=st.integers(0, 2),
    )
