"""The long look: every deployment of a cluster compared with what was ordered, with one reading of the cluster."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence

from clusters.drivers.base import DriverError, GiveUp, TryLater
from clusters.endpoints.blueprint import SpecUnusable, gpu_quota, spec_of
from clusters.endpoints.history import record
from clusters.endpoints.wake import wake
from clusters.endpoints.watch import wake_changed
from clusters.inventory.drivers import driver_of
from clusters.models import Cluster, Revision, Wanted
from clusters.specs import DeploymentSpec
from tenants import scope

log = logging.getLogger(__name__)


def resync_cluster(cluster: Cluster) -> int:
    """Compare a cluster with what is wanted there; return how many deployments had drifted.

    It only looks, and wakes what differs: a pass that holds the endpoint then does what is to be done.
    """
    if cluster.state == Cluster.State.UNREACHABLE:
        return 0
    wanted = _wanted(cluster)
    try:
        driver = driver_of(cluster)
        found = driver.drifted(_specs(wanted))
        wake_changed(cluster, driver.deployments())
    except (TryLater, GiveUp) as error:
        log.info("cluster %s cannot be compared now: %s", cluster.name, error)
        return 0
    drifted = {name: differences for name, differences in found.items() if differences}
    for name, differences in drifted.items():
        _tell(wanted[name], differences)
    return len(drifted)


def _wanted(cluster: Cluster) -> dict[str, Revision]:
    with scope.platform("what is wanted on a cluster"):
        rows = Revision.objects.filter(
            cluster=cluster,
            cleaned_at=None,
            retired_at=None,
            applied_at__isnull=False,
            endpoint__wanted=Wanted.RUNNING,
        ).select_related("cluster", "endpoint__model", "endpoint__tenant")
        return {revision.deployment: revision for revision in rows.order_by("tenant_id")}


def _specs(wanted: dict[str, Revision]) -> list[DeploymentSpec]:
    specs = []
    for tenant_id, revisions in itertools.groupby(wanted.values(), key=lambda each: each.tenant_id):
        with scope.tenant(tenant_id):
            quota = gpu_quota()
            for revision in revisions:
                try:
                    specs.append(spec_of(revision.endpoint, revision, gpu_quota=quota))
                except (SpecUnusable, TryLater) as error:
                    log.warning("%s on %s: %s", revision.deployment, revision.cluster.name, error)
    return specs


def _tell(revision: Revision, differences: Sequence[str] | DriverError) -> None:
    with scope.tenant(revision.tenant_id):
        if revision.cluster.drift == Cluster.Drift.REPAIR and not isinstance(differences, DriverError):
            what = "; ".join(differences)
            record(revision.endpoint, "drift", f"Revision {revision.number} is not as ordered there: {what}")
        wake(revision.endpoint)
