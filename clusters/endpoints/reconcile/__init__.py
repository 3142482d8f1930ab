"""Bringing what is there to what is wanted: one small step per file, each settled early or done again.

A pass claims the endpoint, runs the steps in order and says when to look again. A second pass over a settled
endpoint writes nothing, neither to the database nor to the cluster.
"""

from __future__ import annotations

import datetime as dt
import uuid

from django.utils import timezone

from clusters.endpoints.reconcile.conclude import conclude
from clusters.endpoints.reconcile.hand_over import hand_over
from clusters.endpoints.reconcile.observe import observe
from clusters.endpoints.reconcile.place import place
from clusters.endpoints.reconcile.provision import provision
from clusters.endpoints.reconcile.retire import retire
from clusters.endpoints.reconcile.route import route
from clusters.endpoints.reconcile.work import Work, load
from tenants.locks import claimed

STEPS = (retire, place, provision, observe, route, hand_over, conclude)


def reconcile_endpoint(endpoint_id: uuid.UUID | str, now: dt.datetime | None = None) -> float | None:
    """Run one pass over an endpoint; return in how many seconds to look again, None when it is settled.

    An endpoint that another pass holds is left to that pass.
    """
    with claimed(f"endpoint:{endpoint_id}") as mine:
        if not mine:
            return None
        work = load(endpoint_id, now or timezone.now())
        if work is None:
            return None
        for step in STEPS:
            step(work)
        return work.look_again


__all__ = ["STEPS", "Work", "reconcile_endpoint"]
