"""How many GPUs are free, and where."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable

from clusters.models import NodePool, Reservation
from tenants import scope


@dataclasses.dataclass(frozen=True)
class PoolCapacity:
    """GPUs of one pool: all, kept back by the operator, held by reservations, free per node."""

    pool: NodePool
    total: int
    reserve: int
    held: int
    free_per_node: tuple[int, ...]

    @property
    def free(self) -> int:
        return sum(self.free_per_node)


def capacities(*, lock: bool = False, pool_ids: Iterable | None = None) -> list[PoolCapacity]:
    """Read the capacity of every pool, or of ``pool_ids``.

    ``lock`` holds the pools' rows until the transaction ends, so that two orders cannot take the same GPUs.
    """
    rows = NodePool.objects.order_by("id")
    if pool_ids is not None:
        rows = rows.filter(id__in=list(pool_ids))
    if lock:
        # Locked in one order everywhere, so that two orders cannot wait for each other in a ring.
        list(rows.select_for_update(no_key=True).values_list("id"))
    pools = list(rows.select_related("cluster__region", "gpu_type"))
    with scope.platform("GPUs held in pools, whoever holds them"):
        held = list(Reservation.objects.held().values_list("pool_id", "nodes", "gpus_per_replica"))
    by_pool: dict = {pool.id: Counter() for pool in pools}
    for pool_id, nodes, gpus in held:
        if pool_id in by_pool:
            for node in nodes:
                by_pool[pool_id][node] += gpus
    return [_capacity(pool, by_pool[pool.id]) for pool in pools]


def _capacity(pool: NodePool, held: Counter) -> PoolCapacity:
    free = [max(0, pool.gpus_per_node - held[node]) for node in range(pool.nodes)]
    # The operator's reserve is taken from the emptiest nodes last, so that whole nodes stay usable.
    reserve = min(pool.reserve, sum(free))
    for node in sorted(range(pool.nodes), key=lambda index: free[index]):
        taken = min(reserve, free[node])
        free[node] -= taken
        reserve -= taken
    return PoolCapacity(
        pool=pool,
        total=pool.total_gpus,
        reserve=pool.reserve,
        held=sum(held.values()),
        free_per_node=tuple(free),
    )
