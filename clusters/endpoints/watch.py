"""Looking at whole clusters: what changed there since it was written down, and what nobody wants."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from django.db.models import F
from django.utils import timezone

from clusters.drivers.base import GiveUp, TryLater
from clusters.endpoints.wake import wake
from clusters.inventory.drivers import driver_of
from clusters.inventory.selectors import unfit_nodes
from clusters.models import Cluster, Condition, Endpoint, Replica, Reservation, Revision
from clusters.specs import DeploymentStatus
from tenants import scope

log = logging.getLogger(__name__)

NOTE_SEEN_EVERY_S = 30.0


def watch_cluster(cluster: Cluster) -> int:
    """Wake the endpoints whose engines look different from what is written; return how many.

    One question to the cluster and one to the database, no write where nothing changed.
    """
    try:
        shown = driver_of(cluster).deployments()
    except (TryLater, GiveUp) as error:
        return cluster_away(cluster, str(error))
    cluster_seen(cluster)
    return wake_changed(cluster, shown)


def wake_changed(cluster: Cluster, shown: Sequence[DeploymentStatus]) -> int:
    """Wake the endpoints whose engines, as ``shown``, are not as written; return how many."""
    return wake_endpoints(_changed(cluster, shown))


def remove_leaks(cluster: Cluster) -> int:
    """Delete deployments that carry our label and belong to no revision that may be there."""
    try:
        driver = driver_of(cluster)
        shown = driver.deployments()
        with scope.platform("find deployments that no revision wants"):
            known = set(
                Revision.objects.filter(cluster=cluster, cleaned_at=None).values_list("deployment", flat=True)
            )
        leaks = [status.name for status in shown if status.name not in known]
        for name in leaks:
            log.warning("cluster %s runs %s, which no revision wants: deleting it", cluster.name, name)
            driver.delete(name)
    except (TryLater, GiveUp) as error:
        log.info("cluster %s cannot be swept now: %s", cluster.name, error)
        return 0
    return len(leaks)


def _changed(cluster: Cluster, shown: Sequence[DeploymentStatus]) -> set:
    now_there = {
        status.name: {
            (replica.replica_id, replica.phase.value, replica.url or "") for replica in status.replicas
        }
        for status in shown
    }
    with scope.platform("compare what clusters show with what is written"):
        revisions = list(
            Revision.objects.filter(cluster=cluster, cleaned_at=None, applied_at__isnull=False).values_list(
                "id", "deployment", "endpoint_id"
            )
        )
        written: dict = {revision_id: set() for revision_id, _, _ in revisions}
        rows = Replica.objects.filter(revision__cluster=cluster, gone_at=None)
        for revision_id, *row in rows.values_list("revision_id", "replica_id", "phase", "url"):
            written.setdefault(revision_id, set()).add(tuple(row))
    return {
        endpoint_id
        for revision_id, deployment, endpoint_id in revisions
        if now_there.get(deployment, set()) != written[revision_id]
    }


def wake_endpoints(endpoint_ids: set) -> int:
    """Wake those of the endpoints that live; return how many were named."""
    if endpoint_ids:
        with scope.platform("wake endpoints whose engines changed"):
            for endpoint in Endpoint.objects.live().filter(id__in=endpoint_ids):
                wake(endpoint)
    return len(endpoint_ids)


def wake_pools(pool_ids: set) -> int:
    """Wake the endpoints that hold GPUs of pools; return how many."""
    with scope.platform("find who holds GPUs of pools"):
        held = Reservation.objects.held().filter(pool__in=pool_ids)
        return wake_endpoints(set(held.values_list("endpoint_id", flat=True)))


def wake_unfit(cluster: Cluster) -> int:
    """Wake the endpoints whose engines have to leave their nodes and are still there; return how many."""
    with scope.platform("find engines on nodes at fault"):
        engines = Replica.objects.filter(revision__cluster=cluster, gone_at=None).exclude(node="")
        nodes = list(engines.values_list("node", "endpoint_id"))
    unfit = unfit_nodes(cluster.id, {node for node, _ in nodes}, now=timezone.now())
    return wake_endpoints({endpoint_id for node, endpoint_id in nodes if node in unfit.faults})


def cluster_seen(cluster: Cluster) -> None:
    """Write down that a cluster answers; where it did not before, wake those who were told so.

    One that operators had cordoned is cordoned again.
    """
    # Written by condition: an operator may have cordoned the cluster since it was read.
    now, row = timezone.now(), Cluster.objects.filter(id=cluster.id)
    if cluster.state == Cluster.State.UNREACHABLE:
        back = row.filter(state=Cluster.State.UNREACHABLE)
        back.exclude(cordon_reason="").update(
            state=Cluster.State.CORDONED, state_reason=F("cordon_reason"), last_seen_at=now
        )
        back.filter(cordon_reason="").update(state=Cluster.State.ACTIVE, state_reason="", last_seen_at=now)
        wake_endpoints(_on(cluster, reachable=False))
    elif cluster.last_seen_at is None or (now - cluster.last_seen_at).total_seconds() > NOTE_SEEN_EVERY_S:
        row.update(last_seen_at=now)


def cluster_away(cluster: Cluster, reason: str) -> int:
    """Write down that a cluster does not answer, and wake those who do not know; return how many.

    What runs there is left alone.
    """
    mark_away(cluster, reason)
    # At every look, whatever is not told yet: a wake that was lost is made good.
    return wake_endpoints(_on(cluster, reachable=True))


def mark_away(cluster: Cluster, reason: str) -> None:
    """Write down that a cluster does not answer, where that is not written yet."""
    row = Cluster.objects.filter(id=cluster.id)
    # Cordoned before there was a column for why.
    row.filter(state=Cluster.State.CORDONED, cordon_reason="").update(cordon_reason=F("state_reason"))
    gone = row.filter(state__in=(Cluster.State.ACTIVE, Cluster.State.CORDONED)).update(
        state=Cluster.State.UNREACHABLE, state_reason=reason[:300]
    )
    if gone:
        log.warning("cluster %s is away: %s", cluster.name, reason)


def _on(cluster: Cluster, *, reachable: bool) -> set:
    """Find the endpoints on a cluster that are written down as reachable, or as not."""
    with scope.platform("find the endpoints of a cluster"):
        there = Revision.objects.filter(cluster=cluster, cleaned_at=None).values("endpoint_id")
        told = Condition.objects.filter(endpoint__in=there, type=Condition.Type.REACHABLE)
        away = {"status": Condition.Status.FALSE}
        found = told.exclude(**away) if reachable else told.filter(**away)
        return set(found.values_list("endpoint_id", flat=True))
