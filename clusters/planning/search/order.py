"""The search: every pool x precision x tensor-parallel degree is either chosen or refused with a reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Final

from clusters.planning.performance.model import PerformanceModel, Shape
from clusters.planning.performance.roofline import Roofline
from clusters.planning.placement.nodes import nodes_for, replicas_that_fit
from clusters.planning.plans import (
    Alternative,
    Configuration,
    MemoryBreakdown,
    Plan,
    PlanStatus,
    Reason,
    Refusal,
    Relaxation,
    price_text,
)
from clusters.planning.problem import (
    GpuSpec,
    Order,
    Pool,
    PoolState,
    Precision,
    ProblemError,
    QuotaState,
    SloTargets,
)
from clusters.planning.residency import residency_allows
from clusters.planning.rules import pool_fault, runtime_for, shape_fault
from clusters.planning.search.sizing import Sizing, Unfit, size

#: Tensor-parallel degrees that are tried, each within one node.
TENSOR_PARALLEL: Final = (1, 2, 4, 8)

#: Alternatives that each relaxed demand may contribute, the cheapest clusters first.
ALTERNATIVES_EACH: Final = 3

#: Causes that the message of an unplaced order spells out.
CAUSES_TOLD: Final = 5

_COST_PLACES: Final = Decimal("0.000001")


def plan(
    order: Order,
    pools: Iterable[Pool],
    *,
    quota: QuotaState | None = None,
    classes: Sequence[SloTargets] = (),
    performance: PerformanceModel | None = None,
) -> Plan:
    """Find the cheapest configuration that may lawfully run and meets the class, with reasons for the rest.

    The order of ``pools`` does not matter. Equal costs are decided by fewer GPUs, then by the pool's id
    and the model's preference of precisions. ``classes`` are other SLO classes to look at for
    alternatives, which are given when the order cannot be placed as it stands. Quota is not relaxed.

    Raises:
        ProblemError: two pools have one id.
    """
    search = _Search(
        pools=tuple(sorted(pools, key=lambda pool: pool.id)),
        quota=quota or QuotaState(),
        performance=performance or Roofline(),
    )
    chosen, refusals = search.run(order)
    if chosen is not None:
        return Plan(
            status=PlanStatus.PLACED,
            message=_placed_message(chosen),
            configuration=chosen,
            refusals=refusals,
            alternatives=(),
        )
    status = _status_without_choice(refusals)
    return Plan(
        status=status,
        message=_unplaced_message(status, order, refusals),
        configuration=None,
        refusals=refusals,
        alternatives=search.alternatives(order, classes),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Candidate:
    pool: Pool
    precision: Precision
    tp: int
    pp: int = 1

    @property
    def gpus_per_replica(self) -> int:
        return self.tp * self.pp

    @property
    def cost_of_one(self) -> Decimal:
        """Cost per hour of one replica: the least that the candidate can cost."""
        return self.pool.price_per_gpu_hour * self.gpus_per_replica

    def refusal(
        self,
        reason: Reason,
        message: str,
        memory: MemoryBreakdown | None = None,
        dearer_by: Decimal | None = None,
    ) -> Refusal:
        return Refusal(
            pool=self.pool.id,
            cluster=self.pool.cluster,
            gpu=self.pool.gpu.name,
            precision=self.precision,
            tp=self.tp,
            pp=self.pp,
            reason=reason,
            message=message,
            memory=memory,
            dearer_by_per_hour=dearer_by,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Fit:
    """A candidate that could be chosen."""

    candidate: _Candidate
    shape: Shape
    sizing: Sizing
    cost: Decimal  # what fits are compared by: per hour, at no replicas that of one

    def rank(self, order: Order) -> tuple[Decimal, int, str, int, int]:
        """Cheapest first, then fewer GPUs, then by pool, the model's preference of precisions, and TP."""
        candidate = self.candidate
        return (
            self.cost,
            candidate.gpus_per_replica * self.sizing.replicas,
            candidate.pool.id,
            order.model.precisions.index(candidate.precision),
            candidate.tp,
        )


