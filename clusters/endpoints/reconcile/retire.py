"""Remove what is no longer wanted, until the cluster shows nothing of it."""

from __future__ import annotations

from django.utils import timezone

from billing.allocations import allocation_close
from clusters.drivers.base import GiveUp, TryLater
from clusters.endpoints.history import record
from clusters.endpoints.placement import unclaim_released
from clusters.endpoints.reconcile.work import Work
from clusters.models import Endpoint, Replica, Reservation, Revision, Rollout, RolloutWay, Wanted
from tenants import scope

LOOK_AGAIN_S = 2.0  # endpoints on the move are looked at sooner anyway


def retire(work: Work) -> None:
    """Delete each leftover again until it is gone, then release its GPUs and end their cost."""
    remaining = []
    for revision in work.leftovers:
        try:
            gone = work.driver(revision).delete(revision.deployment)
        except TryLater as error:
            work.unreachable(revision, error)
            gone = False
        except GiveUp as error:
            work.refused = str(error)
            gone = False
        if gone:
            _clean(work, revision)
        else:
            remaining.append(revision)
            if work.behind is None:
                work.soon(LOOK_AGAIN_S)
    work.leftovers = remaining


def _clean(work: Work, revision: Revision) -> None:
    now = timezone.now()
    with scope.tenant(work.endpoint.tenant_id):
        for replica in Replica.objects.filter(revision=revision, gone_at=None):
            allocation_close(replica_id=replica.replica_id, ended_at=now)
        Replica.objects.filter(revision=revision, gone_at=None).update(gone_at=now, phase=Replica.Phase.GONE)
        released = Reservation.objects.held().filter(revision=revision)
        gpus, kept = released.gpus(), _kept(work, revision)
        if not kept:
            released.update(released_at=now)
        Revision.objects.filter(id=revision.id, cleaned_at=None).update(cleaned_at=now)
        unclaim_released(work.endpoint)
        told = "kept for what takes its place" if kept else "released"
        record(work.endpoint, "released", f"Revision {revision.number} is gone; {gpus} GPUs {told}.")


def _kept(work: Work, revision: Revision) -> bool:
    """Say whether the GPUs of one that is gone are for the revision in its place, which is placed next.

    Held until the transaction ends: a pause meanwhile lets go of what is kept.
    """
    work.lock()
    endpoint = Endpoint.objects.get(id=work.endpoint.id)
    if endpoint.wanted != Wanted.RUNNING:
        return False
    if endpoint.restoring is not None:
        return Revision.objects.filter(endpoint=endpoint).latest("number").id == revision.id
    return (
        Rollout.objects.active()
        .filter(endpoint=endpoint, way=RolloutWay.REPLACE, before=revision, revision=None)
        .exists()
    )
