"""An independent judge of plans: reads problem and plan, and shares no code with the search."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal

from clusters.planning.plans import Configuration, Plan, PlanStatus, Reason
from clusters.planning.problem import Order, Pool, PoolState, Precision, QuotaState


def faults(order: Order, pools: Iterable[Pool], plan: Plan, *, quota: QuotaState | None = None) -> list[str]:
    """List everything in ``plan`` that breaks the problem's rules; an empty list is a sound plan."""
    by_id = {pool.id: pool for pool in pools}
    return [
        *_candidate_faults(order, by_id, plan),
        *_status_faults(plan),
        *(_choice_faults(order, by_id, plan.configuration, quota) if plan.configuration else ()),
        *(
            f"alternative {alternative.value} is not feasible: {fault}"
            for alternative in plan.alternatives
            for fault in _room_faults(by_id, alternative.configuration, quota)
        ),
    ]


def _candidate_faults(order: Order, pools: dict[str, Pool], plan: Plan) -> Iterable[str]:
    degrees = {1, 2, 4, 8, order.pins.tp or 1}
    stages = {1, 2, 4, order.pins.pp or 1}
    candidates = set(itertools.product(pools, order.model.precisions, degrees, stages))
    judged: Counter[tuple[str, Precision, int, int]] = Counter()
    for refusal in plan.refusals:
        for pool in refusal.pools:
            judged.update(
                itertools.product(
                    [pool],
                    order.model.precisions if refusal.precision is None else [refusal.precision],
                    degrees if refusal.tp is None else [refusal.tp],
                    stages if refusal.pp is None else [refusal.pp],
                )
            )
    if plan.configuration is not None:
        chosen = plan.configuration
        judged[(chosen.pool, chosen.precision, chosen.tp, chosen.pp)] += 1
    if judged != Counter(candidates):
        missing, many = Counter(candidates) - judged, judged - Counter(candidates)
        yield f"candidates not judged exactly once: {many} too many, {missing} missing"
    for refusal in plan.refusals:
        if not refusal.message:
            yield f"refusal of {refusal.pools} says nothing"
        if (refusal.reason is Reason.DEARER) != (refusal.dearer_by_per_hour is not None):
            yield f"refusal of {refusal.pools} as {refusal.reason} is dearer by {refusal.dearer_by_per_hour}"
        if refusal.dearer_by_per_hour is not None and refusal.dearer_by_per_hour < 0 and not order.near:
            yield f"{refusal.pools} is cheaper than the choice by {-refusal.dearer_by_per_hour}"
        if refusal.reason is Reason.RESIDENCY and any(_lawful(order, pools[pool]) for pool in refusal.pools):
            yield f"{refusal.pools} is refused for residency, which it satisfies"


def _status_faults(plan: Plan) -> Iterable[str]:
    if (plan.status is PlanStatus.PLACED) != (plan.configuration is not None):
        yield f"status {plan.status} with configuration {plan.configuration}"
    reasons = {refusal.reason for refusal in plan.refusals}
    if plan.status is PlanStatus.NO_CAPACITY and not reasons & {Reason.CAPACITY, Reason.CLUSTER_STATE}:
        yield "no capacity, yet no candidate lacks any"
    if plan.status is PlanStatus.OVER_QUOTA and Reason.QUOTA not in reasons:
        yield "over quota, yet no candidate is"
    if plan.status is not PlanStatus.PLACED and Reason.DEARER in reasons:
        yield "a feasible candidate was left unchosen"
    if plan.status is PlanStatus.PLACED and plan.alternatives:
        yield "alternatives beside a placed order"
    if (plan.status is PlanStatus.PLACED) != bool(plan.front):
        yield f"status {plan.status} with a front of {len(plan.front)}"
    steps = list(itertools.pairwise(plan.front))
    if any(a.price_per_hour > b.price_per_hour or a.answer_ms <= b.answer_ms for a, b in steps):
        yield "a point of the front is dearer and slower than the next"


