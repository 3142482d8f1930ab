"""Which nodes replicas go to. A replica sits in one node."""

from __future__ import annotations

from collections.abc import Sequence


def replicas_that_fit(free: Sequence[int], gpus_per_replica: int) -> int:
    """Count the replicas that the free GPUs of the nodes can take."""
    return sum(node // gpus_per_replica for node in free)


def nodes_for(free: Sequence[int], gpus_per_replica: int, replicas: int) -> tuple[int, ...] | None:
    """Give a node index for each replica, None when they do not all fit.

    Each goes to the node that it leaves fullest, so that whole nodes stay free for large replicas.
    """
    left = list(free)
    nodes: list[int] = []
    for _ in range(replicas):
        fitting = [(room, index) for index, room in enumerate(left) if room >= gpus_per_replica]
        if not fitting:
            return None
        _, node = min(fitting)
        left[node] -= gpus_per_replica
        nodes.append(node)
    return tuple(nodes)
