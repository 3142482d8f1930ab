"""How a replica is sized for an order: what fits, how large a batch meets the class, how many are needed."""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Callable
from typing import Final

from clusters.planning.performance.memory import fits, memory_for
from clusters.planning.performance.model import PerformanceModel, Shape
from clusters.planning.performance.queueing import Latencies, Queue
from clusters.planning.plans import MemoryBreakdown, Reason
from clusters.planning.problem import Order

#: Largest batch the planner asks an engine for.
BATCH_LIMIT: Final = 256

#: Share of a class's target that an expected p95 may take: some room for the model's error.
LATENCY_MARGIN: Final = 0.8

#: Share of a replica's capacity within the targets that the mean load may take.
UTILISATION_CAP: Final = 0.8

#: Share of the throughput at full batches that is ever counted on: queues grow without end towards 1.
SATURATION: Final = 0.95

#: Rates that are looked at for the largest within the targets.
RATE_STEPS: Final = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizing:
    """How one shape carries one order, wherever its GPUs stand.

    ``for_load`` replicas carry the mean load, ``for_peak`` more the busiest minute, ``spare`` stand by.
    """

    memory: MemoryBreakdown
    max_batch_size: int
    for_load: int
    for_peak: int
    spare: int
    replicas: int
    replicas_floor: int
    replicas_ceiling: int
    expected: Latencies
    tokens_per_s: float
    utilisation: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unfit:
    """Why one shape cannot carry one order, wherever its GPUs stand."""

    reason: Reason
    message: str
    memory: MemoryBreakdown | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Carried:
    """What one replica with a batch limit carries within a class's targets, wherever and however long its context.

    ``capacity`` is in requests per second, 0 where even ``quiet``, the latencies under next to no load, miss the
    targets.
    """

    queue: Queue
    capacity: float
    quiet: Latencies | None = None
    for_load: int = 0
    for_peak: int = 0


#: What is known of the load of one search, by class, shape and batch limit.
Known = dict[tuple[str, Shape, int], Carried]


def size(order: Order, shape: Shape, performance: PerformanceModel, known: Known) -> Sizing | Unfit:
    """Size replicas of ``shape`` for ``order``, or say what forbids it.

    ``known`` is filled, and used for orders of the same load.
    """
    return _Sizer(order, shape, performance).run(known)


