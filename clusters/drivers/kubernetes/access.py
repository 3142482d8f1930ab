"""Everything that it takes to drive one Kubernetes cluster, as plain values."""

from __future__ import annotations

import dataclasses
from typing import Literal

from clusters.kube.credentials import Credentials
from clusters.kube.manifests import ClusterFacts

Drift = Literal["repair", "report"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterAccess:
    """One cluster: how to be let in, what rendering knows of it, what its operator chose.

    ``version`` counts changes of the credentials. ``namespaces`` are those made for Berth by the cluster's
    administrator; empty: Berth makes its own, one for each project.
    """

    credentials: Credentials
    version: int
    facts: ClusterFacts
    namespaces: tuple[str, ...] = ()
    drift: Drift = "repair"
