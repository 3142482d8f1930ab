"""Having lower classes give GPUs of a pool back, each in a transaction of its own tenant."""

from __future__ import annotations

import datetime as dt
from typing import Final

from clusters.endpoints import placement
from clusters.endpoints.autoscaling import giving_way
from clusters.endpoints.autoscaling.bounds import bounds_now
from clusters.endpoints.autoscaling.decisions import decision_write, write_scaling
from clusters.endpoints.autoscaling.setting import schedules_of
from clusters.endpoints.wake import wake
from clusters.endpoints.wishes import for_update
from clusters.models import Cluster, Endpoint, EndpointScaling, Revision
from tenants import scope
from tenants.announcements import announce

GIVES_WAY: Final = "gives-way"


def make_room(endpoint: Endpoint, revision: Revision, *, gpus: int, now: dt.datetime) -> bool:
    """Have lower classes give ``gpus`` back in a revision's pool; say whether any are given or on their way.

    Call it outside of any tenant's transaction.
    """
    if revision.cluster.state != Cluster.State.ACTIVE:
        return False
    found = giving_way.givers(revision.pool, endpoint, gpus, now=now)
    for giver, left in found.takes:
        with scope.tenant(giver.tenant_id):
            _give_back(giver, left, revision, now)
    return bool(found.takes) or found.coming > 0


def _give_back(giver: giving_way.Neighbour, left: int, needed_by: Revision, now: dt.datetime) -> None:
    endpoint = for_update(Endpoint.objects.get(id=giver.endpoint_id), None)
    revision = placement.current_revision(endpoint)
    scaling = EndpointScaling.objects.get(endpoint=endpoint)
    if (
        revision is None
        or revision.replicas != giver.replicas
        or not scaling.enabled
        or giving_way.changing([endpoint.id])
        or left < bounds_now(endpoint, scaling, revision, schedules_of(endpoint), now=now).floor
    ):
        return  # it has changed meanwhile; the next look goes by what it is then
    placement.resize(endpoint, revision, left)
    reason = f"Endpoints of a higher class need GPUs of {needed_by.pool}; it keeps its floor."
    decision_write(endpoint, revision, giver.replicas, left, why=GIVES_WAY, reason=reason, now=now)
    write_scaling(scaling, {"since": now, "quiet_since": None, "wants": 0})
    wake(endpoint)
    announce()
