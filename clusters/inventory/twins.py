"""Finding out that one cluster is registered twice."""

from __future__ import annotations

from clusters.inventory.nodes import Unread
from clusters.models import Cluster


def twins_of(cluster: Cluster) -> list[Unread]:
    """Tell of other registrations of the same cluster, to be shown with what could not be read."""
    if not cluster.identity:
        return []
    others = Cluster.objects.present().filter(identity=cluster.identity).exclude(id=cluster.id)
    return [
        Unread(
            what=f"This cluster is registered as {name}, too",
            why="Both plan on the same GPUs; what one has placed is foreign to the other once its pods are there.",
            todo="Deregister one of them.",
        )
        for name in others.values_list("name", flat=True)
    ]
