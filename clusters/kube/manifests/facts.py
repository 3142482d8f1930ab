"""What rendering must know about a cluster."""

from __future__ import annotations

import dataclasses
import enum
from typing import Final

MANY_NODES: Final = "ReadWriteMany"
"""The access mode of claims that pods on several nodes mount at a time."""


class Autoscaler(enum.StrEnum):
    """What scales engines in a cluster."""

    NONE = "none"  # Berth's own number of replicas
    KEDA = "keda"
    HPA = "hpa"  # with an adapter that serves the gateways' metrics as external ones


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterFacts:
    """A cluster as rendering sees it: who it belongs to, what APIs it has, what its admin decided.

    ``namespace`` is the prepared namespace of the project where Berth may make none, else empty.
    ``prometheus_namespace`` is empty where nothing scrapes, ``prometheus_url`` where KEDA asks. ``loader_cidrs``
    is where jobs that fetch weights may go (port 443); empty is the public internet. ``storage_access_mode``
    is that of claims for weights and caches; with ReadWriteOnce one node at a time has them.
    """

    installation: str
    namespace: str = ""
    gateway_namespace: str = "berth-gateway"
    prometheus_namespace: str = ""
    prometheus_url: str = ""
    storage_class: str = ""
    storage_access_mode: str = MANY_NODES
    pull_secret: str = ""
    image_volumes: bool = False
    leader_worker_sets: bool = False
    service_monitors: bool = False
    autoscaler: Autoscaler = Autoscaler.NONE
    kueue_queue: str = ""
    dra: bool = False
    loader_image: str = ""
    loader_cidrs: tuple[str, ...] = ()

    @property
    def makes_namespaces(self) -> bool:
        """Whether Berth makes a namespace for each project."""
        return not self.namespace


class CannotRender(ValueError):
    """The cluster can never run this; the message says what to change."""
