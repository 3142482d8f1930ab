"""A candidate that could be chosen, and the configuration that comes of it."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import Final

from clusters.planning.performance.memory import CACHE_BYTES
from clusters.planning.performance.model import PerformanceModel, Shape
from clusters.planning.placement.nodes import nodes_for
from clusters.planning.plans import Configuration, Headroom, Technique
from clusters.planning.problem import Order, Pool, Precision
from clusters.planning.residency import residency_allows
from clusters.planning.search.sizing import Sizing
from clusters.specs import Tuning

#: How much more a place may cost that is near what the order wants to be near to.
NEAR_WORTH: Final = Decimal("0.1")

_COST_PLACES: Final = Decimal("0.000001")
_CACHED_IN_FP8: Final = frozenset({Precision.FP8, Precision.NVFP4})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fit:
    """A candidate that could be chosen."""

    pool: Pool
    runtime: str
    shape: Shape
    sizing: Sizing

    @property
    def cost(self) -> Decimal:
        """What fits are compared by: GPUs times price per hour, at no replicas that of one."""
        return self.pool.price_per_gpu_hour * self.shape.gpus * max(1, self.sizing.replicas)

    def price(self, order: Order) -> Decimal:
        """What is charged per hour: of no replicas nothing."""
        return self.pool.price_per_gpu_hour * self.shape.gpus * self.sizing.replicas * order.slo.price_factor

    def worth(self, order: Order) -> Decimal:
        """The cost as it is compared: dearer where the order would rather be near another place."""
        return self.cost if _is_near(order, self.pool) else self.cost * (1 + NEAR_WORTH)

    def rank(self, order: Order) -> tuple[Decimal, bool, int, str, int, int, int]:
        """Cheapest first, then weights that lie there, fewer GPUs, the pool, the model's preference, TP, PP."""
        return (
            self.worth(order),
            order.model.name not in self.pool.cached,
            self.shape.gpus * self.sizing.replicas,
            self.pool.id,
            order.model.precisions.index(self.shape.precision),
            self.shape.tp,
            self.shape.pp,
        )


def _is_near(order: Order, pool: Pool) -> bool:
    if not order.near:
        return True
    return any(
        residency_allows(f"{kind}:{order.near}", pool.region, pool.zones) for kind in ("region", "zone")
    )


def configuration(order: Order, fit: Fit, performance: PerformanceModel) -> Configuration:
    """Write a fit out as the configuration that is quoted and deployed."""
    pool, shape, sizing, profile = fit.pool, fit.shape, fit.sizing, order.profile
    each = pool.price_per_gpu_hour * shape.gpus
    cost = each * sizing.replicas
    price = fit.price(order)
    tokens = Decimal(str(profile.requests_per_second)) * profile.output_tokens * 3600
    confidence = performance.confidence(shape)
    expected = sizing.expected
    tuning = planned_tuning(order, fit)
    return Configuration(
        pool=pool.id,
        cluster=pool.cluster,
        region=pool.region,
        gpu=pool.gpu.name,
        runtime=fit.runtime,
        precision=shape.precision,
        tp=shape.tp,
        pp=shape.pp,
        replicas=sizing.replicas,
        replicas_floor=sizing.replicas_floor,
        replicas_ceiling=sizing.replicas_ceiling,
        max_batch_size=sizing.max_batch_size,
        ttft_ms=expected.ttft_mean_ms,
        ttft_p95_ms=expected.ttft_p95_ms,
        itl_ms=expected.itl_mean_ms,
        itl_p95_ms=expected.itl_p95_ms,
        answer_ms=answer_ms(order, sizing),
        tokens_per_s=sizing.tokens_per_s,
        utilisation=sizing.utilisation,
        performance_source=confidence.source,
        itl_error=confidence.itl_error,
        ttft_error=confidence.ttft_error,
        memory=sizing.memory,
        price_per_gpu_hour=pool.price_per_gpu_hour,
        cost_per_hour=cost,
        price_per_hour=price,
        price_per_million_tokens=(price * 1_000_000 / tokens).quantize(_COST_PLACES) if tokens else None,
        headroom=Headroom(
            for_load=sizing.for_load,
            for_peak=sizing.for_peak,
            spare=sizing.spare,
            price_per_hour=each * (sizing.for_peak + sizing.spare) * order.slo.price_factor,
        ),
        nodes=nodes_for(
            pool.free, shape.gpus, sizing.replicas, gpus_per_node=pool.gpus_per_node, domains=pool.domains,
            spread=order.slo.spare_replicas > 0,
        ) or (),
        tuning=tuning,
        techniques=techniques(order, fit, tuning),
        declared=pool.declared,
        weights_cached=order.model.weights_local or order.model.name in pool.cached,
    )  # fmt: skip