class _Sizer:
    def __init__(self, order: Order, shape: Shape, performance: PerformanceModel) -> None:
        self.order, self.shape, self.performance = order, shape, performance
        slo = order.slo
        self.itl_limit = math.inf if slo.itl_p95_ms is None else slo.itl_p95_ms * LATENCY_MARGIN
        self.ttft_limit = math.inf if slo.ttft_p95_ms is None else slo.ttft_p95_ms * LATENCY_MARGIN

    def run(self, known: Known) -> Sizing | Unfit:
        alone = self._memory(1)
        if not fits(alone):
            return Unfit(
                reason=Reason.MEMORY,
                message=_memory_message(alone, self.order.context_tokens),
                memory=alone,
            )
        if self._itl(1) > self.itl_limit:
            return self._too_slow(Reason.ITL, "time between tokens", self._itl(1), alone)
        batch = self._largest_batch()
        key = self.order.slo.name, self.shape, batch
        if key not in known:
            known[key] = self._carried(batch)
        carried = known[key]
        quiet = carried.quiet
        if quiet is None:
            return self._replicas(batch, carried, alone)
        if quiet.itl_p95_ms > self.itl_limit:
            return self._too_slow(Reason.ITL, "time between tokens", quiet.itl_p95_ms, alone)
        return self._too_slow(Reason.TTFT, "time to first token", quiet.ttft_p95_ms, alone)

    def _carried(self, batch: int) -> Carried:
        profile = self.order.profile
        full_rate = 1000 * batch / self._itl(batch) / profile.output_tokens
        queue = Queue(
            self.performance, self.shape, profile,
            batch_limit=batch, step_tokens=self.order.tuning.max_num_tokens,
        )  # fmt: skip
        capacity, quiet = self._largest_rate(queue, full_rate)
        if quiet is not None:
            return Carried(queue=queue, capacity=capacity, quiet=quiet)
        for_load = max(1, math.ceil(profile.requests_per_second / (UTILISATION_CAP * capacity)))
        return Carried(
            queue=queue,
            capacity=capacity,
            for_load=for_load,
            for_peak=self._for_peak(queue, capacity, for_load),
        )

    def _replicas(self, batch: int, carried: Carried, alone: MemoryBreakdown) -> Sizing | Unfit:
        order, rate = self.order, self.order.profile.requests_per_second
        for_load, for_peak, capacity = carried.for_load, carried.for_peak, carried.capacity
        most = order.replicas_ceiling
        if most is not None and for_load > most:
            return Unfit(
                reason=Reason.REPLICAS,
                message=f"{rate:g} requests/s need {for_load} replicas of {capacity:.3g} requests/s each at "
                f"{UTILISATION_CAP:.0%}; the order allows {most}",
                memory=alone,
            )
        wanted = for_load + for_peak + order.slo.spare_replicas
        replicas = wanted if most is None else min(wanted, most)
        if order.replicas_floor is not None:
            # A floor of none says that nothing need run while nobody asks.
            replicas = max(order.replicas_floor, replicas if rate or order.replicas_floor else 0)
        floor = order.replicas_floor
        if floor is None:
            floor = min(for_load + order.slo.spare_replicas, replicas)
        return Sizing(
            memory=self._memory(batch),
            max_batch_size=batch,
            for_load=min(for_load, replicas),
            for_peak=max(0, min(for_peak, replicas - for_load)),
            spare=max(0, replicas - for_load - for_peak),
            replicas=replicas,
            replicas_floor=floor,
            replicas_ceiling=max(1, replicas) if most is None else most,
            # Fewer replicas than busy minutes need are the order's own wish: its times are those of the others.
            expected=carried.queue.under(
                rate,
                replicas=max(1, replicas),
                burstiness=order.profile.burstiness if replicas >= for_load + for_peak else 1.0,
            ),
            tokens_per_s=capacity * order.profile.output_tokens * replicas,
            utilisation=rate / max(1, replicas) / capacity,
        )

    def _for_peak(self, queue: Queue, capacity: float, for_load: int) -> int:
        """Count the replicas beyond ``for_load`` with which busy minutes keep the targets too.

        Those are the minutes that the queueing model draws by itself and, as busy ones come in a row, the
        busiest as a steady load.
        """
        profile = self.order.profile
        if profile.burstiness == 1 or not self.order.slo.is_latency_bound:
            return 0
        rate = profile.requests_per_second
        least = max(for_load, math.ceil(rate * profile.burstiness / capacity))

        def keeps(replicas: int) -> bool:
            return self._keeps(queue, rate, replicas=replicas)

        if keeps(least):
            return least - for_load
        return _smallest(least + 1, 2 * least + 1, keeps) - for_load

    def _largest_batch(self) -> int:
        cap = min(each for each in (BATCH_LIMIT, self.order.tuning.max_batch_size) if each is not None)
        if self.order.pins.max_batch_size is not None:
            cap = min(cap, self.order.pins.max_batch_size)
        return _largest(cap, lambda batch: self._itl(batch) <= self.itl_limit and fits(self._memory(batch)))

    def _largest_rate(self, queue: Queue, full_rate: float) -> tuple[float, Latencies | None]:
        """Find the largest steady rate of one replica at which the p95s keep the targets.

        Where none does, it is 0 and the latencies at the smallest come with it.
        """

        def rate(step: int) -> float:
            # Closer together where rates are low: there a step would be a large part of them.
            return full_rate * SATURATION * (step / RATE_STEPS) ** 2

        def keeps(step: int) -> bool:
            return self._keeps(queue, rate(step), burstiness=1.0)

        if not keeps(1):
            return 0.0, queue.under(rate(1), burstiness=1.0)
        return rate(_largest(RATE_STEPS, keeps)), None

    def _keeps(
        self, queue: Queue, rate: float, *, replicas: int = 1, burstiness: float | None = None
    ) -> bool:
        return queue.keeps(
            rate,
            replicas=replicas,
            burstiness=burstiness,
            ttft_p95_ms=self.ttft_limit,
            itl_p95_ms=self.itl_limit,
        )

    def _itl(self, batch: int) -> float:
        profile = self.order.profile
        return self.performance.itl_ms(
            self.shape,
            concurrency=float(batch),
            input_tokens=profile.fresh_tokens,
            output_tokens=float(profile.output_tokens),
        )

    def _memory(self, batch: int) -> MemoryBreakdown:
        order = self.order
        return memory_for(
            self.shape.architecture, self.shape.gpu, self.shape.precision, tp=self.shape.tp, pp=self.shape.pp,
            context_tokens=order.context_tokens,
            cached_tokens=max(order.context_tokens, batch * order.profile.tokens_per_request),
            requests=batch,
            step_tokens=order.tuning.max_num_tokens,
            cache_share=order.tuning.kv_cache_fraction,
        )  # fmt: skip

    def _too_slow(self, reason: Reason, what: str, time_ms: float, memory: MemoryBreakdown) -> Unfit:
        slo = self.order.slo
        target = slo.itl_p95_ms if reason is Reason.ITL else slo.ttft_p95_ms
        assert target is not None
        return Unfit(
            reason=reason,
            message=f"{what} {_figure(time_ms)} ms even with nothing else to do > {target * LATENCY_MARGIN:g} ms, "
            f"{LATENCY_MARGIN:.0%} of the {target:g} ms of class {slo.name}",
            memory=memory,
        )


def _largest(limit: int, holds: Callable[[int], bool]) -> int:
    """Largest number up to ``limit`` for which ``holds``; it holds for 1 and up to some number."""
    return 1 + bisect.bisect_left(range(2, limit + 1), True, key=lambda number: not holds(number))


def _smallest(least: int, limit: int, holds: Callable[[int], bool]) -> int:
    """Smallest number from ``least`` on for which ``holds``, ``limit`` where it is taken to hold."""
    return least + bisect.bisect_left(range(least, limit), True, key=holds)


def _figure(time_ms: float) -> str:
    return f"{time_ms:.0f}" if time_ms >= 100 else f"{time_ms:.3g}"


def _memory_message(memory: MemoryBreakdown, context_tokens: int) -> str:
    return (
        f"needs {memory.needed_gib:.1f} GiB on each GPU (weights {memory.weights_gib:.1f}, KV cache "
        f"{memory.kv_gib:.1f} for {context_tokens} tokens, activations {memory.activations_gib:.1f}, "
        f"framework {memory.framework_gib:.1f}); it has {memory.available_gib:.1f} GiB, "
        f"{memory.kv_available_gib:.1f} of them for the cache"
    )
