"""One look at a Kubernetes cluster without a watch: its version, what it serves, its nodes."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
from collections.abc import Iterator
from typing import Final

from django.utils import timezone

from clusters.inventory.access import credentials_of
from clusters.inventory.drivers import feature
from clusters.inventory.nodes import Unread
from clusters.inventory.reading import inventory_read, inventory_unread
from clusters.kube.client import KubeClient
from clusters.kube.errors import KubeError
from clusters.kube.kinds import NODE, POD
from clusters.models import Cluster

log = logging.getLogger(__name__)

#: Selects the pods that can hold GPUs.
PODS_WITH_NODE: Final = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"


@contextlib.contextmanager
def client_of(cluster: Cluster) -> Iterator[KubeClient]:
    """Open a connection to a Kubernetes cluster for the length of the block.

    Raises:
        Conflict: it has no credentials that can be opened.
    """
    client = KubeClient(credentials_of(cluster))
    try:
        yield client
    finally:
        client.close()


def cluster_refresh(cluster: Cluster) -> None:
    """Read a cluster's version, features and GPUs now; what cannot be read is noted in its ``unread``."""
    with client_of(cluster) as client:
        try:
            about_read(cluster, client)
        except KubeError as error:
            log.info("cluster %s does not say what it is: %s", cluster.name, error)
        nodes_refresh(cluster, client, now=timezone.now())
    cluster.refresh_from_db()


def about_read(cluster: Cluster, client: KubeClient) -> None:
    """Write down a cluster's version and the optional kinds it serves, where they changed.

    Raises:
        KubeError: it did not say.
    """
    version = client.version().text
    features = sorted(feature(kind) for kind in client.features(fresh=True))
    if (version, features) != (cluster.version, cluster.features):
        cluster.version, cluster.features = version[:40], features
        cluster.save(update_fields=["version", "features"])


def nodes_refresh(cluster: Cluster, client: KubeClient, *, now: dt.datetime) -> None:
    """List nodes and pods and write down what they show; with given namespaces there is nothing to list."""
    if cluster.namespaces:
        return
    try:
        nodes = client.list(NODE).items
        pods = client.list(POD, fields=PODS_WITH_NODE).items
    except KubeError as error:
        note = Unread(
            what="The cluster's nodes and pods",
            why=f"They cannot be listed: {error}",
            todo="Check the connection.",
        )
        inventory_unread(cluster, [note], now=now)
        return
    inventory_read(cluster, nodes=nodes, pods=pods, now=now)