class _Search:
    def __init__(self, *, pools: tuple[Pool, ...], quota: QuotaState, performance: PerformanceModel) -> None:
        if len({pool.id for pool in pools}) != len(pools):
            raise ProblemError("pools", "two pools have the same id")
        self.pools = pools
        self.quota = quota
        self.performance = performance
        # One search sees one load; its orders differ in class, residency, certifications and precision.
        self._sizings: dict[tuple[str, GpuSpec, Precision, int], Sizing | Unfit] = {}

    def run(self, order: Order) -> tuple[Configuration | None, tuple[Refusal, ...]]:
        """Judge every candidate; give the cheapest feasible one and the refusals of the others."""
        outcomes = [outcome for pool in self.pools for outcome in self._judge_pool(order, pool)]
        fits = [outcome for outcome in outcomes if isinstance(outcome, _Fit)]
        if not fits:
            return None, tuple(outcome for outcome in outcomes if isinstance(outcome, Refusal))
        chosen = min(fits, key=lambda fit: fit.rank(order))
        refusals = tuple(
            outcome if isinstance(outcome, Refusal) else _dearer(outcome, chosen, order.slo.price_factor)
            for outcome in outcomes
            if outcome is not chosen
        )
        return self._configuration(order, chosen), refusals

    def _cheapest(self, order: Order, pools: Iterable[Pool]) -> _Fit | None:
        """Give the fit that ``run`` would choose among ``pools``, without judging what cannot be it."""
        candidates = [
            candidate
            for pool in pools
            if pool.state is PoolState.ACTIVE and any(pool.free) and pool_fault(order, pool) is None
            for candidate in _candidates(order, pool)
            if candidate.gpus_per_replica <= max(pool.free)
        ]
        best: _Fit | None = None
        for candidate in sorted(candidates, key=lambda candidate: candidate.cost_of_one):
            if best is not None and candidate.cost_of_one > best.cost:
                break
            if isinstance(self._sizings.get(_shape_key(order, candidate)), Unfit):  # seen elsewhere
                continue
            outcome = self._judge(order, candidate)
            if isinstance(outcome, _Fit) and (best is None or outcome.rank(order) < best.rank(order)):
                best = outcome
        return best

    def _judge_pool(self, order: Order, pool: Pool) -> Iterator[_Fit | Refusal]:
        barred = pool_fault(order, pool)
        for candidate in _candidates(order, pool):
            yield candidate.refusal(*barred) if barred else self._judge(order, candidate)

    def _judge(self, order: Order, candidate: _Candidate) -> _Fit | Refusal:
        """Judge a candidate whose pool is not barred."""
        pool, tp = candidate.pool, candidate.tp
        barred = shape_fault(order, pool, candidate.precision, tp=tp, pp=candidate.pp)
        if barred is not None:
            return candidate.refusal(*barred)
        key = _shape_key(order, candidate)
        shape = Shape(
            architecture=order.model.architecture,
            gpu=pool.gpu,
            precision=candidate.precision,
            tp=tp,
            pp=candidate.pp,
        )
        if key not in self._sizings:
            self._sizings[key] = size(order, shape, self.performance)
        sizing = self._sizings[key]
        if isinstance(sizing, Unfit):
            where = f"{pool.gpu.name} in cluster {pool.cluster}, {candidate.precision}, TP {tp}"
            return candidate.refusal(sizing.reason, f"{where}: {sizing.message}", sizing.memory)
        want = sizing.replicas * candidate.gpus_per_replica
        room = self._room_fault(candidate, replicas=max(1, sizing.replicas), want=want)
        if room is not None:
            return candidate.refusal(*room, sizing.memory)
        cost = candidate.cost_of_one * max(1, sizing.replicas)
        return _Fit(candidate=candidate, shape=shape, sizing=sizing, cost=cost)

    def _room_fault(self, candidate: _Candidate, *, replicas: int, want: int) -> tuple[Reason, str] | None:
        """Judge what depends on the moment: the pool's size and state, the tenant's quota, the free GPUs."""
        pool, quota, each = candidate.pool, self.quota, candidate.gpus_per_replica
        asked = f"{replicas} x {each} GPUs are needed"
        if pool.gpus_per_node // each * len(pool.free) < replicas:
            return Reason.POOL_SIZE, (
                f"pool {pool.id} of cluster {pool.cluster} has {pool.total_gpus} GPUs in nodes of "
                f"{pool.gpus_per_node}; {asked}"
            )
        if quota.endpoint_limit is not None and quota.endpoints_used >= quota.endpoint_limit:
            return Reason.QUOTA, (
                f"the quota allows {quota.endpoint_limit} endpoints and {quota.endpoints_used} exist"
            )
        if quota.gpu_limit is not None and quota.gpus_used + want > quota.gpu_limit:
            return Reason.QUOTA, (
                f"the quota allows {quota.gpu_limit} GPUs, {quota.gpus_used} are used and {want} more are "
                f"needed on {pool.gpu.name} in cluster {pool.cluster}"
            )
        if pool.state is not PoolState.ACTIVE:
            return Reason.CLUSTER_STATE, f"cluster {pool.cluster} is {pool.state} and takes no new endpoints"
        if replicas_that_fit(pool.free, each) < replicas:
            return Reason.CAPACITY, (
                f"pool {pool.id} of cluster {pool.cluster} has {pool.free_gpus} of {pool.total_gpus} GPUs "
                f"free, room for {replicas_that_fit(pool.free, each)} replicas; {asked}"
            )
        return None

    def _configuration(self, order: Order, fit: _Fit) -> Configuration:
        candidate, sizing = fit.candidate, fit.sizing
        pool, profile = candidate.pool, order.profile
        cost = pool.price_per_gpu_hour * candidate.gpus_per_replica * sizing.replicas
        price = cost * order.slo.price_factor
        tokens = Decimal(str(profile.requests_per_second)) * profile.output_tokens * 3600
        return Configuration(
            pool=pool.id,
            cluster=pool.cluster,
            region=pool.region,
            gpu=pool.gpu.name,
            runtime=runtime_for(order, pool) or "",
            precision=candidate.precision,
            tp=candidate.tp,
            pp=candidate.pp,
            replicas=sizing.replicas,
            replicas_floor=sizing.replicas_floor,
            replicas_ceiling=sizing.replicas_ceiling,
            max_batch_size=sizing.max_batch_size,
            ttft_ms=sizing.ttft_ms,
            itl_ms=sizing.itl_ms,
            tokens_per_s=sizing.tokens_per_s,
            utilisation=sizing.utilisation,
            performance_source=self.performance.confidence(fit.shape).source,
            memory=sizing.memory,
            price_per_gpu_hour=pool.price_per_gpu_hour,
            cost_per_hour=cost,
            price_per_hour=price,
            price_per_million_tokens=(price * 1_000_000 / tokens).quantize(_COST_PLACES) if tokens else None,
            nodes=nodes_for(pool.free, candidate.gpus_per_replica, sizing.replicas) or (),
            declared=pool.declared,
        )

    def alternatives(self, order: Order, classes: Sequence[SloTargets]) -> tuple[Alternative, ...]:
        """Give what could be had at once with one demand relaxed; nothing is relaxed without being asked."""
        found: list[Alternative] = []
        if order.residency != "global":
            found += self._elsewhere(order)
        if order.certifications:
            free = dataclasses.replace(order, certifications=frozenset())
            found += self._relaxed(Relaxation.CERTIFICATIONS, "none", "without certifications", free)
        if order.quantization is not None:
            any_precision = dataclasses.replace(order, quantization=None)
            found += self._relaxed(Relaxation.QUANTIZATION, "any", "in any precision", any_precision)
        for slo in sorted(classes, key=lambda slo: slo.name):
            if slo.name != order.slo.name:
                other = dataclasses.replace(order, slo=slo)
                found += self._relaxed(Relaxation.SLO_CLASS, slo.name, f"as class {slo.name}", other)
        return tuple(found)

    def _relaxed(self, relaxation: Relaxation, value: str, words: str, order: Order) -> list[Alternative]:
        cheapest = self._cheapest(order, self.pools)
        if cheapest is None:
            return []
        chosen = self._configuration(order, cheapest)
        return [
            Alternative(
                relaxation=relaxation,
                value=value,
                message=f"{words}: {_placed_message(chosen)}",
                configuration=chosen,
            )
        ]

    def _elsewhere(self, order: Order) -> list[Alternative]:
        """Give the cheapest answer in each of the cheapest regions that residency now bars."""
        anywhere = dataclasses.replace(order, residency="global")
        regions: dict[str, list[Pool]] = {}
        for pool in self.pools:
            if residency_allows(f"region:{pool.region}", pool.region, ()):
                regions.setdefault(pool.region, []).append(pool)
        cheapest = (self._cheapest(anywhere, pools) for pools in regions.values())
        fits = sorted((fit for fit in cheapest if fit is not None), key=lambda fit: fit.rank(anywhere))
        found = [self._configuration(anywhere, fit) for fit in fits[:ALTERNATIVES_EACH]]
        return [
            Alternative(
                relaxation=Relaxation.RESIDENCY,
                value=f"region:{configuration.region}",
                message=f"in region {configuration.region}: {_placed_message(configuration)}",
                configuration=configuration,
            )
            for configuration in found
        ]


