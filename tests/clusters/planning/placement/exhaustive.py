"""The best placement of a few endpoints by trying all, with a packing of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from tests.clusters.planning.placement.checker import judge

Document = Mapping[str, Any]


def least_objective(problem: Document) -> float:
    """Give the least that any placement counts."""
    endpoints, pools = problem["endpoints"], problem["pools"]
    choices = [
        [None, *itertools.product(range(len(pools)), range(len(endpoint["options"])))]
        for endpoint in endpoints
    ]
    packable = cache(lambda pool, loads: _packable(pools[pool], endpoints, loads))
    best = float("inf")
    for chosen in itertools.product(*choices):
        counts = _objective(problem, chosen)
        if counts >= best:
            continue
        by_pool: dict[int, list[tuple[int, int]]] = {}
        for endpoint, choice in enumerate(chosen):
            if choice is not None:
                by_pool.setdefault(choice[0], []).append((endpoint, choice[1]))
        if all(packable(pool, tuple(loads)) for pool, loads in by_pool.items()):
            best = counts
    return best


def _objective(problem: Document, chosen: tuple[tuple[int, int] | None, ...]) -> float:
    """Give what a choice counts; infinite where a rule other than room is broken."""
    plan: dict[str, Any] = {"assignments": [], "unplaced": [], "objective": 0.0, "bound": 0.0}
    for endpoint, choice in zip(problem["endpoints"], chosen, strict=True):
        if choice is None:
            plan["unplaced"].append({"endpoint": endpoint["id"], "reason": "not chosen"})
        else:
            pool = problem["pools"][choice[0]]["id"]
            plan["assignments"].append(
                {"endpoint": endpoint["id"], "pool": pool, "option": choice[1], "replicas": []}
            )
    objective, faults = judge(problem, plan)
    aside = ("replicas", "objective", "domains")
    broken = [fault for fault in faults if not any(word in fault for word in aside)]
    return float("inf") if broken else objective


def _packable(pool: Document, endpoints: list[Document], loads: tuple[tuple[int, int], ...]) -> bool:
    """Try all ways to give nodes to the replicas of these (endpoint, option)."""
    per_node = pool["gpus_per_node"]
    names = pool.get("domains") or list(range(len(pool["free"])))

    def ways(
        gpus: int, spread: int, left: tuple[int, ...]
    ) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
        whole = -(-gpus // per_node)
        need = gpus if whole == 1 else per_node
        open_nodes = [node for node, free in enumerate(left) if free >= need]
        for nodes in itertools.combinations(open_nodes, whole):
            if spread > 1 and len({names[node] for node in nodes}) > 1:
                continue
            yield nodes, tuple(free - need if node in nodes else free for node, free in enumerate(left))

    def fill(at: int, replica: int, left: tuple[int, ...], domains: frozenset[Any]) -> bool:
        if at == len(loads):
            return True
        endpoint = endpoints[loads[at][0]]
        option, spread = endpoint["options"][loads[at][1]], endpoint.get("spread", 1)
        if replica == option["replicas"]:
            apart = spread == 1 or len(domains) >= spread
            return apart and fill(at + 1, 0, left, frozenset())
        return any(
            fill(at, replica + 1, rest, domains | {names[node] for node in nodes})
            for nodes, rest in ways(option["gpus"], spread, left)
        )

    return fill(0, 0, tuple(pool["free"]), frozenset())
