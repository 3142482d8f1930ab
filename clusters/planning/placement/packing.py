"""Which nodes of a pool the replicas of its endpoints use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from clusters.planning.placement.fleet import FleetOption, FleetPool

Replicas = tuple[tuple[int, ...], ...]


class Nodes:
    """A pool's nodes being filled.

    Replicas that come in the order of their GPUs, those over several nodes first, are packed whenever they can be
    if each size divides the next.
    """

    def __init__(self, pool: FleetPool) -> None:
        self._pool = pool
        self._left = list(pool.free)
        # Nodes by what is left on them: a replica goes to the node that it leaves fullest.
        self._by_left: list[set[int]] = [set() for _ in range(pool.gpus_per_node + 1)]
        for node, free in enumerate(self._left):
            self._by_left[free].add(node)

    def fits(self, gpus: int) -> int:
        """Count the replicas of this size that would fit."""
        whole = self._pool.nodes_of_replica(gpus)
        if whole > 1:
            return len(self._by_left[-1]) // whole
        return sum(len(nodes) * (left // gpus) for left, nodes in enumerate(self._by_left) if left >= gpus)

    def take(self, option: FleetOption, spread: int = 1) -> Replicas | None:
        """Give nodes for all replicas and fill them; None, with nothing filled, where they do not fit."""
        if self.fits(option.gpus) < option.replicas or option.replicas < spread:
            return None
        if spread > 1:
            return self._take_spread(option, spread)
        whole = self._pool.nodes_of_replica(option.gpus)
        taken = [self._fullest(option.gpus, whole) for _ in range(option.replicas)]
        return tuple(taken)

    def give_back(self, option: FleetOption, replicas: Replicas) -> None:
        """Free what was taken."""
        whole = self._pool.nodes_of_replica(option.gpus)
        for node in (node for replica in replicas for node in replica):
            self._set(node, self._left[node] + (self._pool.gpus_per_node if whole > 1 else option.gpus))

    def _fullest(self, gpus: int, whole: int) -> tuple[int, ...]:
        if whole > 1:
            nodes = tuple(sorted(self._by_left[-1])[:whole])
            for node in nodes:
                self._set(node, 0)
            return nodes
        left = next(left for left in range(gpus, len(self._by_left)) if self._by_left[left])
        node = min(self._by_left[left])
        self._set(node, left - gpus)
        return (node,)

    def _set(self, node: int, left: int) -> None:
        self._by_left[self._left[node]].discard(node)
        self._by_left[left].add(node)
        self._left[node] = left

    def _take_spread(self, option: FleetOption, spread: int) -> Replicas | None:
        """Put one replica each into as many domains as are asked for, those with most room first."""
        whole = self._pool.nodes_of_replica(option.gpus)
        rooms: dict[str, list[int]] = {}
        for node, left in enumerate(self._left):
            if left >= (self._pool.gpus_per_node if whole > 1 else option.gpus):
                rooms.setdefault(self._pool.domain(node), []).append(node)
        counts = {name: self._count(nodes, option.gpus, whole) for name, nodes in rooms.items()}
        counts = {name: count for name, count in counts.items() if count}
        if len(counts) < spread or sum(counts.values()) < option.replicas:
            return None
        shares: Counter[str] = Counter()
        by_room = sorted(counts, key=lambda name: (-counts[name], name))
        shares.update(by_room[:spread])
        for name in by_room:
            shares[name] += min(counts[name] - shares[name], option.replicas - shares.total())
        taken: list[tuple[int, ...]] = []
        for name in by_room:
            nodes = sorted(rooms[name], key=lambda node: (self._left[node], node))
            taken += self._take_of(nodes, option.gpus, whole, shares[name])
        return tuple(taken)

    def _count(self, nodes: Sequence[int], gpus: int, whole: int) -> int:
        return len(nodes) // whole if whole > 1 else sum(self._left[node] // gpus for node in nodes)

    def _take_of(self, nodes: list[int], gpus: int, whole: int, replicas: int) -> list[tuple[int, ...]]:
        taken: list[tuple[int, ...]] = []
        if whole > 1:
            for first in range(0, replicas * whole, whole):
                taken.append(tuple(nodes[first : first + whole]))
                for node in taken[-1]:
                    self._set(node, 0)
            return taken
        for node in nodes:
            while len(taken) < replicas and self._left[node] >= gpus:
                self._set(node, self._left[node] - gpus)
                taken.append((node,))
        return taken
