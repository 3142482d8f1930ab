"""The search: every pool x precision x parallelism is either chosen or refused with a reason."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from clusters.planning.performance.best import default_model
from clusters.planning.performance.memory import fits, memory_for
from clusters.planning.performance.model import PerformanceModel, Shape
from clusters.planning.placement.nodes import replicas_that_fit
from clusters.planning.plans import (
    Alternative,
    MemoryBreakdown,
    Plan,
    PlanStatus,
    Reason,
    Refusal,
    Relaxation,
    price_text,
)
from clusters.planning.problem import (
    Order,
    Pool,
    PoolState,
    Precision,
    ProblemError,
    QuotaState,
    SloTargets,
)
from clusters.planning.residency import residency_allows
from clusters.planning.rules import Kind, kind_of, pool_fault, precision_fault, shape_fault
from clusters.planning.search import answers
from clusters.planning.search.fits import Fit, configuration, parallelism
from clusters.planning.search.sizing import Known, Sizing, Unfit, size

#: Tensor-parallel degrees that are tried, each within one node.
TENSOR_PARALLEL: Final = (1, 2, 4, 8)

#: Pipeline stages that are tried where no tensor-parallel group of as many GPUs holds the model.
PIPELINE_PARALLEL: Final = (1, 2, 4)

#: Alternatives that each relaxed demand may contribute, the cheapest clusters first.
ALTERNATIVES_EACH: Final = 3


def plan(
    order: Order,
    pools: Iterable[Pool],
    *,
    quota: QuotaState | None = None,
    classes: Sequence[SloTargets] = (),
    performance: PerformanceModel | None = None,
) -> Plan:
    """Find the cheapest configuration that may lawfully run and meets the class, with reasons for the rest.

    The order of ``pools`` does not matter. Equal costs are decided by weights that lie there already, then by
    fewer GPUs, then by the pool's id and the model's preference of precisions. A place near what the order wants
    to be near to may cost :data:`~clusters.planning.search.fits.NEAR_WORTH` more. ``classes`` are other SLO
    classes to look at for alternatives, which are given when the order cannot be placed as it stands. Quota is
    not relaxed.

    Raises:
        ProblemError: two pools have one id.
    """
    search = Search(
        pools=tuple(sorted(pools, key=lambda pool: pool.id)),
        quota=quota or QuotaState(),
        performance=performance or default_model(),
    )
    found, refusals = search.run(order)
    if not found:
        status = answers.status_without_choice(refusals)
        return Plan(
            status=status,
            message=answers.unplaced_message(status, order, refusals),
            configuration=None,
            refusals=tuple(refusals),
            alternatives=search.alternatives(order, classes),
        )
    chosen = min(found, key=lambda fit: fit.rank(order))
    answer = configuration(order, chosen, search.performance)
    rest = [answers.dearer(fit, chosen, order) for fit in found if fit is not chosen]
    return Plan(
        status=PlanStatus.PLACED,
        message=answers.placed_message(answer),
        configuration=answer,
        refusals=(*refusals, *rest),
        alternatives=(),
        front=answers.front(order, found, chosen),
        pin_costs=tuple(
            answers.pin_cost(name, value, order, chosen, search.cheapest(_without_pin(order, name)))
            for name, value in order.pins.set().items()
        ),
        next_context=answers.next_context(order, chosen, search.cheapest),
        disaggregated=answers.disaggregated(order, chosen, search.performance),
    )


class Search:
    """Judges candidates for orders of one load, each shape once."""

    def __init__(self, *, pools: tuple[Pool, ...], quota: QuotaState, performance: PerformanceModel) -> None:
        if len({pool.id for pool in pools}) != len(pools):
            raise ProblemError("pools", "two pools have the same id")
        self.pools = pools
        self.quota = quota
        self.performance = performance
        # Orders of one search differ in class, context, places, certifications and pins, never in their load.
        self._sizings: dict[tuple[str, int, int | None, Shape], Sizing | Unfit] = {}
        self._known: Known = {}
        self._parallel: dict[tuple[Kind, Precision, int | None, int | None], tuple[Shape, ...]] = {}

    def run(self, order: Order) -> tuple[list[Fit], list[Refusal]]:
        """Judge every candidate: give those that could be chosen, and the refusals of the others."""
        found: list[Fit] = []
        refusals: list[Refusal] = []
        kinds: dict[Kind, list[Pool]] = {}
        for pool in self.pools:
            fault = pool_fault(order, pool)
            if fault is None:
                kinds.setdefault(kind_of(order, pool), []).append(pool)
            else:
                refusals.append(_refusal([pool], fault))
        for kind, pools in kinds.items():
            for outcome in self._judge(order, kind, pools):
                if isinstance(outcome, Fit):
                    found.append(outcome)
                else:
                    refusals.append(outcome)
        return found, refusals

    def cheapest(self, order: Order, pools: Iterable[Pool] | None = None) -> Fit | None:
        """Give the fit that ``run`` would put first among ``pools``, without judging what cannot be it."""
        there = self.pools if pools is None else pools
        usable = (pool for pool in there if pool.state is PoolState.ACTIVE and any(pool.free))
        candidates = [
            (pool.price_per_gpu_hour * shape.gpus, pool, kind, shape)
            for kind, alike in by_kind(order, usable).items()
            for shape in self.shapes(order, kind)
            if self.shape_fault(order, kind, shape) is None
            for pool in alike
        ]
        best: Fit | None = None
        for cost, pool, kind, shape in sorted(candidates, key=lambda candidate: candidate[0]):
            if best is not None and cost > best.worth(order):
                break
            sizing = self.sizing(order, shape)
            if isinstance(sizing, Unfit) or self._room_fault(order, pool, shape, sizing) is not None:
                continue
            fit = Fit(pool=pool, runtime=kind.runtime, shape=shape, sizing=sizing)
            if best is None or fit.rank(order) < best.rank(order):
                best = fit
        return best

    def shapes(self, order: Order, kind: Kind) -> Iterator[Shape]:
        """Give the shapes that the order and the kind's GPUs allow the precision of."""
        for precision in order.model.precisions:
            if precision_fault(order, kind.gpu, precision) is None:
                yield from self._all_shapes(order, kind, precision)

    def _all_shapes(self, order: Order, kind: Kind, precision: Precision) -> tuple[Shape, ...]:
        key = kind, precision, order.pins.tp, order.pins.pp
        if key not in self._parallel:
            self._parallel[key] = tuple(_shapes(order, kind, precision))
        return self._parallel[key]

    def _judge(self, order: Order, kind: Kind, pools: Sequence[Pool]) -> Iterator[Fit | Refusal]:
        for precision in order.model.precisions:
            fault = precision_fault(order, kind.gpu, precision)
            if fault is not None:
                yield _refusal(pools, fault, precision=precision)
                continue
            for shape in self._all_shapes(order, kind, precision):
                yield from self._judge_shape(order, kind, pools, shape)

    def _judge_shape(
        self, order: Order, kind: Kind, pools: Sequence[Pool], shape: Shape
    ) -> Iterator[Fit | Refusal]:
        where = f"{kind.gpu.name} in {shape.precision}, {parallelism(shape)}"
        fault = self.shape_fault(order, kind, shape)
        if fault is not None:
            yield _refusal(pools, (fault[0], f"{where}: {fault[1]}"), shape=shape)
            return
        sizing = self.sizing(order, shape)
        if isinstance(sizing, Unfit):
            reason = sizing.reason, f"{where}: {sizing.message}"
            yield _refusal(pools, reason, shape=shape, memory=sizing.memory)
            return
        for pool in pools:
            room = self._room_fault(order, pool, shape, sizing)
            if room is None:
                yield Fit(pool=pool, runtime=kind.runtime, shape=shape, sizing=sizing)
            else:
                yield _refusal([pool], room, shape=shape, memory=sizing.memory)

    def shape_fault(self, order: Order, kind: Kind, shape: Shape) -> tuple[Reason, str] | None:
        """Judge whether a kind of pool can take the shape, and whether another makes it pointless."""
        return shape_fault(order, kind, tp=shape.tp, pp=shape.pp) or _dominated(order, kind, shape)

    def sizing(self, order: Order, shape: Shape) -> Sizing | Unfit:
        """Size the shape for the order, or say what forbids it, wherever its GPUs stand."""
        key = order.slo.name, order.context_tokens, order.pins.max_batch_size, shape
        if key not in self._sizings:
            self._sizings[key] = size(order, shape, self.performance, self._known)
        return self._sizings[key]

    def _room_fault(
        self, order: Order, pool: Pool, shape: Shape, sizing: Sizing
    ) -> tuple[Reason, str] | None:
        """Judge what depends on the moment: the pool's size and state, the owner's spend and quota, the free GPUs."""
        each, replicas = shape.gpus, max(1, sizing.replicas)
        where = f"{pool.gpu.name} in {pool.region} ({pool.cluster})"
        needs = f"needs {replicas * each}" + (f" as {replicas} x {each}" if replicas > 1 and each > 1 else "")
        whole = [pool.gpus_per_node] * len(pool.free)
        if replicas_that_fit(whole, each, gpus_per_node=pool.gpus_per_node) < replicas:
            return Reason.POOL_SIZE, (
                f"{where}: {needs}, the pool has {pool.total_gpus} in nodes of {pool.gpus_per_node}"
            )
        policy = order.policy
        price = pool.price_per_gpu_hour * sizing.replicas * each * order.slo.price_factor
        if policy is not None and policy.most_per_hour is not None and price > policy.most_per_hour:
            return Reason.SPEND, (
                f"{where}: at {price_text(price)} per hour it is dearer than {policy.says} allows: "
                f"{policy.most_says}"
            )
        quota_fault = self._quota_fault(pool, sizing.replicas * each)
        if quota_fault is not None:
            return Reason.QUOTA, f"{where}: {quota_fault}"
        if pool.state is not PoolState.ACTIVE:
            return Reason.CLUSTER_STATE, f"{where}: the cluster is {pool.state} and takes no new endpoints"
        room = replicas_that_fit(pool.free, each, gpus_per_node=pool.gpus_per_node)
        if room < replicas:
            scattered = f", room for {room} x {each}" if pool.free_gpus >= replicas * each else ""
            return Reason.CAPACITY, f"{where}: {needs}, {pool.free_gpus} free{scattered}"
        return None

    def _quota_fault(self, pool: Pool, want: int) -> str | None:
        quota, gpu = self.quota, pool.gpu.name
        if quota.endpoint_limit is not None and quota.endpoints_used >= quota.endpoint_limit:
            return f"the quota allows {quota.endpoint_limit} endpoints and {quota.endpoints_used} exist"
        if quota.gpu_limit is not None and quota.gpus_used + want > quota.gpu_limit:
            return f"the quota allows {quota.gpu_limit} GPUs, {quota.gpus_used} are used and {want} more are needed"
        limit, used = quota.type_limits.get(gpu), quota.types_used.get(gpu, 0)
        if limit is not None and used + want > limit:
            return f"the quota allows {limit} {gpu}, {used} are used and {want} more are needed"
        return None

    def alternatives(self, order: Order, classes: Sequence[SloTargets]) -> tuple[Alternative, ...]:
        """Give what could be had at once with one demand relaxed; nothing is relaxed without being asked."""
        found = self._elsewhere(order) if order.residency != "global" else []
        for relaxation, value, words, relaxed in _relaxed(order, classes):
            fit = self.cheapest(relaxed)
            if fit is not None:
                found.append(self._alternative(relaxation, value, words, relaxed, fit))
        return tuple(found)

    def _elsewhere(self, order: Order) -> list[Alternative]:
        """Give the cheapest answer in each of the cheapest regions that residency now bars."""
        anywhere = dataclasses.replace(order, residency="global")
        regions: dict[str, list[Pool]] = {}
        for pool in self.pools:
            if residency_allows(f"region:{pool.region}", pool.region, ()):
                regions.setdefault(pool.region, []).append(pool)
        cheapest = (self.cheapest(anywhere, pools) for pools in regions.values())
        found = sorted((fit for fit in cheapest if fit is not None), key=lambda fit: fit.rank(anywhere))
        return [
            self._alternative(
                Relaxation.RESIDENCY,
                f"region:{fit.pool.region}",
                f"in region {fit.pool.region}",
                anywhere,
                fit,
            )
            for fit in found[:ALTERNATIVES_EACH]
        ]

    def _alternative(
        self, relaxation: Relaxation, value: str, words: str, order: Order, fit: Fit
    ) -> Alternative:
        answer = configuration(order, fit, self.performance)
        message = f"{words}: {answers.placed_message(answer)}"
        return Alternative(relaxation=relaxation, value=value, message=message, configuration=answer)