def _candidates(order: Order, pool: Pool) -> Iterator[_Candidate]:
    precisions = order.model.precisions if order.quantization is None else (order.quantization,)
    for precision in sorted(precisions):
        for tp in TENSOR_PARALLEL:
            yield _Candidate(pool=pool, precision=precision, tp=tp)


def _shape_key(order: Order, candidate: _Candidate) -> tuple[str, GpuSpec, Precision, int]:
    return order.slo.name, candidate.pool.gpu, candidate.precision, candidate.tp


def _dearer(other: _Fit, chosen: _Fit, price_factor: Decimal) -> Refusal:
    candidate, difference = other.candidate, (other.cost - chosen.cost) * price_factor
    extra = (
        f"costs {price_text(difference)} more per hour" if difference else "costs the same with no fewer GPUs"
    )
    return candidate.refusal(
        Reason.DEARER,
        f"feasible on {candidate.pool.gpu.name} in cluster {candidate.pool.cluster}, {candidate.precision}, "
        f"TP {candidate.tp}, {other.sizing.replicas} replicas, but {extra}",
        other.sizing.memory,
        difference,
    )


def _status_without_choice(refusals: Sequence[Refusal]) -> PlanStatus:
    reasons = {refusal.reason for refusal in refusals}
    if reasons & {Reason.CAPACITY, Reason.CLUSTER_STATE}:
        return PlanStatus.NO_CAPACITY
    if Reason.QUOTA in reasons:
        return PlanStatus.OVER_QUOTA
    return PlanStatus.IMPOSSIBLE


