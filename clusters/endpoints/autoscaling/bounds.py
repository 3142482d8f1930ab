"""Between how many replicas an endpoint may have, now and by whom that is decided."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum

from clusters.endpoints.autoscaling.deciding import Policy
from clusters.endpoints.autoscaling.schedules import scheduled
from clusters.inventory.drivers import autoscaler_of
from clusters.kube.manifests import Autoscaler
from clusters.models import Endpoint, EndpointScaling, Revision, ScaleSchedule, SloClass


class DecidedBy(enum.StrEnum):
    """Who says how many replicas there are; never two at once."""

    HAND = "by-hand"
    BERTH = "berth"
    CLUSTER = "cluster"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bounds:
    """What holds now: ``scheduled`` says that a schedule sets it, ``until`` when schedules change it next.

    ``idle_s`` is None where it is not to go to zero.
    """

    floor: int
    ceiling: int
    idle_s: float | None
    scheduled: bool
    until: dt.datetime | None


def decided_by(scaling: EndpointScaling | None, revision: Revision | None) -> DecidedBy:
    """Say who decides: where a cluster serves an autoscaler of its own, that one does and Berth leaves it alone."""
    if revision is not None and autoscaler_of(revision.cluster) is not Autoscaler.NONE:
        return DecidedBy.CLUSTER
    return DecidedBy.BERTH if scaling is not None and scaling.enabled else DecidedBy.HAND


def planned_bounds(revision: Revision | None, endpoint: Endpoint) -> tuple[int, int]:
    """Give the floor and the ceiling of the plan: what the mean load needs, and the busiest minute."""
    if revision is None:
        return (endpoint.replicas or 1, endpoint.replicas or 1)
    chosen = revision.plan["configuration"]
    ceiling = max(1, chosen["replicas"], chosen.get("replicas_ceiling") or 0)
    return min(max(1, chosen["replicas_floor"]), ceiling), ceiling


def own_bounds(scaling: EndpointScaling, revision: Revision | None, endpoint: Endpoint) -> tuple[int, int]:
    """Give an endpoint's floor and ceiling where no schedule says otherwise."""
    floor, ceiling = planned_bounds(revision, endpoint)
    if scaling.ceiling is not None:
        ceiling = scaling.ceiling
    floor = min(floor, ceiling) if scaling.floor is None else scaling.floor
    return floor, max(ceiling, floor)


def agreed_replicas(endpoint: Endpoint, revision: Revision) -> int:
    """Give how many replicas rules of approval were asked about: those it was placed or scaled to."""
    planned = revision.plan["configuration"]["replicas"]
    return max(revision.replicas, planned, endpoint.replicas or 0)


def bounds_now(
    endpoint: Endpoint,
    scaling: EndpointScaling,
    revision: Revision | None,
    schedules: list[ScaleSchedule],
    *,
    now: dt.datetime,
) -> Bounds:
    """Give the bounds that hold at ``now``."""
    floor, ceiling = own_bounds(scaling, revision, endpoint)
    by_schedule = scheduled(schedules, now=now)
    if by_schedule.floor is not None:
        floor = by_schedule.floor
        ceiling = max(floor, ceiling if by_schedule.ceiling is None else by_schedule.ceiling)
    slo_class: SloClass = endpoint.slo_class
    if floor == 0 and not slo_class.may_scale_to_zero:
        floor = 1  # the class was changed since
    idle_s = float(scaling.idle_s or slo_class.idle_to_zero_s) if floor == 0 else None
    return Bounds(
        floor=floor,
        ceiling=max(1, ceiling),
        idle_s=idle_s,
        scheduled=by_schedule.floor is not None,
        until=by_schedule.until,
    )


def may_sleep(endpoint: Endpoint, scaling: EndpointScaling | None, schedules: list[ScaleSchedule]) -> bool:
    """Say whether it may ever be scaled to zero, so that requests are held for it."""
    if scaling is None or not scaling.enabled or not endpoint.slo_class.may_scale_to_zero:
        return False
    return scaling.floor == 0 or any(schedule.floor == 0 for schedule in schedules)


def policy_of(slo_class: SloClass, revision: Revision, bounds: Bounds) -> Policy:
    """Give what the decision goes by."""
    return Policy(
        floor=bounds.floor,
        ceiling=bounds.ceiling,
        at_once=max(1, revision.max_batch_size),
        queue_s=slo_class.queue_s,
        ttft_ms=slo_class.ttft_p95_ms,
        high_water=slo_class.high_water,
        low_water=slo_class.low_water,
        quiet_s=slo_class.quiet_s,
        idle_s=bounds.idle_s,
    )