def by_kind(order: Order, pools: Iterable[Pool]) -> dict[Kind, list[Pool]]:
    """Give those of ``pools`` that nothing bars from the order, by kind."""
    kinds: dict[Kind, list[Pool]] = {}
    for pool in pools:
        if pool_fault(order, pool) is None:
            kinds.setdefault(kind_of(order, pool), []).append(pool)
    return kinds


def _shapes(order: Order, kind: Kind, precision: Precision) -> Iterator[Shape]:
    groups = sorted({*TENSOR_PARALLEL, order.pins.tp or 1})
    stages = sorted({*PIPELINE_PARALLEL, order.pins.pp or 1})
    for pp, tp in itertools.product(stages, groups):
        yield Shape(
            architecture=order.model.architecture,
            gpu=kind.gpu,
            precision=precision,
            tp=tp,
            pp=pp,
        )


def _dominated(order: Order, kind: Kind, shape: Shape) -> tuple[Reason, str] | None:
    """Refuse pipeline stages where a tensor-parallel group of no more GPUs holds the model."""
    if shape.pp == 1 or order.pins.pp is not None:
        return None
    for tp in TENSOR_PARALLEL:
        if tp > shape.gpus or shape_fault(order, kind, tp=tp, pp=1) is not None:
            continue
        alone = memory_for(
            shape.architecture, shape.gpu, shape.precision, tp=tp,
            context_tokens=order.context_tokens, cached_tokens=order.context_tokens,
        )  # fmt: skip
        if fits(alone):
            return Reason.DOMINATED, f"TP {tp} holds the model too, and stages one after the other are slower"
    return None


