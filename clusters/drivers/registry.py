"""From a cluster's name and kind to its driver."""

from __future__ import annotations

import functools
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from clusters.drivers.base import Driver, GiveUp

if TYPE_CHECKING:
    from clusters.drivers.kubernetes.access import ClusterAccess
    from clusters.drivers.kubernetes.driver import KubernetesDriver

_kubernetes: dict[str, tuple[ClusterAccess, KubernetesDriver]] = {}
_lock = threading.Lock()
_SILENCE_S = 5.0  # in an answer: who waits for a cluster holds a worker's thread


def driver_for(kind: str, cluster: str, data_dir: Path, access: ClusterAccess | None = None) -> Driver:
    """Give the driver of a cluster; the same object for the same cluster as long as ``access`` stays the same.

    ``access`` is what a Kubernetes cluster takes; with other credentials the connections made before are closed.

    Raises:
        GiveUp: there is no driver of this kind, or it is not told how to reach the cluster.
    """
    if kind == "local":
        return _local(cluster, data_dir)
    if kind == "kubernetes":
        if access is None:
            raise GiveUp(
                f"Cluster {cluster} has no credentials yet; register it with a kubeconfig or a token."
            )
        return _kubernetes_driver(cluster, access)
    raise GiveUp(f"Cluster {cluster} wants the driver {kind!r}, which is not built in.")


def forget_driver(cluster: str) -> None:
    """Close what is open to a Kubernetes cluster, for instance as it is no longer registered."""
    with _lock:
        held = _kubernetes.pop(cluster, None)
    if held is not None:
        held[1].close()


@functools.lru_cache(maxsize=256)
def _local(cluster: str, data_dir: Path) -> Driver:
    from clusters.drivers.local.driver import LocalDriver

    return LocalDriver(data_dir, cluster)


def _kubernetes_driver(cluster: str, access: ClusterAccess) -> KubernetesDriver:
    from clusters.drivers.kubernetes.driver import KubernetesDriver
    from clusters.kube.client import KubeClient

    with _lock:
        held = _kubernetes.get(cluster)
        if held is not None and held[0] == access:
            return held[1]
        same = held is not None and _reaches(held[0]) == _reaches(access)
        client = (
            held[1].client
            if held is not None and same
            else KubeClient(access.credentials, read_timeout_s=_SILENCE_S)
        )
        driver = KubernetesDriver(client, access.facts, namespaces=access.namespaces, drift=access.drift)
        _kubernetes[cluster] = (access, driver)
    if held is not None and not same:
        held[1].close()
    return driver


def _reaches(access: ClusterAccess) -> tuple[object, int]:
    return access.credentials, access.version