def _lawful(order: Order, pool: Pool) -> bool:
    if order.residency == "global":
        return True
    allowed = {f"region:{pool.region}"} | {f"zone:{zone}" for zone in pool.zones}
    return order.residency in allowed - {"region:", "zone:"}


def _choice_faults(
    order: Order, pools: dict[str, Pool], chosen: Configuration, quota: QuotaState | None
) -> Iterable[str]:
    pool, model = pools[chosen.pool], order.model
    if not _lawful(order, pool):
        yield f"residency {order.residency} forbids {pool.id}"
    if not order.certifications <= pool.certifications:
        yield f"{pool.id} lacks {order.certifications - pool.certifications}"
    if model.zones is not None and model.zones.isdisjoint(pool.zones):
        yield f"{model.name} may not run in {pool.zones}"
    if chosen.runtime not in pool.runtimes or chosen.runtime not in model.runtimes:
        yield f"runtime {chosen.runtime} is not offered"
    if chosen.runtime in pool.unpinned and pool.driver == "kubernetes":
        yield f"runtime {chosen.runtime} has no pinned image"
    yield from _driver_faults(pool, chosen)
    place = order.residency.partition(":")[2]
    if not model.weights_local and order.residency != "global" and place not in model.weights_zones:
        yield f"the weights come from {model.weights_zones}, the order says {order.residency}"
    yield from _policy_faults(order, pool, chosen)
    pins = order.pins
    kept = (pins.gpu, pins.cluster, pins.precision, pins.tp, pins.pp)
    taken = (chosen.gpu, chosen.cluster, chosen.precision, chosen.tp, chosen.pp)
    if any(pin not in (None, value) for pin, value in zip(kept, taken, strict=True)):
        yield f"the order keeps to {kept}, the choice is {taken}"
    if pins.max_batch_size is not None and chosen.max_batch_size > pins.max_batch_size:
        yield f"batches of {chosen.max_batch_size} against a pin of {pins.max_batch_size}"
    if chosen.precision in model.made:
        quality = model.quality.get(chosen.precision)
        if quality is None or (quality.needs_approval and chosen.precision not in order.approved):
            yield f"{chosen.precision} was never accepted"
    if pool.gpu.slice_of and chosen.tp * chosen.pp > 1:
        yield f"{chosen.tp * chosen.pp} parts of GPUs are joined"
    if chosen.precision not in model.precisions:
        yield f"precision {chosen.precision} was not asked for"
    native = {Precision.FP8: pool.gpu.fp8_tflops, Precision.NVFP4: pool.gpu.fp4_tflops}
    if native.get(chosen.precision, pool.gpu.bf16_tflops) <= 0:
        yield f"{pool.gpu.name} cannot compute in {chosen.precision}"
    yield from _size_faults(order, pool, chosen)
    yield from _room_faults(pools, chosen, quota)


def _policy_faults(order: Order, pool: Pool, chosen: Configuration) -> Iterable[str]:
    policy = order.policy
    if policy is None:
        return
    for name, allowed in (
        (order.model.name, policy.models),
        (order.model.licence, policy.licences),
        (order.slo.name, policy.classes),
    ):
        if allowed is not None and name not in allowed:
            yield f"the owner's policy does not allow {name}"
    places = {pool.region, *pool.zones}
    if any(places.isdisjoint(zones) for zones in policy.zones):
        yield f"the owner's policy does not allow {pool.id}, which is in {sorted(places)}"
    if not policy.certifications.issubset(pool.certifications):
        yield f"the owner's policy demands {policy.certifications - pool.certifications} of {pool.id}"
    if policy.most_per_hour is not None and chosen.price_per_hour > policy.most_per_hour:
        yield f"{chosen.price_per_hour} per hour is more than the owner's policy allows"


def _driver_faults(pool: Pool, chosen: Configuration) -> Iterable[str]:
    needed = pool.min_drivers.get(chosen.runtime)
    if not pool.driver_version or not needed:
        return
    pairs = zip(pool.driver_version.split("."), needed.split("."), strict=False)
    different = next(((int(has), int(needs)) for has, needs in pairs if int(has) != int(needs)), (0, 0))
    if different[0] < different[1]:
        yield f"driver {pool.driver_version} is older than {needed}"


