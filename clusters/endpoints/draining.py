"""Which replicas are to go: gateways send these no new requests before their cluster is told to stop them."""

from __future__ import annotations

from clusters.models import Cluster, Revision


def goes(revision: Revision, index: int) -> bool:
    """Say whether the replica of that index is wanted no more.

    Where fewer are wanted, a local cluster and groups that span nodes stop the highest; of a Deployment's pods
    nobody knows which, until its cluster has marked them: they are told by its pause before they stop.
    """
    if revision.retired_at is not None or revision.replicas == 0:
        return True
    return known_ahead(revision) and index >= revision.replicas


def known_ahead(revision: Revision) -> bool:
    """Say whether it is known which replicas go before the cluster is told."""
    by_index = revision.cluster.driver != Cluster.DriverKind.KUBERNETES
    return (
        revision.replicas == 0
        or by_index
        or revision.spec.get("placement", {}).get("gpus_per_node", 8) < (revision.gpus_per_replica)
    )
