"""The search: every pool x precision x tensor-parallel degree is either chosen or refused with a reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

from clusters.planning.performance import PerformanceModel, Roofline, Shape
from clusters.planning.placement import nodes_for, replicas_that_fit
from clusters.planning.plans import (
    Alternative,
    Configuration,
    MemoryBreakdown,
    Plan,
    PlanStatus,
    Reason,
    Refusal,
    Relaxation,
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
from clusters.planning.sizing import Sizing, Unfit, size

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
        feasible, refused = self._judge_all(order)
        if not feasible:
            return None, tuple(refused)
        chosen = feasible[0][1]
        refused += [_dearer(candidate, other, chosen) for candidate, other in feasible[1:]]
        refused.sort(key=lambda refusal: (refusal.pool, refusal.precision, refusal.tp))
        return chosen, tuple(refused)

    def _judge_all(self, order: Order) -> tuple[list[tuple[_Candidate, Configuration]], list[Refusal]]:
        """Give what is feasible, cheapest first, and the refusals of the rest."""
        feasible: list[tuple[_Candidate, Configuration]] = []
        refused: list[Refusal] = []
        precisions = order.model.precisions if order.quantization is None else (order.quantization,)
        for pool in self.pools:
            barred = pool_fault(order, pool)
            for precision in sorted(precisions):
                for tp in TENSOR_PARALLEL:
                    candidate = _Candidate(pool=pool, precision=precision, tp=tp)
                    outcome = candidate.refusal(*barred) if barred else self._judge(order, candidate)
                    if isinstance(outcome, Refusal):
                        refused.append(outcome)
                    else:
                        feasible.append((candidate, outcome))
        feasible.sort(key=lambda pair: _rank(order, pair[1]))
        return feasible, refused

    def _judge(self, order: Order, candidate: _Candidate) -> Configuration | Refusal:
        pool, tp = candidate.pool, candidate.tp
        barred = shape_fault(order, pool, candidate.precision, tp=tp, pp=candidate.pp)
        if barred is not None:
            return candidate.refusal(*barred)
        key = (order.slo.name, pool.gpu, candidate.precision, tp)
        if key not in self._sizings:
            shape = Shape(
                model=order.model, gpu=pool.gpu, precision=candidate.precision, tp=tp, pp=candidate.pp
            )
            self._sizings[key] = size(order, shape, self.performance)
        sizing = self._sizings[key]
        if isinstance(sizing, Unfit):
            where = f"{pool.gpu.name} in cluster {pool.cluster}, {candidate.precision}, TP {tp}"
            return candidate.refusal(sizing.reason, f"{where}: {sizing.message}", sizing.memory)
        want = sizing.replicas * candidate.gpus_per_replica
        room = self._room_fault(candidate, replicas=max(1, sizing.replicas), want=want)
        if room is not None:
            return candidate.refusal(*room, sizing.memory)
        return self._configuration(order, candidate, sizing)

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

    def _configuration(self, order: Order, candidate: _Candidate, sizing: Sizing) -> Configuration:
        pool, profile = candidate.pool, order.profile
        cost = pool.price_per_gpu_hour * candidate.gpus_per_replica * sizing.replicas
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
            performance_source=self.performance.source,
            memory=sizing.memory,
            price_per_gpu_hour=pool.price_per_gpu_hour,
            cost_per_hour=cost,
            price_per_hour=cost * order.slo.price_factor,
            cost_per_million_tokens=(cost * 1_000_000 / tokens).quantize(_COST_PLACES) if tokens else None,
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
        chosen, _ = self.run(order)
        if chosen is None:
            return []
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
        found: dict[str, Configuration] = {}
        for _, configuration in self._judge_all(dataclasses.replace(order, residency="global"))[0]:
            if residency_allows(f"region:{configuration.region}", configuration.region, ()):
                found.setdefault(configuration.region, configuration)
        return [
            Alternative(
                relaxation=Relaxation.RESIDENCY,
                value=f"region:{region}",
                message=f"in region {region}: {_placed_message(configuration)}",
                configuration=configuration,
            )
            for region, configuration in list(found.items())[:ALTERNATIVES_EACH]
        ]


def _cost(configuration: Configuration) -> Decimal:
    """What candidates are compared by: the cost per hour, at no replicas that of one."""
    return configuration.price_per_gpu_hour * configuration.gpus_per_replica * max(1, configuration.replicas)


def _rank(order: Order, configuration: Configuration) -> tuple[Decimal, int, str, int, int]:
    """Cheapest first, then fewer GPUs, then by pool, the model's preference of precisions, and TP."""
    return (
        _cost(configuration),
        configuration.gpus,
        configuration.pool,
        order.model.precisions.index(configuration.precision),
        configuration.tp,
    )


def _dearer(candidate: _Candidate, other: Configuration, chosen: Configuration) -> Refusal:
    difference = _cost(other) - _cost(chosen)
    extra = f"costs {difference.normalize():f} more per hour" if difference else "costs the same with no fewer GPUs"
    return candidate.refusal(
        Reason.DEARER,
        f"feasible on {other.gpu} in cluster {other.cluster}, {other.precision}, TP {other.tp}, "
        f"{other.replicas} replicas, but {extra}",
        other.memory,
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
        f"{chosen.cluster} ({chosen.region}) for {chosen.cost_per_hour} per hour"
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
