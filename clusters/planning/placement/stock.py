"""The fleet's nodes and quotas being filled, one endpoint at a time: admission in milliseconds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from clusters.planning.placement.columns import undominated
from clusters.planning.placement.fleet import (
    Assignment,
    FleetEndpoint,
    FleetOption,
    FleetPool,
    FleetProblem,
    bar,
    cost_of,
)
from clusters.planning.placement.grid import Grid
from clusters.planning.placement.packing import Nodes, Replicas


class Stock:
    """What is free of a problem's pools and quotas, in the beginning everything."""

    def __init__(self, problem: FleetProblem) -> None:
        self._problem = problem
        self._pools = {pool.id: pool for pool in problem.pools}
        self._nodes = {pool.id: Nodes(pool) for pool in problem.pools}
        self._quotas = {quota.id: quota.gpus for quota in problem.quotas}
        self._by_gpu: defaultdict[str, list[FleetPool]] = defaultdict(list)
        for pool in problem.pools:
            self._by_gpu[pool.gpu].append(pool)

    def admit(self, endpoint: FleetEndpoint) -> Assignment | None:
        """Place an endpoint where it counts least and take what it needs; None where it has no place.

        It has none either where every place counts more than its penalty.
        """
        penalty = self._problem.penalty * endpoint.weight
        choices = [
            (cost, number, pool)
            for number, pool in self._choices(endpoint)
            if (cost := cost_of(self._problem, endpoint, pool, endpoint.options[number])) < penalty
        ]
        for _, number, pool in sorted(choices, key=lambda choice: choice[0]):
            replicas = self.take(endpoint, pool.id, endpoint.options[number])
            if replicas is not None:
                return Assignment(endpoint=endpoint.id, pool=pool.id, option=number, replicas=replicas)
        return None

    def take(self, endpoint: FleetEndpoint, pool: str, option: FleetOption) -> Replicas | None:
        """Take nodes of one pool for an option; None, with nothing taken, where it does not fit."""
        if endpoint.quota is not None and self._quotas[endpoint.quota] < option.total:
            return None
        replicas = self._nodes[pool].take(option, endpoint.spread)
        if replicas is not None and endpoint.quota is not None:
            self._quotas[endpoint.quota] -= option.total
        return replicas

    def give_back(self, endpoint: FleetEndpoint, assignment: Assignment) -> None:
        """Free what an endpoint took."""
        option = endpoint.options[assignment.option]
        self._nodes[assignment.pool].give_back(option, assignment.replicas)
        if endpoint.quota is not None:
            self._quotas[endpoint.quota] += option.total

    def _choices(self, endpoint: FleetEndpoint) -> Iterator[tuple[int, FleetPool]]:
        options: defaultdict[str, list[tuple[int, FleetOption]]] = defaultdict(list)
        for number, option in enumerate(endpoint.options):
            if option.replicas >= endpoint.spread:
                options[option.gpu].append((number, option))
        for gpu, of_gpu in options.items():
            best: dict[int, list[tuple[int, FleetOption]]] = {}
            for pool in self._by_gpu[gpu]:
                if bar(endpoint, pool) is None:
                    if pool.gpus_per_node not in best:
                        best[pool.gpus_per_node] = undominated(of_gpu, pool.gpus_per_node)
                    for number, _ in best[pool.gpus_per_node]:
                        yield number, pool


class Reasons:
    """Why endpoints have no place."""

    def __init__(self, problem: FleetProblem) -> None:
        self._problem = problem
        self._quotas = {quota.id: quota.gpus for quota in problem.quotas}
        self._grid = Grid.of(
            problem.pools, {option.gpus for each in problem.endpoints for option in each.options}
        )
        self._shape_of = {int(gpus): number for number, gpus in enumerate(self._grid.shapes)}

    def of(self, endpoint: FleetEndpoint) -> str:
        """Give the first that holds: options, GPU types, rules, size, quota, cost, and else what others take."""
        if not endpoint.options:
            return "it has no options"
        options = [option for option in endpoint.options if option.replicas >= endpoint.spread]
        if not options:
            return f"no option has the {endpoint.spread} replicas that its failure domains ask for"
        gpus = {option.gpu for option in options}
        of_type = [(number, pool) for number, pool in enumerate(self._problem.pools) if pool.gpu in gpus]
        if not of_type:
            return f"no pool has GPUs of type {_listed(gpus)}"
        bars = Counter(reason for _, pool in of_type if (reason := bar(endpoint, pool)))
        allowed = [(number, pool) for number, pool in of_type if bar(endpoint, pool) is None]
        if not allowed:
            said = ", ".join(f"{reason} bars {count}" for reason, count in sorted(bars.items()))
            return f"none of the {len(of_type)} pools with its GPU types is allowed: {said}"
        fitting = [
            (pool, option)
            for number, pool in allowed
            for option in options
            if option.gpu == pool.gpu and self._fits(number, option, endpoint.spread)
        ]
        if not fitting:
            return f"none of the {len(allowed)} pools that it may use is large enough, were it alone there"
        if endpoint.quota is not None:
            least = min(option.total for _, option in fitting)
            if least > self._quotas[endpoint.quota]:
                return f"it needs {least} GPUs; quota {endpoint.quota} has {self._quotas[endpoint.quota]}"
        cost = min(cost_of(self._problem, endpoint, pool, option) for pool, option in fitting)
        if cost >= self._problem.penalty * endpoint.weight:
            return f"its cheapest place counts {cost:.2f} per hour, as much as its penalty or more"
        pools = len({pool.id for pool, _ in fitting})
        held = f" or quota {endpoint.quota}" if endpoint.quota is not None else ""
        return f"endpoints that count more take the room of the {pools} pools{held} that could hold it"

    def _fits(self, pool: int, option: FleetOption, spread: int) -> bool:
        at = pool, self._shape_of[option.gpus]
        if spread == 1:
            return bool(self._grid.fits[at] >= option.replicas)
        return bool(self._grid.fits_apart[at] >= option.replicas and self._grid.domains[at] >= spread)


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))
