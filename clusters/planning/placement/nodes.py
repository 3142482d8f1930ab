"""Which nodes replicas go to. A replica sits in one node, or takes several whole ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def replicas_that_fit(free: Sequence[int], gpus_per_replica: int, *, gpus_per_node: int = 0) -> int:
    """Count the replicas that the free GPUs of the nodes can take.

    A replica of more than ``gpus_per_node`` GPUs, where that is given, takes whole nodes.
    """
    if 0 < gpus_per_node < gpus_per_replica:
        return sum(node == gpus_per_node for node in free) // -(-gpus_per_replica // gpus_per_node)
    return sum(node // gpus_per_replica for node in free)


def nodes_for(
    free: Sequence[int],
    gpus_per_replica: int,
    replicas: int,
    *,
    gpus_per_node: int = 0,
    domains: Sequence[str] = (),
    spread: bool = False,
) -> tuple[tuple[int, ...], ...] | None:
    """Give for each replica the indices of its nodes, None when they do not all fit.

    Each goes to the node that it leaves fullest, so that whole nodes stay free for large replicas. With
    ``spread`` those come first whose failure domain (the node itself without ``domains``) holds the fewest.
    """
    if 0 < gpus_per_node < gpus_per_replica:
        each = -(-gpus_per_replica // gpus_per_node)
        whole = [index for index, node in enumerate(free) if node == gpus_per_node]
        if len(whole) < each * replicas:
            return None
        return tuple(tuple(whole[start * each : (start + 1) * each]) for start in range(replicas))
    left, held = list(free), Counter[str]()
    nodes: list[tuple[int, ...]] = []
    for _ in range(replicas):
        fitting = [
            (held[_domain(domains, index)] if spread else 0, room, index)
            for index, room in enumerate(left)
            if room >= gpus_per_replica
        ]
        if not fitting:
            return None
        *_, node = min(fitting)
        left[node] -= gpus_per_replica
        held[_domain(domains, node)] += 1
        nodes.append((node,))
    return tuple(nodes)


def _domain(domains: Sequence[str], node: int) -> str:
    return domains[node] if domains else str(node)
