"""From a cluster's row to its driver."""

from __future__ import annotations

import re
from typing import Final

from django.conf import settings

from clusters.drivers.base import Driver, GiveUp, TryLater
from clusters.drivers.kubernetes.access import ClusterAccess
from clusters.drivers.registry import driver_for
from clusters.inventory.access import credentials_of
from clusters.inventory.images import image_of
from clusters.kube import transport
from clusters.kube.kinds import (
    LEADER_WORKER_SET,
    RESOURCE_CLAIM_TEMPLATE,
    SCALED_OBJECT,
    SERVICE_MONITOR,
    Kind,
)
from clusters.kube.manifests import Autoscaler, ClusterFacts
from clusters.models import Cluster
from tenants.errors import Conflict
from tenants.sealing import KeysAway

#: Kubernetes 1.x from which image volumes are on by default.
IMAGE_VOLUMES_SINCE: Final = 35


def driver_of(cluster: Cluster) -> Driver:
    """Give the driver of a cluster.

    Raises:
        GiveUp: this installation has no driver of its kind, or its credentials cannot be opened.
        TryLater: they cannot be opened now.
    """
    if cluster.driver != Cluster.DriverKind.KUBERNETES:
        return driver_for(cluster.driver, cluster.name, settings.DATA_DIR)
    try:
        access = access_of(cluster)
    except Conflict as error:
        raise GiveUp(error.message) from error
    except KeysAway as error:
        raise TryLater(error.message) from error
    return driver_for(cluster.driver, cluster.name, settings.DATA_DIR, access)


def warm_up() -> None:
    """Have ready what Kubernetes clusters need, where there are any."""
    if Cluster.objects.filter(driver=Cluster.DriverKind.KUBERNETES).exclude(credentials=None).exists():
        transport.warm_up()


def access_of(cluster: Cluster) -> ClusterAccess:
    """Give what it takes to drive a Kubernetes cluster.

    Raises:
        Conflict: it has no credentials that can be opened.
    """
    return ClusterAccess(
        credentials=credentials_of(cluster),
        version=cluster.credentials_version,
        facts=facts_of(cluster),
        namespaces=tuple(cluster.namespaces),
        drift="report" if cluster.drift == Cluster.Drift.REPORT else "repair",
    )


def facts_of(cluster: Cluster) -> ClusterFacts:
    """Give what rendering must know of a Kubernetes cluster, as it was last read."""
    loader = image_of("loader")
    return ClusterFacts(
        installation=installation_of(cluster),
        gateway_namespace=cluster.gateway_namespace,
        prometheus_namespace=cluster.prometheus_namespace,
        storage_class=cluster.storage_class,
        storage_access_mode=cluster.storage_access_mode,
        pull_secret=cluster.pull_secret,
        image_volumes=_minor(cluster.version) >= IMAGE_VOLUMES_SINCE,
        leader_worker_sets=feature(LEADER_WORKER_SET) in cluster.features,
        service_monitors=feature(SERVICE_MONITOR) in cluster.features,
        autoscaler=autoscaler_of(cluster),
        prometheus_url=cluster.prometheus_url,
        dra=cluster.dra and feature(RESOURCE_CLAIM_TEMPLATE) in cluster.features,
        kueue_queue=cluster.kueue_queue,
        loader_cidrs=tuple(cluster.loader_cidrs),
        loader_image=loader.pinned if loader else "",
    )


def autoscaler_of(cluster: Cluster) -> Autoscaler:
    """Give the autoscaler that decides on a cluster: the chosen one, none where the cluster does not serve it."""
    if cluster.autoscaler == Cluster.Autoscaler.KEDA and feature(SCALED_OBJECT) not in cluster.features:
        return Autoscaler.NONE
    return Autoscaler(cluster.autoscaler)


def feature(kind: Kind) -> str:
    """Give the word by which ``Cluster.features`` says that a cluster serves a kind."""
    return f"{kind.plural}.{kind.group}"


def installation_of(cluster: Cluster) -> str:
    """Give the value of the label ``berth.dev/installation`` on all that Berth makes in a cluster.

    It is this registration's own: neither another Berth nor a second registration of the same cluster has it, so
    that none of them sweeps away what the others made.
    """
    return cluster.id.hex


def _minor(version: str) -> int:
    found = re.match(r"v?1\.(\d+)", version)
    return int(found[1]) if found else 0
