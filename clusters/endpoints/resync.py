"""The long look: every deployment of a cluster compared with what was ordered, with one reading of the cluster."""

from __future__ import annotations

import itertools
import logging

from clusters.drivers.base import DriverError, GiveUp, TryLater
from clusters.endpoints.blueprint import gpu_quota, spec_of
from clusters.endpoints.history import record
from clusters.endpoints.wake import wake
from clusters.endpoints.watch import wake_changed
from clusters.inventory.drivers import driver_of
from clusters.models import Cluster, Endpoint, Revision, Wanted
from tenants import scope

log = logging.getLogger(__name__)


def resync_cluster(cluster: Cluster) -> int:
    """Apply every revision that is wanted on a cluster again; return how many had drifted.

    Nothing is written for what is as ordered. What had drifted, is refused now, or shows other engines than are
    written down is woken for a pass of its own.
    """
    if cluster.state == Cluster.State.UNREACHABLE:
        return 0
    wanted = _wanted(cluster)
    by_tenant = itertools.groupby(wanted.values(), key=lambda revision: revision.tenant_id)
    specs = []
    for tenant_id, revisions in by_tenant:
        with scope.tenant(tenant_id):
            quota = gpu_quota()
            specs += [spec_of(revision.endpoint, revision, gpu_quota=quota) for revision in revisions]
    try:
        driver = driver_of(cluster)
        results = driver.resync(specs)
        wake_changed(cluster, driver.deployments())
    except (TryLater, GiveUp) as error:
        log.info("cluster %s cannot be compared now: %s", cluster.name, error)
        return 0
    drifted = 0
    for name, result in results.items():
        if result is False:
            continue
        drifted += result is True
        _tell(wanted[name], result)
    return drifted


def _wanted(cluster: Cluster) -> dict[str, Revision]:
    with scope.platform("what is wanted on a cluster"):
        rows = Revision.objects.filter(
            cluster=cluster,
            cleaned_at=None,
            retired_at=None,
            applied_at__isnull=False,
            endpoint__wanted=Wanted.RUNNING,
        ).select_related("cluster", "endpoint__model", "endpoint__tenant").order_by("tenant_id")
        return {revision.deployment: revision for revision in rows}


def _tell(revision: Revision, result: bool | DriverError) -> None:
    endpoint: Endpoint = revision.endpoint
    with scope.tenant(revision.tenant_id):
        if result is True:
            record(endpoint, "repaired", f"Revision {revision.number} was not as ordered there; it is again.")
        wake(endpoint)