def answer_ms(order: Order, sizing: Sizing) -> float:
    """Milliseconds of a whole mean answer at the declared load."""
    return sizing.expected.ttft_mean_ms + sizing.expected.itl_mean_ms * (order.profile.output_tokens - 1)


def planned_tuning(order: Order, fit: Fit) -> Tuning:
    """Give the class's engine settings as this plan needs them."""
    tuning = dataclasses.replace(order.tuning, max_batch_size=fit.sizing.max_batch_size)
    if fit.shape.precision in _CACHED_IN_FP8 and tuning.kv_cache_dtype == "auto":
        # The planner counts one byte for a cached number where weights are that small.
        return dataclasses.replace(tuning, kv_cache_dtype="fp8")
    return tuning


def techniques(order: Order, fit: Fit, tuning: Tuning) -> tuple[Technique, ...]:
    """Say which techniques are on, and why."""
    shape, sizing, profile, slo = fit.shape, fit.sizing, order.profile, order.slo
    target = "the class has no latency target" if not slo.is_latency_bound else f"class {slo.name} is kept so"
    native = shape.precision not in order.model.made
    cache_bits = 8 if tuning.kv_cache_dtype == "fp8" else 8 * CACHE_BYTES[shape.precision]
    found = [
        Technique(
            name="Weights",
            setting=shape.precision.value,
            why="the checkpoint's own precision" if native
            else order.model.quality[shape.precision].note,
        ),
        Technique(
            name="KV cache",
            setting=f"{cache_bits} bit",
            why="as small weights carry scales for it" if cache_bits == 8 else "the engine's own choice",
        ),
        Technique(
            name="Parallelism",
            setting=parallelism(shape),
            why="one GPU holds it and is fast enough" if shape.gpus == 1
            else "stages hold what no group of one node can" if shape.pp > 1
            else "the cheapest group that holds it and keeps the targets",
        ),
        Technique(
            name="In-flight batching",
            setting=f"up to {sizing.max_batch_size} requests",
            why=f"the most that memory and targets allow: {target}",
        ),
        Technique(
            name="Chunked prefill",
            setting=f"chunks of {tuning.max_num_tokens} tokens" if tuning.chunked_prefill else "off",
            why="long prompts share steps with running answers, which wait less" if tuning.chunked_prefill
            else "off in the settings of the class",
        ),
        Technique(
            name="Prefix reuse",
            setting="on" if tuning.kv_block_reuse else "off",
            why=_reuse(profile.prefix_share) if tuning.kv_block_reuse else "off in the settings of the class",
        ),
        Technique(
            name="Speculative decoding",
            setting="off",
            why="its gain depends on how often drafts are accepted, which nobody has measured for this load",
        ),
    ]  # fmt: skip
    return tuple(found)


def _reuse(share: float) -> str:
    expected = f", {share:.0%} of the input as expected" if share else ""
    return f"what prompts begin with alike is read once{expected}"


def parallelism(shape: Shape) -> str:
    """Write the parallelism of a shape for people."""
    return f"TP {shape.tp}" if shape.pp == 1 else f"TP {shape.tp} x PP {shape.pp}"
