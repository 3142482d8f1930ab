"""How many GPUs are free, and where."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db.models import Q

from clusters.inventory.faults import RESHAPED
from clusters.models import Node, NodePool, Reservation
from tenants import scope


@dataclasses.dataclass(frozen=True)
class PoolCapacity:
    """GPUs of one pool: all, kept back by the operator, held by reservations, free per node.

    Of a discovered pool also those that pods hold which are not Berth's or which belong to another pool of the
    same node, and those that are not healthy or stand in a faulty node; ``nodes`` are its nodes, those too that are
    gone, and ``free_per_node`` goes by their index.
    """

    pool: NodePool
    total: int
    reserve: int
    held: int
    free_per_node: tuple[int, ...]
    foreign: int = 0
    faulty: int = 0
    nodes: tuple[Node, ...] = ()

    @property
    def free(self) -> int:
        return sum(self.free_per_node)


def capacities(*, lock: bool = False, pool_ids: Iterable | None = None) -> list[PoolCapacity]:
    """Read the capacity of every pool, or of ``pool_ids``.

    ``lock`` holds the pools' rows until the transaction ends, so that two orders cannot take the same GPUs.
    """
    rows = NodePool.objects.filter(cluster__removed_at=None).order_by("id")
    if pool_ids is not None:
        rows = rows.filter(id__in=list(pool_ids))
    if lock:
        # Locked in one order everywhere, so that two orders cannot wait for each other in a ring.
        list(rows.select_for_update(no_key=True).values_list("id"))
    pools = list(rows.select_related("cluster__region", "gpu_type"))
    with scope.platform("GPUs held in pools, whoever holds them"):
        held = list(Reservation.objects.held().values_list("pool_id", "nodes", "gpus_per_replica", "span"))
    by_pool: dict = defaultdict(Counter)
    for pool_id, nodes, gpus, span in held:
        for node in nodes:
            by_pool[pool_id][node] += gpus // span
    members: dict = {pool.id: [] for pool in pools if pool.discovered}
    if members:
        there = Q(pool__in=members)
        left = Q(fault__startswith=RESHAPED, pool__cluster__in={pool.cluster_id for pool in pools})
        nodes = list(Node.objects.filter(there | left).select_related("pool").order_by("index"))
        _count_former(nodes, by_pool)
        for node in nodes:
            if node.pool_id in members:
                members[node.pool_id].append(node)
    return [_capacity(pool, by_pool[pool.id], members.get(pool.id, ())) for pool in pools]


def _count_former(nodes: Sequence[Node], held: Mapping[Any, Counter]) -> None:
    """Count as foreign what engines hold on a node since it belonged to another pool."""
    former: Counter = Counter()
    for node in nodes:
        if node.fault.startswith(RESHAPED):
            former[_gpus_of(node)] += held[node.pool_id][node.index]
    for node in nodes:
        if not node.fault.startswith(RESHAPED):
            node.foreign = min(node.capacity, node.foreign + former[_gpus_of(node)])


def _gpus_of(node: Node) -> tuple[Any, str, str]:
    return node.pool.cluster_id, node.pool.resource, node.name


def _capacity(pool: NodePool, held: Counter, nodes: Sequence[Node]) -> PoolCapacity:
    if pool.discovered:
        free = [0] * (nodes[-1].index + 1 if nodes else 0)
        for node in nodes:
            free[node.index] = max(0, node.free_for_berth - held[node.index])
    else:
        free = [max(0, pool.gpus_per_node - held[node]) for node in range(pool.nodes)]
    _keep_back(free, pool.reserve)
    present = [node for node in nodes if node.gone_at is None]
    return PoolCapacity(
        pool=pool,
        total=sum(node.capacity for node in present) if pool.discovered else pool.total_gpus,
        reserve=pool.reserve,
        held=sum(held.values()),
        free_per_node=tuple(free),
        foreign=sum(node.foreign for node in present),
        faulty=sum(node.capacity if node.fault else node.capacity - node.usable for node in present),
        nodes=tuple(nodes),
    )


def _keep_back(free: list[int], reserve: int) -> None:
    # The operator's reserve is taken from the emptiest nodes last, so that whole nodes stay usable.
    reserve = min(reserve, sum(free))
    for node in sorted(range(len(free)), key=lambda index: free[index]):
        taken = min(reserve, free[node])
        free[node] -= taken
        reserve -= taken
