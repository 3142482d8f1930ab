"""Endpoints that may have no replica until a request comes: what gateways are told of them, and waking them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import logging
import uuid
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from celery import current_app
from celery.exceptions import OperationalError
from django.db import transaction

from clusters.endpoints.autoscaling.bounds import may_sleep
from clusters.endpoints.autoscaling.carrying import NO_CAPACITY
from clusters.models import Condition, Endpoint, EndpointScaling, EndpointState, Revision, ScaleSchedule

log = logging.getLogger(__name__)

AUTOSCALE: Final = "clusters.endpoints.tasks.autoscale"


@dataclasses.dataclass(frozen=True)
class Sleepers:
    """Which of some endpoints sleep, by the rows that say so, and for how long requests are held for each.

    ``refused`` are those that sleep and could not be woken when that was tried last, each with the condition's reason.
    GPUs that are lacking are no refusal: others may be giving them back.
    """

    asleep: Collection[uuid.UUID]
    holds: Mapping[uuid.UUID, float]
    refused: Mapping[uuid.UUID, str]

    @classmethod
    def read(cls, endpoints: Sequence[Endpoint]) -> Sleepers:
        """Read it for ``endpoints``, in 1 query where none may sleep, else in 4. Call it in the platform's scope."""
        scalings = {
            scaling.endpoint_id: scaling
            for scaling in EndpointScaling.objects.filter(enabled=True, endpoint__in=endpoints)
        }
        if not scalings:
            return cls((), {}, {})
        schedules: defaultdict[uuid.UUID, list[ScaleSchedule]] = defaultdict(list)
        for schedule in ScaleSchedule.objects.filter(endpoint__in=scalings):
            schedules[schedule.endpoint_id].append(schedule)
        empty = Revision.objects.filter(retired_at=None, replicas=0, endpoint__in=scalings)
        asleep = frozenset(empty.values_list("endpoint_id", flat=True))
        held = Condition.objects.filter(
            endpoint__in=asleep, type=Condition.Type.SCALING, status=Condition.Status.FALSE
        )
        return cls(
            asleep=asleep,
            refused=dict(held.exclude(reason=NO_CAPACITY).values_list("endpoint_id", "reason")),
            holds={
                endpoint.id: endpoint.slo_class.wake_hold_s
                for endpoint in endpoints
                if may_sleep(endpoint, scalings.get(endpoint.id), schedules[endpoint.id])
            },
        )

    def state(self, endpoint: Endpoint) -> str:
        """Give the state of one without a replica that serves: asleep at once, though its badge says so later.

        Where the cluster decides, or its last engine has just died, it is called ready until somebody has looked.
        """
        looked_at_later = endpoint.id in self.holds and endpoint.state == EndpointState.READY
        return (
            EndpointState.SCALED_TO_ZERO if endpoint.id in self.asleep or looked_at_later else endpoint.state
        )

    def hold_s(self, endpoint: Endpoint) -> float:
        """Give how long requests are held while it has no replica: not at all for one that could not be woken."""
        return 0.0 if endpoint.id in self.refused else self.holds.get(endpoint.id, 0.0)

    def refusal(self, endpoint: Endpoint) -> str:
        """Give why it could not be woken when that was tried last, empty where nothing stands in the way."""
        return self.refused.get(endpoint.id, "")


def scaling_wanted(endpoints: Sequence[Endpoint], *, now: dt.datetime) -> None:
    """Have those of ``endpoints`` that sleep looked at now. Call it in the platform's scope, in a transaction."""
    asleep = EndpointScaling.objects.filter(
        enabled=True,
        endpoint__in=endpoints,
        endpoint__revisions__in=Revision.objects.filter(retired_at=None, replicas=0),
    ).values_list("tenant_id", "endpoint_id")
    found = list(asleep.distinct())
    EndpointScaling.objects.filter(endpoint__in=[endpoint_id for _, endpoint_id in found]).update(
        wanted_at=now, due_at=now
    )
    for tenant_id, endpoint_id in found:
        transaction.on_commit(functools.partial(enqueue, str(tenant_id), str(endpoint_id)))


def enqueue(tenant_id: str, endpoint_id: str) -> None:
    """Enqueue a look. A broker that is away costs only time: the sweep finds the due row."""
    try:
        current_app.send_task(AUTOSCALE, args=[tenant_id, endpoint_id], retry=False)
    except OperationalError as error:
        log.warning("broker away, the scaling of endpoint %s waits for the sweep: %s", endpoint_id, error)
