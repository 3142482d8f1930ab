"""Waiting for capacity: who comes first, how long it may take, what could be had at once.

Among those that could use the same pools, a class with a higher priority goes first, then who has waited longer.
Whoever is first and fits into what is free gets it; one that needs more than is free holds up nobody.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import statistics
from collections.abc import Collection
from typing import Any, Final

from django.db.models import Q, QuerySet
from django.utils import timezone

from clusters.endpoints.conditions import set_condition
from clusters.endpoints.planning import Market, OrderTerms
from clusters.endpoints.wake import wake
from clusters.models import CapacityWait, Condition, Endpoint, Revision, SloClass, Wanted
from clusters.planning.plans import Alternative, Plan, PlanStatus, Reason, price_text
from tenants import scope

#: Waits that ended in so many days say how long one may take.
LOOK_BACK_DAYS: Final = 30

#: So many of those before it are asked whether they fit, which takes a plan each.
MOST_ASKED: Final = 20

#: Whoever is left GPUs and has not taken them for so long is passed over: something keeps it from being placed.
PATIENCE: Final = dt.timedelta(seconds=60)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CapacityAnswer:
    """What is known of a wait for free GPUs in ``pools``.

    ``position`` counts from 1 among the ``waiting``. ``estimate_s`` is how long it may still take, as the median of
    ``sample`` waits, ``at_most_s`` what nine of ten keep to; both are None where nothing says, and ``estimate`` says
    so in words. ``alternatives`` are what could be had at once, with ``price_per_hour``.
    """

    since: dt.datetime | None
    pools: tuple[str, ...]
    position: int
    waiting: int
    estimate: str
    estimate_s: float | None
    at_most_s: float | None
    sample: int
    alternatives: tuple[dict[str, Any], ...]


def capacity_of(endpoint: Endpoint) -> CapacityAnswer | None:
    """Say how an endpoint's wait for capacity stands; None where it does not wait."""
    wait = CapacityWait.objects.filter(endpoint=endpoint, ended_at=None).first()
    if wait is None:
        return None
    return _answer(
        wait.pools, endpoint.slo_class, since=wait.created_at, alternatives=wait.alternatives, besides=wait
    )


def capacity_for(plan: Plan, *, slo_class: SloClass) -> CapacityAnswer | None:
    """Say how the wait would stand if ``plan`` were ordered; None where it would not wait."""
    if plan.status != PlanStatus.NO_CAPACITY:
        return None
    alternatives = [_alternative(each) for each in plan.alternatives]
    return _answer(_pools(plan), slo_class, since=None, alternatives=alternatives, besides=None)


def wait_begin(endpoint: Endpoint, plan: Plan) -> None:
    """Write down that an endpoint waits, for which pools, and what it could have instead; only news is written."""
    if plan.status != PlanStatus.NO_CAPACITY:
        wait_end(endpoint)
        return
    wait_for(endpoint, _pools(plan), [_alternative(each) for each in plan.alternatives])


def wait_for(endpoint: Endpoint, pools: list[str], alternatives: list[dict[str, Any]] | None = None) -> None:
    """Write down that an endpoint waits for GPUs of ``pools``; only news is written."""
    known = {"pools": pools, "alternatives": alternatives or [], "offered_at": None}
    held = CapacityWait.objects.filter(endpoint=endpoint, ended_at=None).first()
    if held is None:
        CapacityWait.objects.create(tenant_id=endpoint.tenant_id, endpoint=endpoint, **known)
    elif any(getattr(held, name) != value for name, value in known.items()):
        CapacityWait.objects.filter(id=held.id).update(**known)


def wait_end(endpoint: Endpoint, pool: str = "") -> None:
    """Write down that an endpoint waits no more: it got GPUs of ``pool``, or wants none."""
    CapacityWait.objects.filter(endpoint=endpoint, ended_at=None).update(ended_at=timezone.now(), pool=pool)


def gives_way(endpoint: Endpoint, plan: Plan) -> bool:
    """Leave free GPUs to whoever waits before ``endpoint`` and fits there; say whether somebody does.

    Callers hold the pools. Whoever goes first is woken, and ``endpoint`` waits.
    """
    if plan.configuration is None:
        return False
    pool = plan.configuration.pool
    first = _first_before(endpoint, pool)
    if first is None:
        return False
    with scope.tenant(first.tenant_id):
        wake(first)
    message = f"Another endpoint comes before it for the free GPUs of {pool}."
    set_condition(endpoint, Condition.Type.PLACED, Condition.Status.FALSE, "NoCapacity", message)
    if not CapacityWait.objects.filter(endpoint=endpoint, ended_at=None).exists():
        wait_for(endpoint, [pool])
    return True


