"""What node packing asks of each pool, as counts that linear rows can hold."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from clusters.planning.placement.fleet import FleetPool

Integers = NDArray[np.int64]


@dataclasses.dataclass(frozen=True, eq=False)
class Grid:
    """Pieces that pools have and replicas take.

    A node with f free GPUs holds at most floor(f / s) pieces of s GPUs, and a replica of g GPUs takes
    floor(g / s) of them: every size s gives a row that no packing breaks. Where each size divides the next,
    whatever keeps all rows can be packed.

    ``room`` [pools, sizes] counts the pieces of a pool, ``pieces`` [pools, shapes, sizes] those of one replica of
    ``shapes`` GPUs. ``fits`` [pools, shapes] is how many replicas the pool holds when nothing else is there,
    ``fits_apart`` how many of them when a replica stays in one failure domain, ``domains`` how many domains hold
    at least one.
    """

    sizes: Integers
    shapes: Integers
    room: Integers
    pieces: Integers
    fits: Integers
    fits_apart: Integers
    domains: Integers

    @classmethod
    def of(cls, pools: Sequence[FleetPool], gpus_of_replicas: Collection[int]) -> Grid:
        """Count for these pools and sizes of replicas."""
        most = max((pool.gpus_per_node for pool in pools), default=1)
        shapes = np.array(sorted(gpus_of_replicas), np.int64)
        sizes = sorted({1, *(size for size in gpus_of_replicas if size <= most)})
        sizes = sorted({*sizes, *(pool.gpus_per_node for pool in pools)})
        by_size = np.array(sizes, np.int64)
        room = np.zeros((len(pools), len(sizes)), np.int64)
        pieces = np.zeros((len(pools), len(shapes), len(sizes)), np.int64)
        fits, apart, domains = (np.zeros((len(pools), len(shapes)), np.int64) for _ in range(3))
        for number, pool in enumerate(pools):
            each = pool.gpus_per_node
            whole = -(-shapes // each)
            free = np.bincount(np.array(pool.free, np.int64), minlength=each + 1)
            room[number] = free @ (np.arange(each + 1)[:, None] // by_size)
            pieces[number] = np.where(
                (shapes <= each)[:, None],
                shapes[:, None] // by_size,
                whole[:, None] * (each // by_size),
            )
            fits[number] = _replicas(free, shapes, whole)
            for nodes, alike in _domains(pool).items():
                held = _replicas(np.array(nodes), shapes, whole)
                apart[number] += held * alike
                domains[number] += (held > 0) * alike
        return cls(by_size, shapes, room, pieces, fits, apart, domains)


def _domains(pool: FleetPool) -> Counter[tuple[int, ...]]:
    """Count the pool's failure domains by how many of their nodes have how many free GPUs."""
    nodes: dict[str, list[int]] = {}
    for node, free in enumerate(pool.free):
        counts = nodes.setdefault(pool.domain(node), [0] * (pool.gpus_per_node + 1))
        counts[free] += 1
    return Counter(tuple(counts) for counts in nodes.values())


def _replicas(free: Integers, shapes: Integers, whole: Integers) -> Integers:
    """Count replicas of each shape on nodes of which ``free[n]`` have n free GPUs."""
    on_node = np.arange(len(free))[:, None] // shapes
    counts: Integers = np.where(whole == 1, free @ on_node, free[-1] // whole)
    return counts