def _relaxed(order: Order, classes: Sequence[SloTargets]) -> Iterator[tuple[Relaxation, str, str, Order]]:
    """Give the orders with one demand less: what is given up, its new value, in words, and the order."""
    if order.certifications:
        free = dataclasses.replace(order, certifications=frozenset())
        yield Relaxation.CERTIFICATIONS, "none", "without certifications", free
    for name, value in order.pins.set().items():
        words = f"without keeping to {name.replace('_', ' ')} {value}"
        yield Relaxation.PIN, name, words, _without_pin(order, name)
    for precision, quality in sorted(order.model.quality.items()):
        if quality.needs_approval and precision not in order.approved:
            accepted = dataclasses.replace(order, approved=order.approved | {precision})
            yield Relaxation.QUALITY, precision.value, f"with {precision} accepted", accepted
    for slo in sorted(classes, key=lambda slo: slo.name):
        if slo.name != order.slo.name:
            yield Relaxation.SLO_CLASS, slo.name, f"as class {slo.name}", dataclasses.replace(order, slo=slo)


def _without_pin(order: Order, name: str) -> Order:
    return dataclasses.replace(order, pins=dataclasses.replace(order.pins, **{name: None}))


def _refusal(
    pools: Sequence[Pool],
    fault: tuple[Reason, str],
    *,
    precision: Precision | None = None,
    shape: Shape | None = None,
    memory: MemoryBreakdown | None = None,
) -> Refusal:
    return Refusal(
        gpu=pools[0].gpu.name,
        pools=tuple(pool.id for pool in pools),
        clusters=tuple(pool.cluster for pool in pools),
        reason=fault[0],
        message=fault[1],
        precision=shape.precision if shape else precision,
        tp=shape.tp if shape else None,
        pp=shape.pp if shape else None,
        memory=memory,
    )
