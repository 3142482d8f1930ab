"""Tell the cluster what to run."""

from __future__ import annotations

from collections.abc import Mapping

from django.utils import timezone

from clusters.drivers.base import GiveUp, TryLater
from clusters.endpoints.blueprint import SpecUnusable, gpu_quota, spec_of
from clusters.endpoints.conditions import set_condition
from clusters.endpoints.history import record
from clusters.endpoints.reconcile.work import Work
from clusters.models import Condition, RenderedConfiguration, Revision
from tenants import scope


def provision(work: Work) -> None:
    """Apply the current revision. That there is something to clean up is recorded before anything is made."""
    revision = work.current
    if revision is None or not work.running_wanted:
        return
    first = revision.applied_at is None
    if first and not _mark(work, revision):
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