def _placed_message(chosen: Configuration) -> str:
    return (
        f"{chosen.replicas} x {chosen.gpus_per_replica} {chosen.gpu} in {chosen.precision} on cluster "
        f"{chosen.cluster} ({chosen.region}) for {price_text(chosen.price_per_hour)} per hour"
    )


def _unplaced_message(status: PlanStatus, order: Order, refusals: Sequence[Refusal]) -> str:
    """Say in one sentence what stands in the way, by the candidates that came furthest."""
    if not refusals:
        return "no cluster has GPUs"
    if status is PlanStatus.OVER_QUOTA:
        quota = next(refusal for refusal in refusals if refusal.reason is Reason.QUOTA)
        return f"over quota: {quota.message}"
    stages = list(Reason)
    furthest = max((refusal.reason for refusal in refusals), key=stages.index)
    causes = dict.fromkeys(refusal.message for refusal in refusals if refusal.reason is furthest)
    told = "; ".join(list(causes)[:CAUSES_TOLD])
    more = f"; and {len(causes) - CAUSES_TOLD} more" if len(causes) > CAUSES_TOLD else ""
    if status is PlanStatus.NO_CAPACITY:
        return f"no capacity now: {told}{more}"
    return f"no cluster can serve {order.model.name} as {order.slo.name}: {told}{more}"
