"""One look at a Kubernetes cluster without a watch: which one it is, its version, what it serves, its nodes."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.utils import timezone

from clusters.inventory.drivers import feature
from clusters.inventory.nodes import Unread
from clusters.inventory.reading import inventory_read, inventory_unread
from clusters.kube.client import KubeClient
from clusters.kube.credentials import Credentials
from clusters.kube.errors import KubeError
from clusters.kube.kinds import NAMESPACE, NODE, POD
from clusters.models import Cluster

log = logging.getLogger(__name__)

#: Selects the pods that can hold GPUs.
PODS_WITH_NODE: Final = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"
_OLDEST_NAMESPACE: Final = "kube-system"  # there since the cluster began, and as long as it is


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
    """What one look showed. ``identity`` and ``version`` are empty where they could not be read.

    ``nodes`` is None where they were not looked at (given namespaces), or could not be listed: ``trouble`` says why.
    """

    identity: str = ""
    version: str = ""
    features: tuple[str, ...] = ()
    nodes: Sequence[Mapping[str, Any]] | None = None
    pods: Sequence[Mapping[str, Any]] = ()
    trouble: str = ""


def cluster_look(credentials: Credentials, *, namespaces: Sequence[str] = ()) -> Look:
    """Ask a cluster what it is and what it holds; takes seconds, and tells of failures in what it gives."""
    look = Look()
    with contextlib.closing(KubeClient(credentials)) as client:
        try:
            version, features = _about(client)
            look = dataclasses.replace(look, version=version, features=features)
        except KubeError as error:
            log.info("the cluster at %s does not say what it is: %s", credentials.server, error)
        if namespaces:
            return look
        look = dataclasses.replace(look, identity=_identity(client))
        try:
            nodes = client.list(NODE).items
            pods = client.list(POD, fields=PODS_WITH_NODE).items
        except KubeError as error:
            return dataclasses.replace(look, trouble=f"They cannot be listed: {error}")
    return dataclasses.replace(look, nodes=nodes, pods=pods)


def identity_of(credentials: Credentials) -> str:
    """Give the uid of the namespace kube-system, by which a cluster is told from others; empty: not readable."""
    with contextlib.closing(KubeClient(credentials)) as client:
        return _identity(client)


def look_write(cluster: Cluster, look: Look) -> None:
    """Write down what a look showed just now; what could not be read is noted in the cluster's ``unread``."""
    now = timezone.now()
    if look.version:
        _write_about(cluster, look.version, list(look.features))
    if look.nodes is not None:
        inventory_read(cluster, nodes=look.nodes, pods=look.pods, now=now)
    elif look.trouble:
        note = Unread(what="The cluster's nodes and pods", why=look.trouble, todo="Check the connection.")
        inventory_unread(cluster, [note], now=now)
    cluster.refresh_from_db()


def about_read(cluster: Cluster, client: KubeClient) -> None:
    """Write down a cluster's version and the optional kinds it serves, where they changed.

    Raises:
        KubeError: it did not say.
    """
    version, features = _about(client)
    _write_about(cluster, version, list(features))


def _about(client: KubeClient) -> tuple[str, tuple[str, ...]]:
    version = client.version().text
    return version[:40], tuple(sorted(feature(kind) for kind in client.features(fresh=True)))


def _write_about(cluster: Cluster, version: str, features: list[str]) -> None:
    if (version, features) != (cluster.version, cluster.features):
        cluster.version, cluster.features = version, features
        cluster.save(update_fields=["version", "features"])


def _identity(client: KubeClient) -> str:
    try:
        namespace = client.get(NAMESPACE, _OLDEST_NAMESPACE)
    except KubeError as error:
        log.info("a cluster does not say which one it is: %s", error)
        return ""
    return str(namespace["metadata"]["uid"]) if namespace else ""