def _size_faults(order: Order, pool: Pool, chosen: Configuration) -> Iterable[str]:
    bits = {Precision.BF16: 16, Precision.FP8: 8, Precision.INT4: 4, Precision.NVFP4: 4}[chosen.precision]
    gpus = chosen.tp * chosen.pp
    weights = order.model.architecture.parameters_total * bits / 8 / gpus / 2**30
    if weights > pool.gpu.memory_gib or chosen.memory.needed_gib > pool.gpu.memory_gib:
        yield f"{chosen.memory.needed_gib} GiB (weights at least {weights}) on {pool.gpu.memory_gib}"
    cached = (
        2
        * order.model.architecture.layers
        * order.model.architecture.kv_heads
        * order.model.architecture.head_size
        * order.context_tokens
    )
    if weights + cached / gpus / 2**30 > pool.gpu.memory_gib:
        yield f"one context of {order.context_tokens} tokens does not fit even at 8 bits"
    for name, expected, target in (
        ("TTFT", chosen.ttft_p95_ms, order.slo.ttft_p95_ms),
        ("ITL", chosen.itl_p95_ms, order.slo.itl_p95_ms),
    ):
        if expected <= 0 or (target is not None and expected > target):
            yield f"{name} {expected} ms against a target of {target} ms"
    read_s = order.model.architecture.parameters_active * bits / 8 / gpus / (pool.gpu.bandwidth_gbs * 1e9)
    if chosen.itl_ms < 1000 * read_s:
        yield f"ITL {chosen.itl_ms} ms is faster than memory can be read"
    if order.profile.requests_per_second * order.profile.output_tokens > chosen.tokens_per_s * 0.8 + 1e-6:
        yield f"{chosen.tokens_per_s} tokens/s cannot carry the load"
    if not chosen.replicas_floor <= chosen.replicas <= chosen.replicas_ceiling:
        yield f"{chosen.replicas} replicas are outside {chosen.replicas_floor} to {chosen.replicas_ceiling}"
    if order.replicas_floor not in (None, chosen.replicas_floor):
        yield f"floor {chosen.replicas_floor} is not the order's"
    if order.replicas_ceiling not in (None, chosen.replicas_ceiling):
        yield f"ceiling {chosen.replicas_ceiling} is not the order's"


def _room_faults(pools: dict[str, Pool], chosen: Configuration, quota: QuotaState | None) -> Iterable[str]:
    pool, each = pools[chosen.pool], chosen.tp * chosen.pp
    if pool.state is not PoolState.ACTIVE:
        yield f"{pool.cluster} is {pool.state}"
    if len(chosen.nodes) != chosen.replicas:
        yield f"{len(chosen.nodes)} nodes for {chosen.replicas} replicas"
    used: Counter[int] = Counter()
    for nodes in chosen.nodes:
        if len(set(nodes)) != -(-each // pool.gpus_per_node) or len(nodes) != len(set(nodes)):
            yield f"a replica of {each} GPUs takes nodes {nodes} of {pool.gpus_per_node}"
        used.update(dict.fromkeys(nodes, each if len(nodes) == 1 else pool.gpus_per_node))
    for node, taken in used.items():
        if taken > pool.free[node]:
            yield f"node {node} of {pool.id} gives {taken} of {pool.free[node]} free GPUs"
    if Decimal(chosen.replicas * each) * pool.price_per_gpu_hour != chosen.cost_per_hour:
        yield f"cost {chosen.cost_per_hour} is not GPUs x price"
    if quota is not None:
        limit = quota.type_limits.get(chosen.gpu)
        if limit is not None and quota.types_used.get(chosen.gpu, 0) + chosen.gpus > limit:
            yield f"over the quota of {chosen.gpu}"
        if quota.gpu_limit is not None and quota.gpus_used + chosen.replicas * each > quota.gpu_limit:
            yield "over the GPU quota"
        if quota.endpoint_limit is not None and quota.endpoints_used + 1 > quota.endpoint_limit:
            yield "over the endpoint quota"