def _first_before(endpoint: Endpoint, pool: str) -> Endpoint | None:
    with scope.platform("who waits before an endpoint for free GPUs"):
        own = CapacityWait.objects.filter(endpoint=endpoint, ended_at=None).first()
        since = own.created_at if own else timezone.now()
        waits = _queue([pool]).exclude(endpoint=endpoint).filter(_before(endpoint.slo_class, since))
        busy = Revision.objects.filter(cleaned_at=None).values("endpoint")
        ready = waits.filter(
            endpoint__wanted=Wanted.RUNNING, endpoint__restoring=None, endpoint__deleted_at=None
        ).exclude(endpoint__in=busy)
        asked = list(
            ready.select_related(
                "endpoint__tenant", "endpoint__model", "endpoint__slo_class", "endpoint__cluster"
            )[:MOST_ASKED]
        )
    for wait in asked:
        if wait.offered_at is not None and timezone.now() - wait.offered_at > PATIENCE:
            continue
        other = wait.endpoint
        with scope.tenant(other.tenant_id):
            plan = Market.read(tenant=other.tenant, besides=other).plan(OrderTerms.of(other))
            if plan.configuration is not None and plan.configuration.pool == pool:
                CapacityWait.objects.filter(id=wait.id, offered_at=None).update(offered_at=timezone.now())
                return other
    return None


def _queue(pools: Collection[str]) -> QuerySet[CapacityWait]:
    rows = CapacityWait.objects.filter(ended_at=None, pools__overlap=list(pools))
    return rows.order_by("endpoint__slo_class__priority", "created_at", "id")


def _before(slo_class: SloClass, since: dt.datetime) -> Q:
    return Q(endpoint__slo_class__priority__lt=slo_class.priority) | Q(
        endpoint__slo_class__priority=slo_class.priority, created_at__lt=since
    )


def _answer(
    pools: list[str],
    slo_class: SloClass,
    *,
    since: dt.datetime | None,
    alternatives: list[dict[str, Any]],
    besides: CapacityWait | None,
) -> CapacityAnswer:
    now = timezone.now()
    with scope.platform("the queue for free GPUs, of which only counts are told"):
        others = _queue(pools)
        if besides is not None:
            others = others.exclude(id=besides.id)
        waiting = others.count() + 1
        position = others.filter(_before(slo_class, since or now)).count() + 1
        over = CapacityWait.objects.filter(
            ended_at__gte=now - dt.timedelta(days=LOOK_BACK_DAYS), pools__overlap=list(pools)
        ).exclude(pool="")
        lengths = sorted(
            (ended_at - began).total_seconds()
            for began, ended_at in over.values_list("created_at", "ended_at")
        )
    waited = (now - since).total_seconds() if since else 0.0
    left = [length - waited for length in lengths if length > waited]
    estimate_s = statistics.median(left) if left else None
    at_most_s = left[min(len(left) - 1, int(0.9 * len(left)))] if left else None
    return CapacityAnswer(
        since=since,
        pools=tuple(pools),
        position=position,
        waiting=waiting,
        estimate=_words(lengths, estimate_s, at_most_s),
        estimate_s=estimate_s,
        at_most_s=at_most_s,
        sample=len(lengths),
        alternatives=tuple(alternatives),
    )


def _words(lengths: list[float], estimate_s: float | None, at_most_s: float | None) -> str:
    if not lengths:
        return f"unknown: nobody waited for these GPUs in the last {LOOK_BACK_DAYS} days"
    counted = f"{len(lengths)} that waited for these GPUs in the last {LOOK_BACK_DAYS} days"
    if estimate_s is None or at_most_s is None:
        return f"unknown: it has waited longer than the {counted}"
    return f"about {_length(estimate_s)}, in nine of ten cases no more than {_length(at_most_s)}: by the {counted}"


def _length(seconds: float) -> str:
    for unit, name in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} seconds"


def _pools(plan: Plan) -> list[str]:
    wanting = {Reason.CAPACITY, Reason.CLUSTER_STATE}
    return sorted({pool for refusal in plan.refusals if refusal.reason in wanting for pool in refusal.pools})


def _alternative(option: Alternative) -> dict[str, Any]:
    chosen = option.configuration
    return {
        "relaxation": option.relaxation.value,
        "value": option.value,
        "message": option.message,
        "cluster": chosen.cluster,
        "region": chosen.region,
        "gpu": chosen.gpu,
        "gpus": chosen.gpus,
        "precision": chosen.precision.value,
        "price_per_hour": price_text(chosen.price_per_hour),
    }
