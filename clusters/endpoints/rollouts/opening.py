"""Beginning a rollout. Callers hold the tenant's and the endpoint's row and a transaction."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from django.utils import timezone

from clusters.endpoints.history import record
from clusters.endpoints.rollouts.outage import Outage
from clusters.endpoints.rollouts.policy import RolloutPolicy
from clusters.endpoints.rollouts.terms import terms_document
from clusters.models import Endpoint, Revision, Rollout, RolloutWay


def rollout_open(
    endpoint: Endpoint,
    *,
    before: Revision | None,
    revision: Revision | None,
    back: Mapping[str, Any],
    what: str,
    actor: str,
    way: str = RolloutWay.SURGE,
    replicas: int | None = None,
    outage: Outage | None = None,
    at_once: bool = False,
    now: dt.datetime | None = None,
) -> Rollout | None:
    """Write down a change: from ``before``, which serves, to ``revision``, None while it has no GPUs.

    ``back`` are the terms before it. In place it waits for the class's window, unless it is to be ``at_once`` or
    ``before`` sleeps. Where nothing served before there is nothing to roll out from, and None is given.
    """
    if before is None:
        return None
    now = now or timezone.now()
    policy = RolloutPolicy.of(endpoint.slo_class)
    starts = revision is not None or at_once
    reason = ""
    if way == RolloutWay.REPLACE and not starts and before.replicas:
        reason = f"It waits for its window, {policy.window}: {policy.opens_at(now):%Y-%m-%d %H:%M} UTC."
    elif way == RolloutWay.BORROW:
        reason = "It waits for replicas of its own to make room."
    rollout = Rollout.objects.create(
        tenant_id=endpoint.tenant_id,
        endpoint=endpoint,
        before=before,
        revision=revision,
        replicas=replicas or (revision.replicas if revision else None),
        what=what[:300],
        way=way,
        policy=policy.to_document(),
        phase=Rollout.Phase.STARTING if starts else Rollout.Phase.WAITING,
        phase_since=now,
        reason=reason,
        wish=terms_document(endpoint),
        back=dict(back),
        outage_s=outage.seconds if outage else None,
        outage_from=outage.source if outage else "",
        started_at=now,
        started_by=actor[:120],
    )
    record(
        endpoint,
        "rollout",
        f"Rollout begins: {what} {rollout.get_way_display()}. {reason}".strip(),
        actor=actor,
    )
    return rollout
