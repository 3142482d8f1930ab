"""How a replica is sized for an order: what fits, how large a batch meets the class, how many are needed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Final

from clusters.planning.performance.memory import fits, memory_for
from clusters.planning.performance.model import PerformanceModel, Shape
from clusters.planning.plans import MemoryBreakdown, Reason
from clusters.planning.problem import Order

#: Largest batch the planner asks an engine for.
BATCH_LIMIT: Final = 256

#: Share of a class's target that an expected mean may take: some room for the p95 and the model's error,
#: less than the roofline's error at its worst.
LATENCY_MARGIN: Final = 0.8

#: Share of a replica's throughput that the mean load may take, where someone waits and where nobody does.
UTILISATION_CAP: Final = 0.7
UTILISATION_CAP_UNBOUND: Final = 0.9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizing:
    """How one shape carries one order, wherever its GPUs stand."""

    memory: MemoryBreakdown
    max_batch_size: int
    replicas: int
    replicas_floor: int
    replicas_ceiling: int
    ttft_ms: float
    itl_ms: float
    tokens_per_s: float
    utilisation: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unfit:
    """Why one shape cannot carry one order, wherever its GPUs stand."""

    reason: Reason
    message: str
    memory: MemoryBreakdown | None = None


def utilisation_cap(order: Order) -> float:
    """Share of the throughput within the targets that the order's mean load may take."""
    return UTILISATION_CAP if order.slo.is_latency_bound else UTILISATION_CAP_UNBOUND


def size(order: Order, shape: Shape, performance: PerformanceModel) -> Sizing | Unfit:
    """Size replicas of ``shape`` for ``order``, or say what forbids it."""
    profile, slo = order.profile, order.slo

    def memory_of(batch: int) -> MemoryBreakdown:
        return memory_for(
            shape.architecture, shape.gpu, shape.precision, tp=shape.tp, context_tokens=order.context_tokens,
            cached_tokens=max(order.context_tokens, batch * profile.tokens_per_request),
        )  # fmt: skip

    def itl_of(batch: int) -> float:
        return performance.itl_ms(
            shape, concurrency=batch, input_tokens=profile.input_tokens, output_tokens=profile.output_tokens
        )

    alone = memory_of(1)
    if not fits(alone):
        return Unfit(reason=Reason.MEMORY, message=_memory_message(alone, order.context_tokens), memory=alone)

    itl_limit = math.inf if slo.itl_p95_ms is None else slo.itl_p95_ms * LATENCY_MARGIN
    if itl_of(1) > itl_limit:
        return Unfit(
            reason=Reason.ITL,
            message=f"expects {itl_of(1):.1f} ms between tokens even alone; class {slo.name} allows "
            f"{slo.itl_p95_ms:g} ms, of which {itl_limit:g} ms are planned with",
            memory=alone,
        )
    batch = _largest(BATCH_LIMIT, lambda size: fits(memory_of(size)) and itl_of(size) <= itl_limit)
    per_replica = 1000 * batch / itl_of(batch)
    offered = profile.output_tokens_per_s
    cap = utilisation_cap(order)
    needed = math.ceil(offered / (cap * per_replica))
    floor = max(1, needed) if order.replicas_floor is None else order.replicas_floor
    if order.replicas_floor is None and order.replicas_ceiling is not None:
        floor = min(floor, order.replicas_ceiling)
    if order.replicas_ceiling is not None and needed > order.replicas_ceiling:
        return Unfit(
            reason=Reason.REPLICAS,
            message=f"the load of {offered:g} output tokens/s needs {needed} replicas of {per_replica:.0f} "
            f"tokens/s at {cap:.0%} utilisation; the order allows {order.replicas_ceiling}",
            memory=alone,
        )
    replicas = max(floor, needed)
    peak = math.ceil(offered * profile.burstiness / (cap * per_replica))
    ceiling = max(1, replicas, peak) if order.replicas_ceiling is None else order.replicas_ceiling

    share = offered / max(1, replicas)
    running = min(batch, 1 + _largest(BATCH_LIMIT, lambda size: 1000 * size / itl_of(size) < share, least=0))
    itl = itl_of(running)
    utilisation = share / per_replica
    ttft = _ttft_ms(performance.first_token_ms(shape, input_tokens=profile.input_tokens), itl, utilisation)
    if slo.ttft_p95_ms is not None and ttft > slo.ttft_p95_ms * LATENCY_MARGIN:
        return Unfit(
            reason=Reason.TTFT,
            message=f"expects the first token after {ttft:.0f} ms; class {slo.name} allows "
            f"{slo.ttft_p95_ms:g} ms, of which {slo.ttft_p95_ms * LATENCY_MARGIN:g} ms are planned with",
            memory=alone,
        )
    return Sizing(
        memory=memory_of(batch),
        max_batch_size=batch,
        replicas=replicas,
        replicas_floor=floor,
        replicas_ceiling=ceiling,
        ttft_ms=ttft,
        itl_ms=itl,
        tokens_per_s=per_replica * replicas,
        utilisation=utilisation,
    )


def _largest(limit: int, holds: Callable[[int], bool], *, least: int = 1) -> int:
    """Largest size up to ``limit`` for which ``holds``; it holds for ``least`` and up to some size."""
    low, high = least, limit
    while low < high:
        middle = (low + high + 1) // 2
        if holds(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _ttft_ms(first_token_ms: float, itl_ms: float, utilisation: float) -> float:
    """Mean time to first token: the step under way, the wait of an M/D/1 queue, and the prompt itself."""
    wait = first_token_ms * utilisation / (2 * (1 - utilisation))
    return itl_ms + wait + first_token_ms


def _memory_message(memory: MemoryBreakdown, context_tokens: int) -> str:
    return (
        f"needs {memory.needed_gib:.1f} GiB on each GPU (weights {memory.weights_gib:.1f}, KV cache "
        f"{memory.kv_gib:.1f} for {context_tokens} tokens, activations {memory.activations_gib:.1f}, "
        f"framework {memory.framework_gib:.1f}); it has {memory.available_gib:.1f} GiB, "
        f"{memory.kv_available_gib:.1f} of them for the cache"
    )
