"""GPUs of a pool between classes: what lower ones leave free as they grow, and give back when higher ones need it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
import uuid
from collections import defaultdict
from collections.abc import Collection, Sequence

from django.db.models import Count

from clusters.endpoints.autoscaling.bounds import Bounds, bounds_now
from clusters.models import (
    Endpoint,
    EndpointScaling,
    NodePool,
    Reservation,
    Revision,
    Rollout,
    ScaleSchedule,
    Wanted,
)
from tenants import scope


@dataclasses.dataclass(frozen=True, kw_only=True)
class Neighbour:
    """An endpoint whose replicas in a pool Berth chooses, whosever it is."""

    endpoint_id: uuid.UUID
    tenant_id: uuid.UUID
    priority: int
    replicas: int
    wants: int
    gpus_per_replica: int
    bounds: Bounds

    @property
    def may_grow_by(self) -> int:
        return max(0, self.bounds.ceiling - self.replicas) * self.gpus_per_replica

    @property
    def lacks(self) -> int:
        """GPUs of replicas that it should and may have and could not get."""
        return max(0, min(self.wants, self.bounds.ceiling) - self.replicas) * self.gpus_per_replica

    @property
    def above_floor(self) -> int:
        return max(0, self.replicas - self.bounds.floor)


def neighbours(pool: NodePool, *, besides: uuid.UUID, now: dt.datetime) -> list[Neighbour]:
    """Give the other endpoints in ``pool`` whose replicas Berth chooses. Call it in the platform's scope."""
    revisions = (
        Revision.objects.filter(
            pool=pool,
            retired_at=None,
            endpoint__wanted=Wanted.RUNNING,
            endpoint__deleted_at=None,
            endpoint__scaling__enabled=True,
        )
        .exclude(endpoint=besides)
        .select_related("endpoint__slo_class", "endpoint__scaling")
        .order_by("endpoint_id", "number")
    )
    newest = {revision.endpoint_id: revision for revision in revisions}
    schedules: defaultdict[uuid.UUID, list[ScaleSchedule]] = defaultdict(list)
    for schedule in ScaleSchedule.objects.filter(endpoint__in=newest):
        schedules[schedule.endpoint_id].append(schedule)
    return [_neighbour(revision, schedules[revision.endpoint_id], now) for revision in newest.values()]


def _neighbour(revision: Revision, schedules: list[ScaleSchedule], now: dt.datetime) -> Neighbour:
    endpoint: Endpoint = revision.endpoint
    scaling: EndpointScaling = endpoint.scaling
    return Neighbour(
        endpoint_id=endpoint.id,
        tenant_id=endpoint.tenant_id,
        priority=endpoint.slo_class.priority,
        replicas=revision.replicas,
        wants=scaling.wants,
        gpus_per_replica=revision.gpus_per_replica,
        bounds=bounds_now(endpoint, scaling, revision, schedules, now=now),
    )


def kept_for_higher(pool: NodePool, endpoint: Endpoint, *, now: dt.datetime) -> int:
    """Count the GPUs of ``pool`` that ``endpoint``, growing, leaves free for endpoints of higher classes.

    That is all that these lack now, and of what they may still grow to the share that the operators set.
    """
    with scope.platform("what endpoints of higher classes may still need in a pool"):
        higher = [
            each
            for each in neighbours(pool, besides=endpoint.id, now=now)
            if each.priority < endpoint.slo_class.priority
        ]
    share = math.ceil(sum(each.may_grow_by for each in higher) * pool.higher_share / 100)
    return max(share, sum(each.lacks for each in higher))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Room:
    """Whose replicas go, each with how many it keeps, and how many GPUs are on their way back already."""

    takes: list[tuple[Neighbour, int]]
    coming: int


def givers(pool: NodePool, endpoint: Endpoint, gpus: int, *, now: dt.datetime) -> Room:
    """Say which endpoints of lower classes give replicas back so that ``gpus`` come free, and how many they keep.

    The lowest class first, of one class whoever has the most above its floor; nobody below its floor, and nobody's
    last replica while others have more than one; nobody in the middle of a change, whose new revision is judged as it
    is. What is on its way back is counted.
    """
    with scope.platform("who has more than its floor in a pool that a higher class needs"):
        lower = [
            each
            for each in neighbours(pool, besides=endpoint.id, now=now)
            if each.priority > endpoint.slo_class.priority and each.above_floor
        ]
        busy = changing([each.endpoint_id for each in lower])
        lower = [each for each in lower if each.endpoint_id not in busy]
        coming = _coming_back(pool)
    gpus -= coming
    return Room(takes=taken_from(lower, gpus), coming=coming)


def changing(endpoint_ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
    """Give the endpoints of these whose change from one revision to another is under way."""
    rollouts = Rollout.objects.active().filter(endpoint__in=endpoint_ids)
    wanted = Revision.objects.filter(endpoint__in=endpoint_ids, retired_at=None)
    two = wanted.order_by().values("endpoint").annotate(wanted=Count("id")).filter(wanted__gt=1)
    return {*rollouts.values_list("endpoint", flat=True), *two.values_list("endpoint", flat=True)}


def taken_from(lower: Sequence[Neighbour], gpus: int) -> list[tuple[Neighbour, int]]:
    """Say who of ``lower`` keeps fewer replicas so that ``gpus`` come free, each with how many."""
    found: list[tuple[Neighbour, int]] = []
    for last in (False, True):
        for each in sorted(lower, key=lambda each: (-each.priority, -each.above_floor, each.endpoint_id)):
            least = each.bounds.floor if last else max(1, each.bounds.floor)
            has = next((left for giver, left in found if giver is each), each.replicas)
            gives = min(has - least, math.ceil(gpus / each.gpus_per_replica))
            if gpus > 0 and gives > 0:
                found = [pair for pair in found if pair[0] is not each] + [(each, has - gives)]
                gpus -= gives * each.gpus_per_replica
    return found


def _coming_back(pool: NodePool) -> int:
    held = Reservation.objects.held().filter(pool=pool).select_related("revision")
    wanted = {
        each.id: 0 if each.revision.retired_at else each.revision.replicas * each.gpus_per_replica
        for each in held
    }
    return sum(max(0, each.gpus - wanted[each.id]) for each in held)
