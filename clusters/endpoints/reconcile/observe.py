"""Look at what the cluster shows, and keep replicas and GPU time accordingly."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from django.utils import timezone

from clusters.drivers.base import Driver, TryLater
from clusters.endpoints.autoscaling.handed_over import cluster_scaling, expected_replicas
from clusters.endpoints.conditions import set_condition
from clusters.endpoints.history import record
from clusters.endpoints.reconcile.replicas import keep_replicas, keep_reservation
from clusters.endpoints.reconcile.work import Work
from clusters.endpoints.states import ASLEEP
from clusters.inventory.selectors import unfit_nodes
from clusters.models import Condition, Replica, Revision, RolloutWay
from clusters.specs import Phase, ReplicaStatus, Trouble
from tenants import scope

REPLACING_S = 2.0
STARTING = "Starting"


def observe(work: Work) -> None:
    """Write down the replicas of every revision that is still on a cluster; replace those on faulty nodes."""
    for revision in [work.current, *work.predecessors, *work.leftovers]:
        if revision is None or revision.applied_at is None:
            continue
        try:
            driver = work.driver(revision)
            status = driver.observe(revision.deployment)
            replicas = _without_faulty(work, revision, driver, status.replicas if status else ())
        except TryLater as error:
            work.unreachable(revision, error)
            continue
        with scope.tenant(work.endpoint.tenant_id):
            keep_replicas(work.endpoint, revision, replicas)
            if revision is work.current and work.running_wanted:
                _judge(work, revision, replicas, status.drift if status else ())
        # In a transaction of its own: scaling holds the endpoint's row and then waits for the reservation's.
        with scope.tenant(work.endpoint.tenant_id):
            keep_reservation(revision, replicas, whole=_lends(work, revision))
    if work.current is not None or work.leftovers:
        _judge_reach(work)


def _lends(work: Work, revision: Revision) -> bool:
    """Say whether what a revision lets go is kept for the one that is to serve in its place."""
    rollout = work.rollout
    return rollout is not None and rollout.way == RolloutWay.BORROW and rollout.before_id == revision.id


def _without_faulty(
    work: Work, revision: Revision, driver: Driver, replicas: Sequence[ReplicaStatus]
) -> Sequence[ReplicaStatus]:
    """End replicas on nodes at fault: they count as failed from now on, so that their cost ends."""
    names = {replica.node for replica in replicas if replica.node}
    if not names:
        return replicas
    unfit = unfit_nodes(revision.cluster_id, names, now=timezone.now())
    if unfit.look_again is not None:
        work.soon(unfit.look_again.total_seconds())
    seen = []
    for replica in replicas:
        fault = unfit.faults.get(replica.node)
        if fault is None:
            seen.append(replica)
            continue
        driver.replace(revision.deployment, replica.replica_id)
        work.soon(REPLACING_S)
        message = f"Node {replica.node}: {fault}. It is being replaced."
        seen.append(
            dataclasses.replace(
                replica, phase=Phase.FAILED, trouble=Trouble.NODE, message=message, url=None, ready_at=None
            )
        )
    return seen


def is_asleep(revision: Revision) -> bool:
    """Say whether no replica is wanted until a request comes."""
    if revision.replicas == 0:
        return True
    scaling = cluster_scaling(revision)
    if scaling is None or scaling.least:
        return False
    return not Replica.objects.filter(revision=revision, gone_at=None).exists()


def _judge(
    work: Work, revision: Revision, replicas: Sequence[ReplicaStatus], drift: Sequence[str] = ()
) -> None:
    ready = sum(replica.phase == Phase.READY for replica in replicas)
    wanted = expected_replicas(revision, len(replicas))
    if ready >= wanted and revision.grown_from is not None:
        Revision.objects.filter(id=revision.id, replicas=revision.replicas).update(grown_from=None)
        revision.grown_from = None
    failing = next((replica for replica in replicas if replica.failing), None)
    if not wanted:
        text = "Its last engines finish their requests." if replicas else ASLEEP
        news = (Condition.Status.TRUE, "ScaledToZero", text)
    elif ready >= wanted:
        news = (Condition.Status.TRUE, "AllReady", f"{ready} of {wanted} engines answer.")
    elif failing is not None:
        reason = failing.trouble or Trouble.GAVE_UP
        news = (Condition.Status.FALSE, str(reason), f"Replica {failing.index}: {failing.message}")
    else:
        stuck = next((replica for replica in replicas if replica.trouble), None)
        waiting = next((replica.message for replica in replicas if replica.message), "")
        message = f"{ready} of {wanted} engines answer. {stuck.message if stuck else waiting}".strip()
        news = (Condition.Status.FALSE, str(stuck.trouble) if stuck else STARTING, message)
    if set_condition(work.endpoint, Condition.Type.ENGINE_READY, *news) and news[1] != STARTING:
        record(work.endpoint, "engines", news[2])
    if drift:
        sync = (Condition.Status.FALSE, "Drifted", "Changed there by somebody else: " + "; ".join(drift))
    else:
        sync = (Condition.Status.TRUE, "AsOrdered", "The cluster shows what was ordered.")
    if set_condition(work.endpoint, Condition.Type.IN_SYNC, *sync) and drift:
        record(work.endpoint, "drift", sync[2])


def _judge_reach(work: Work) -> None:
    away = work.away or (work.behind if work.current is None else None)
    with scope.tenant(work.endpoint.tenant_id):
        if away is None:
            news = (Condition.Status.TRUE, "Answers", "Its cluster answers.")
        else:
            news = (Condition.Status.FALSE, "Away", str(away))
        set_condition(work.endpoint, Condition.Type.REACHABLE, *news)
