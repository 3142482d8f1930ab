"""What is told beside the choice: sentences, the front of price and speed, what pins and context cost."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final

from clusters.planning.performance.model import PerformanceModel
from clusters.planning.plans import (
    Configuration,
    ContextStep,
    Disaggregated,
    FrontPoint,
    PinCost,
    PlanStatus,
    Reason,
    Refusal,
    price_text,
)
from clusters.planning.problem import Order
from clusters.planning.search.fits import Fit, answer_ms, parallelism
from clusters.planning.search.sizing import UTILISATION_CAP

#: Causes that the message of an unplaced order spells out.
CAUSES_TOLD: Final = 5

#: How much faster an answer must be to be worth a place on the front, and how many places it has.
FRONT_STEP: Final = 0.95
FRONT_LENGTH: Final = 6

#: Context caps that are offered as the next size up double from here.
SMALLEST_CONTEXT: Final = 4096


def placed_message(chosen: Configuration) -> str:
    """Say in one sentence what was chosen."""
    return (
        f"{chosen.replicas} x {chosen.gpus_per_replica} {chosen.gpu} in {chosen.precision} on cluster "
        f"{chosen.cluster} ({chosen.region}) for {price_text(chosen.price_per_hour)} per hour"
    )


def status_without_choice(refusals: Sequence[Refusal]) -> PlanStatus:
    """Say what would help an order that nothing fits."""
    reasons = {refusal.reason for refusal in refusals}
    if reasons & {Reason.CAPACITY, Reason.CLUSTER_STATE}:
        return PlanStatus.NO_CAPACITY
    if Reason.QUOTA in reasons:
        return PlanStatus.OVER_QUOTA
    if reasons & {Reason.POLICY, Reason.SPEND}:
        return PlanStatus.POLICY
    return PlanStatus.IMPOSSIBLE


def unplaced_message(status: PlanStatus, order: Order, refusals: Sequence[Refusal]) -> str:
    """Say in one sentence what stands in the way, by the candidates that came furthest."""
    if not refusals:
        return "no cluster has GPUs"
    if status is PlanStatus.OVER_QUOTA:
        quota = next(refusal for refusal in refusals if refusal.reason is Reason.QUOTA)
        return f"over quota: {quota.message}"
    if status is PlanStatus.POLICY:
        barring = {Reason.POLICY, Reason.SPEND}
        refusals = [refusal for refusal in refusals if refusal.reason in barring]
    stages = list(Reason)
    furthest = max((refusal.reason for refusal in refusals), key=stages.index)
    causes = dict.fromkeys(refusal.message for refusal in refusals if refusal.reason is furthest)
    told = "; ".join(list(causes)[:CAUSES_TOLD])
    more = f"; and {len(causes) - CAUSES_TOLD} more" if len(causes) > CAUSES_TOLD else ""
    if status is PlanStatus.POLICY:
        return f"not allowed: {told}{more}"
    if status is PlanStatus.NO_CAPACITY:
        return f"no capacity now: {told}{more}"
    return f"no cluster can serve {order.model.name} as {order.slo.name}: {told}{more}"


def dearer(other: Fit, chosen: Fit, order: Order) -> Refusal:
    """Refuse a fit that is not the choice."""
    pool, shape = other.pool, other.shape
    difference = (other.cost - chosen.cost) * order.slo.price_factor
    what = (
        f"{pool.gpu.name} in {pool.region} ({pool.cluster}), {shape.precision}, {parallelism(shape)}: "
        f"{_counted(other.sizing.replicas)} would do"
    )
    if difference > 0:
        why = f"at {price_text(difference)} more per hour"
    elif difference < 0:
        why = f"at {price_text(-difference)} less per hour, but not near {order.near}"
    else:
        why = "at the same price with nothing better"
    return Refusal(
        gpu=pool.gpu.name,
        pools=(pool.id,),
        clusters=(pool.cluster,),
        reason=Reason.DEARER,
        message=f"{what} {why}",
        precision=shape.precision,
        tp=shape.tp,
        pp=shape.pp,
        memory=other.sizing.memory,
        dearer_by_per_hour=difference,
    )


def _counted(replicas: int) -> str:
    return f"{replicas} replica{'' if replicas == 1 else 's'}"


def front(order: Order, found: Sequence[Fit], chosen: Fit) -> tuple[FrontPoint, ...]:
    """Give the fits that no other beats in price and speed of an answer, cheapest first; the choice is the first.

    Each is noticeably faster than the one before.
    """
    points: list[FrontPoint] = []
    fastest = math.inf
    for fit in [
        chosen,
        *sorted(found, key=lambda fit: (fit.cost, answer_ms(order, fit.sizing), fit.pool.id)),
    ]:
        speed = answer_ms(order, fit.sizing)
        if fit.cost < chosen.cost or speed > fastest * FRONT_STEP:
            continue
        fastest = speed
        points.append(_point(order, fit, speed, chosen=fit is chosen))
    return tuple(points[:FRONT_LENGTH])


def _point(order: Order, fit: Fit, speed: float, *, chosen: bool) -> FrontPoint:
    pool, shape, expected = fit.pool, fit.shape, fit.sizing.expected
    return FrontPoint(
        pool=pool.id,
        cluster=pool.cluster,
        region=pool.region,
        gpu=pool.gpu.name,
        precision=shape.precision,
        tp=shape.tp,
        pp=shape.pp,
        replicas=fit.sizing.replicas,
        price_per_hour=fit.price(order),
        ttft_p95_ms=expected.ttft_p95_ms,
        itl_p95_ms=expected.itl_p95_ms,
        answer_ms=speed,
        chosen=chosen,
    )


def pin_cost(name: str, value: str, order: Order, chosen: Fit, without: Fit | None) -> PinCost:
    """Say what one pin costs beside the cheapest fit without it."""
    price, free = chosen.price(order), (without or chosen).price(order)
    return PinCost(pin=name, value=value, price_per_hour=free, saves_per_hour=max(Decimal(0), price - free))


def next_context(order: Order, chosen: Fit, cheapest: Callable[[Order], Fit | None]) -> ContextStep | None:
    """Price the next larger context cap; None where the model takes no more or nothing can serve it now."""
    size = SMALLEST_CONTEXT
    while size <= order.context_tokens:
        size *= 2
    size = min(size, order.model.context_limit)
    if size <= order.context_tokens:
        return None
    larger = dataclasses.replace(order, context_tokens=size)
    fit = cheapest(larger)
    if fit is None:
        return None
    price = fit.price(larger)
    return ContextStep(
        context_tokens=size,
        price_per_hour=price,
        extra_per_hour=max(Decimal(0), price - chosen.price(order)),
    )


def disaggregated(order: Order, chosen: Fit, performance: PerformanceModel) -> Disaggregated | None:
    """Work out the chosen shape with prompts and answers on replicas of their own; None without load.

    Prompts go one after the other (M/D/1 at the same utilisation cap), answers never wait for prompts.
    """
    profile, shape, rate = order.profile, chosen.shape, order.profile.requests_per_second
    if rate <= 0:
        return None
    prompt_ms = performance.first_token_ms(shape, input_tokens=profile.fresh_tokens)
    batch = float(chosen.sizing.max_batch_size)
    context = profile.input_tokens + profile.output_tokens / 2
    step_ms = performance.step_ms(shape, decoding=batch, context=context, prompt_tokens=0.0)
    prefill = math.ceil(rate * prompt_ms / 1000 / UTILISATION_CAP)
    decode = math.ceil(profile.output_tokens_per_s * step_ms / 1000 / batch / UTILISATION_CAP)
    load = rate * prompt_ms / 1000 / prefill
    price = chosen.pool.price_per_gpu_hour * shape.gpus * (prefill + decode) * order.slo.price_factor
    return Disaggregated(
        prefill_replicas=prefill,
        decode_replicas=decode,
        ttft_ms=prompt_ms * (1 + load / (2 * (1 - load))),
        itl_ms=step_ms,
        price_per_hour=price,
        message=f"{prefill} replicas for prompts and {decode} for answers would do; no runtime of Berth can be "
        "deployed so yet",
    )
