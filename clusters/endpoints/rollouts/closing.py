"""Ending a rollout: promoted, undone, or given up for something else.

Callers hold the tenant's and the endpoint's row and a transaction, so that what ends a rollout happens as a whole or
not at all.
"""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any, Final

from django.utils import timezone

from billing.allocations import label_write
from clusters.endpoints import placement
from clusters.endpoints.history import record
from clusters.endpoints.rollouts.room import take_over
from clusters.endpoints.rollouts.terms import terms_running, terms_take
from clusters.endpoints.wishes import bump
from clusters.models import Cluster, Endpoint, Revision, Rollout, RolloutWay
from tenants import webhooks
from tenants.announcements import announce
from tenants.errors import Conflict

Phase = Rollout.Phase

PROMOTED: Final = "rollout.promoted"
UNDONE: Final = "rollout.undone"


def rollout_of(endpoint: Endpoint) -> Rollout | None:
    """Give the rollout that is under way."""
    rows = Rollout.objects.active().filter(endpoint=endpoint)
    return rows.select_related("before__cluster__region", "revision__cluster__region").first()


def rollout_promote(
    endpoint: Endpoint, rollout: Rollout, *, now: dt.datetime, actor: str = "", why: str = ""
) -> None:
    """Let the new revision serve alone: what ran before is drained and removed."""
    assert rollout.revision is not None
    older = Revision.objects.filter(endpoint=endpoint, retired_at=None, number__lt=rollout.revision.number)
    if rollout.way == RolloutWay.BORROW:
        take_over(endpoint, rollout)
    older.update(retired_at=now)
    _end(
        rollout,
        Phase.PROMOTED,
        why or "It is as good as the revision before it.",
        now=now,
        actor=actor,
        weight=100,
    )
    label_write(
        endpoint_id=endpoint.id,
        project=endpoint.project,
        name=endpoint.name,
        model=endpoint.model.name,
        slo_class=endpoint.slo_class.name,
    )
    record(
        endpoint,
        "replaced",
        f"Revision {rollout.revision.number} serves in place of revision {rollout.before.number}. {why}".strip(),
        actor=actor,
    )
    _tell(endpoint, rollout, PROMOTED, now)
    announce()


def rollout_undo(
    endpoint: Endpoint, rollout: Rollout, *, phase: str, why: str, now: dt.datetime, actor: str = ""
) -> None:
    """Go back to what ran before, and to the order as it was; what was new is removed.

    Where it was replaced already it is placed again, in the GPUs that the new revision lets go of; where its cluster
    takes no engines any more the order as it was is placed anew.
    """
    before = Revision.objects.select_related("pool__cluster__region").get(id=rollout.before_id)
    fields = terms_take(endpoint, rollout.back)
    if before.retired_at is None:
        _give_back(rollout, before)
        placement.cancel_change(endpoint)
    else:
        placement.retire_all(endpoint)
        if before.pool.cluster.state == Cluster.State.ACTIVE:
            endpoint.restoring = before.number
            fields.append("restoring")
    _end(rollout, phase, why, now=now, actor=actor, weight=0)
    record(endpoint, "rolled-back", f"Back to revision {before.number}: {why}", actor=actor)
    _tell(endpoint, rollout, UNDONE, now)
    bump(endpoint, *fields)


def rollout_cancel(endpoint: Endpoint, *, why: str, actor: str = "", now: dt.datetime | None = None) -> None:
    """Close the rollout that is under way, if there is one, and say nothing more of one that failed."""
    now = now or timezone.now()
    rollout = rollout_of(endpoint)
    if rollout is not None:
        _end(rollout, Phase.CANCELLED, why, now=now, actor=actor, weight=0)
        record(endpoint, "rollout", f"The rollout ends: {why}", actor=actor)
    rollout_forget(endpoint, now=now)


def rollout_withdraw(
    endpoint: Endpoint, *, why: str, actor: str = "", now: dt.datetime | None = None
) -> list[str]:
    """Close the rollout that is under way where nothing is to run on, and go back to the order before it.

    What was not judged yet is not to be served later without that. Where operators moved it is kept. Gives the fields
    that changed; they are not saved.
    """
    kept = {name: value for name, value in terms_running(endpoint).items() if name != "cluster"}
    rollout_cancel(endpoint, why=why, actor=actor, now=now)
    return terms_take(endpoint, kept)


def rollout_forget(endpoint: Endpoint, *, now: dt.datetime) -> bool:
    """Show failed updates no longer as the endpoint's state; say whether there was one."""
    undone = Rollout.objects.filter(endpoint=endpoint, phase__in=Rollout.UNDONE, dismissed_at=None)
    return bool(undone.update(dismissed_at=now))


def change_give_up(endpoint: Endpoint, *, actor: str, now: dt.datetime | None = None) -> bool:
    """Give up a change that is under way for another one, so that what serves is current; say whether there was one.

    Raises:
        Conflict: what served was stopped for it already.
    """
    rollout = rollout_of(endpoint)
    if rollout is None:
        return placement.cancel_change(endpoint)
    before = Revision.objects.select_related("pool__cluster__region").get(id=rollout.before_id)
    if rollout.way == RolloutWay.REPLACE and before.retired_at is not None:
        raise Conflict(
            f"{endpoint.name} is being replaced in place and serves nothing now. Change it when its new revision "
            "serves, or pause it."
        )
    _give_back(rollout, before)
    placement.cancel_change(endpoint)
    rollout_cancel(endpoint, why="Another change takes its place.", actor=actor, now=now)
    return True


def _give_back(rollout: Rollout, before: Revision) -> None:
    """Have what ran before run with all its replicas again: their GPUs were kept for it."""
    if rollout.lent:
        before.grown_from, before.shrunk_at = before.replicas, None
        before.replicas += rollout.lent
        before.save(update_fields=["replicas", "grown_from", "shrunk_at"])
        rollout.lent = 0
        rollout.save(update_fields=["lent"])


def _end(rollout: Rollout, phase: str, why: str, *, now: dt.datetime, actor: str, weight: int) -> None:
    rollout.phase, rollout.phase_since, rollout.reason = phase, now, why[:1000]
    rollout.weight, rollout.ended_at, rollout.ended_by = weight, now, actor[:120]
    if actor and phase == Phase.ROLLED_BACK:
        rollout.dismissed_at = now  # whoever rolls it back knows
    rollout.save(
        update_fields=["phase", "phase_since", "reason", "weight", "ended_at", "ended_by", "dismissed_at"]
    )


def _tell(endpoint: Endpoint, rollout: Rollout, event_type: str, now: dt.datetime) -> None:
    data: dict[str, Any] = {
        "endpoint_id": endpoint.id,
        "endpoint": endpoint.name,
        "rollout_id": rollout.id,
        "what": rollout.what,
        "phase": rollout.phase,
        "reason": rollout.reason,
        "revision": rollout.revision.number if rollout.revision else None,
        "before": rollout.before.number,
        "verdict": rollout.verdict,
    }
    webhooks.publish(
        event_type, data, tenant_id=endpoint.tenant_id, event_id=uuid.uuid5(rollout.id, event_type), now=now
    )
