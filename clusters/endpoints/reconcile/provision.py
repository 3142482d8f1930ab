"""Tell the cluster what to run."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Final

from django.utils import timezone

from clusters.drivers.base import GiveUp, TryLater
from clusters.endpoints.autoscaling.hearing import SILENT_AFTER, gateways_of
from clusters.endpoints.blueprint import SpecUnusable, gpu_quota, spec_of
from clusters.endpoints.conditions import set_condition
from clusters.endpoints.draining import goes, known_ahead
from clusters.endpoints.history import record
from clusters.endpoints.reconcile.work import Work
from clusters.models import Condition, RenderedConfiguration, Replica, Revision
from tenants import scope
from tenants.announcements import announce

#: Gateways have so long to hear that a replica goes; then it is stopped, with the notice that its cluster gives.
NOTICE: Final = dt.timedelta(seconds=10)
NOTICE_AGAIN_S: Final = 0.3


def provision(work: Work) -> None:
    """Apply the current revision. That there is something to clean up is recorded before anything is made."""
    revision = work.current
    if revision is None or not work.running_wanted:
        return
    _apply_predecessors(work)
    first = revision.applied_at is None
    if first and not _mark(work, revision):
        return
    if not first and _to_be_left_first(work, revision):
        work.soon(NOTICE_AGAIN_S)
        return
    try:
        with scope.tenant(work.endpoint.tenant_id):
            spec = spec_of(work.endpoint, revision, gpu_quota=gpu_quota())
        driver = work.driver(revision)
        changed = driver.apply(spec)
        if changed or first:
            _keep_rendered(work, revision, driver.render(spec))
    except TryLater as error:
        work.unreachable(revision, error)
        return
    except (GiveUp, SpecUnusable) as error:
        work.refused = str(error)
        with scope.tenant(work.endpoint.tenant_id):
            set_condition(
                work.endpoint, Condition.Type.PROVISIONED, Condition.Status.FALSE, "Refused", work.refused
            )
        return
    with scope.tenant(work.endpoint.tenant_id):
        message = f"Cluster {revision.cluster.name} runs revision {revision.number}."
        set_condition(work.endpoint, Condition.Type.PROVISIONED, Condition.Status.TRUE, "Applied", message)
        if changed and not first:
            record(
                work.endpoint,
                "applied",
                f"Revision {revision.number} applied with {revision.replicas} replicas.",
            )


def _to_be_left_first(work: Work, revision: Revision) -> bool:
    """Say whether replicas that are to go may still be sent requests, by a gateway that has not heard of it.

    The clock begins once the wish is committed: a snapshot that is confirmed after that was built with it.
    """
    if not known_ahead(revision):
        return False
    with scope.tenant(work.endpoint.tenant_id):
        ready = Replica.objects.filter(revision=revision, gone_at=None, phase=Replica.Phase.READY)
        if not any(goes(revision, index) for index in ready.values_list("index", flat=True)):
            return False
        now = timezone.now()
        if revision.shrunk_at is None:
            Revision.objects.filter(id=revision.id, replicas=revision.replicas).update(shrunk_at=now)
            announce()
            return True
        if now - revision.shrunk_at > NOTICE:
            return False
        hearing = [
            gateway
            for gateway in gateways_of(work.endpoint)
            if gateway.last_seen_at is not None and now - gateway.last_seen_at < SILENT_AFTER
        ]
        return any(
            gateway.confirmed_at is None or gateway.confirmed_at < revision.shrunk_at for gateway in hearing
        )


def _apply_predecessors(work: Work) -> None:
    """Keep what serves until a rollout is through as it is wanted: it may have been scaled, or make room."""
    if work.rollout is None:
        return
    for revision in work.predecessors:
        if revision.applied_at is None:
            continue
        if _to_be_left_first(work, revision):
            work.soon(NOTICE_AGAIN_S)
            continue
        try:
            with scope.tenant(work.endpoint.tenant_id):
                spec = spec_of(work.endpoint, revision, gpu_quota=gpu_quota())
            work.driver(revision).apply(spec)
        except TryLater as error:
            work.unreachable(revision, error)
        except (GiveUp, SpecUnusable) as error:
            work.refused = str(error)


def _keep_rendered(work: Work, revision: Revision, documents: Mapping[str, str]) -> None:
    with scope.tenant(work.endpoint.tenant_id):
        RenderedConfiguration.objects.get_or_create(
            revision=revision, defaults={"tenant_id": revision.tenant_id, "documents": dict(documents)}
        )


def _mark(work: Work, revision: Revision) -> bool:
    now = timezone.now()
    with scope.tenant(work.endpoint.tenant_id):
        work.lock()
        marked = Revision.objects.filter(id=revision.id, retired_at=None, applied_at=None).update(
            applied_at=now
        )
        if not marked:  # paused or deleted since it was loaded
            work.soon(0)
            return False
        record(
            work.endpoint,
            "provisioning",
            f"Starting revision {revision.number} on cluster {revision.cluster.name}.",
        )
    revision.applied_at = now
    return True
