"""Derive the state, write it once, and decide when to look again."""

from __future__ import annotations

import datetime as dt

from billing.sharing import shared_close
from clusters.endpoints.autoscaling.handed_over import expected_replicas
from clusters.endpoints.history import record
from clusters.endpoints.reconcile.observe import is_asleep
from clusters.endpoints.reconcile.work import Work
from clusters.endpoints.rollouts.shown import change_of
from clusters.endpoints.states import Known, derive
from clusters.inventory.drivers import autoscaler_of
from clusters.kube.manifests import Autoscaler
from clusters.models import (
    Condition,
    Endpoint,
    EndpointScaling,
    EndpointState,
    Replica,
    Revision,
    Wanted,
)
from tenants import scope

QUICK_S, PATIENT_S, QUICK_FOR_S = 0.3, 5.0, 60.0  # what changes on a cluster wakes it anyway
LONGEST_REASON = 300
MOVING = {EndpointState.PROVISIONING, EndpointState.UPDATING, EndpointState.DELETING}


def conclude(work: Work) -> None:
    """Write what changed. A wish that came in during the pass keeps its own due time."""
    endpoint = work.endpoint
    with scope.tenant(endpoint.tenant_id):
        state, reason = _state(work)
        reason = reason[:LONGEST_REASON]
        now = work.now
        changes = {}
        if state != endpoint.state:
            changes |= {"state": state, "state_since": now}
        if reason != endpoint.state_reason:
            changes["state_reason"] = reason
        if endpoint.observed_generation != endpoint.generation:
            changes["observed_generation"] = endpoint.generation
        if state == EndpointState.READY and endpoint.ready_at is None:
            changes["ready_at"] = now
        if state == EndpointState.DELETED:
            changes["deleted_at"] = now
            work.look_again = None
        if state in MOVING:
            recent = state != endpoint.state or (now - endpoint.state_since).total_seconds() < QUICK_FOR_S
            work.soon(QUICK_S if recent else PATIENT_S)
        elif state == EndpointState.DEGRADED:
            work.soon(PATIENT_S)
        elif state == EndpointState.SCALED_TO_ZERO and work.current is not None and _present(work.current):
            work.soon(PATIENT_S)  # its last engines finish their requests
        this_wish = Endpoint.objects.filter(id=endpoint.id, generation=endpoint.generation)
        if changes and this_wish.update(**changes) and "state" in changes:
            record(endpoint, "state", f"{EndpointState(state).label}: {reason}")
            if state == EndpointState.READY:
                EndpointScaling.objects.filter(endpoint=endpoint, enabled=True).update(due_at=now)
            if state == EndpointState.DELETED:
                shared_close(endpoint_id=endpoint.id, ended_at=now)
        due_at = None if work.look_again is None else now + dt.timedelta(seconds=work.look_again)
        # Whoever woke it during the pass is counted: then look again at once. That it was leased anew is none.
        nobody_woke_it = this_wish.filter(wakes=endpoint.wakes)
        if due_at != endpoint.due_at and not nobody_woke_it.update(due_at=due_at):
            work.look_again = 0


def _state(work: Work) -> tuple[str, str]:
    endpoint = work.endpoint
    if endpoint.wanted == Wanted.DELETED and not work.leftovers and work.current is None:
        return EndpointState.DELETED, "Gone; its GPUs are released."
    conditions = {
        condition.type: Known(condition.status, condition.reason, condition.message)
        for condition in Condition.objects.filter(endpoint=endpoint)
    }
    ready, asleep = 0, False
    if work.current is not None:
        present = Replica.objects.filter(revision=work.current, gone_at=None, phase=Replica.Phase.READY)
        ready = present.count()
        asleep = is_asleep(work.current)
    return derive(
        wanted=endpoint.wanted,
        conditions=conditions,
        ready=ready,
        replicas=_expected(work.current),
        served=_served(work.current),
        holds=bool(work.leftovers) or work.current is not None,
        before=Replica.objects.filter(
            revision__in=work.predecessors, gone_at=None, phase=Replica.Phase.READY
        ).count(),
        grown_from=work.current.grown_from if work.current else None,
        asleep=asleep,
        change=change_of(endpoint),
    )


def _expected(revision: Revision | None) -> int:
    if revision is None or autoscaler_of(revision.cluster) is Autoscaler.NONE:
        return revision.replicas if revision else 0
    return expected_replicas(revision, Replica.objects.filter(revision=revision, gone_at=None).count())


def _present(revision: Revision) -> bool:
    return Replica.objects.filter(revision=revision, gone_at=None).exists()


def _served(revision: Revision | None) -> bool:
    return revision is not None and Replica.objects.filter(revision=revision, ready_at__isnull=False).exists()
