"""Every choice of the fleet as arrays: a column is one option of like endpoints in one pool.

Endpoints that differ in name only make one group. An option is left out where another of the same GPU type fits
into its nodes and has no more GPUs, and a column where it does not fit its pool when nothing else is there.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from clusters.planning.placement.fleet import FleetEndpoint, FleetOption, FleetProblem, bar
from clusters.planning.placement.grid import Grid
from clusters.planning.residency import residency_allows

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Columns:
    """The choices; those of a group follow each other.

    ``members`` has the endpoints of each group, ``count`` how many they are, ``weight`` and ``penalty`` what one
    of them counts unplaced. ``quota`` is the group's quota, -1 for none; ``quota_room`` has each quota's GPUs.
    ``shape`` is the size of a replica, by its place in ``grid.shapes``.
    """

    problem: FleetProblem
    grid: Grid
    members: tuple[tuple[int, ...], ...]
    count: Integers
    weight: Floats
    penalty: Floats
    quota: Integers
    quota_room: Integers
    group: Integers
    pool: Integers
    option: Integers
    shape: Integers
    replicas: Integers
    gpus: Integers
    cost: Floats

    def __len__(self) -> int:
        return len(self.group)

    @cached_property
    def first(self) -> Integers:
        """Where each group's columns begin, and after the last group where they end."""
        return np.searchsorted(self.group, np.arange(len(self.count) + 1)).astype(np.int64)

    @cached_property
    def units(self) -> Integers:
        """Pieces that a column takes, [columns, sizes]."""
        pieces: Integers = self.grid.pieces[self.pool, self.shape] * self.replicas[:, None]
        return pieces

    @cached_property
    def by_pool(self) -> list[Integers]:
        """Columns of each pool."""
        order = np.argsort(self.pool, kind="stable")
        ends = np.searchsorted(self.pool[order], np.arange(len(self.problem.pools) + 1))
        return [order[ends[pool] : ends[pool + 1]] for pool in range(len(self.problem.pools))]

    @cached_property
    def rows_needed(self) -> Mask:
        """Which rows [pools, sizes] tell something: those of one GPU, and of sizes that replicas there have."""
        needed = np.zeros(self.grid.room.shape, np.bool_)
        needed[:, self.grid.sizes == 1] = True
        each = np.array([pool.gpus_per_node for pool in self.problem.pools], np.int64)
        sizes = np.minimum(self.grid.shapes[self.shape], each[self.pool])
        needed[self.pool, np.searchsorted(self.grid.sizes, sizes)] = True
        return needed

    def of_group(self, group: int) -> slice:
        """Give the columns of a group."""
        return slice(int(self.first[group]), int(self.first[group + 1]))

    def least(self, values: Floats, otherwise: Floats) -> Floats:
        """Give each group's least value over its columns and ``otherwise``."""
        result = otherwise.astype(np.float64)
        starts = self.first[:-1]
        some = np.flatnonzero(self.first[1:] > starts)
        if len(some):
            result[some] = np.minimum(result[some], np.minimum.reduceat(values, starts[some]))
        return result

    def smallest(self, values: Floats, number: int, among: Integers | None = None) -> Integers:
        """Give the columns of the ``number`` smallest values in each group, in their order."""
        columns = np.arange(len(self)) if among is None else among
        order = columns[np.lexsort((values[columns], self.group[columns]))]
        groups = self.group[order]
        starts = np.searchsorted(groups, groups)
        return np.sort(order[np.arange(len(order)) - starts < number])

    def part(self, groups: Mask, columns: Mask, room: Integers, quota_room: Integers) -> Columns:
        """Give the problem of some groups and some of their columns in other room."""
        kept = columns & groups[self.group]
        number = np.cumsum(groups) - 1
        return dataclasses.replace(
            self,
            grid=dataclasses.replace(self.grid, room=room),
            members=tuple(members for members, keep in zip(self.members, groups, strict=True) if keep),
            count=self.count[groups],
            weight=self.weight[groups],
            penalty=self.penalty[groups],
            quota=self.quota[groups],
            quota_room=quota_room,
            group=number[self.group[kept]],
            **{
                name: getattr(self, name)[kept]
                for name in ("pool", "option", "shape", "replicas", "gpus", "cost")
            },
        )


def columns_of(problem: FleetProblem) -> Columns:
    """List every choice of the problem."""
    grid = Grid.of(problem.pools, {option.gpus for each in problem.endpoints for option in each.options})
    members = _groups(problem.endpoints)
    leaders = [problem.endpoints[group[0]] for group in members]
    quotas = {quota.id: number for number, quota in enumerate(problem.quotas)}
    spread = np.array([leader.spread for leader in leaders], np.int64)
    group, pool, option, shape, replicas = _choices(problem, grid, leaders)
    apart = spread[group] > 1
    fits = np.where(apart, grid.fits_apart[pool, shape], grid.fits[pool, shape]) >= replicas
    fits &= ~apart | (np.minimum(replicas, grid.domains[pool, shape]) >= spread[group])
    group, pool, option, shape, replicas = (part[fits] for part in (group, pool, option, shape, replicas))
    gpus = grid.shapes[shape] * replicas
    weight = np.array([leader.weight for leader in leaders], np.float64)
    return Columns(
        problem=problem,
        grid=grid,
        members=members,
        count=np.array([len(group) for group in members], np.int64),
        weight=weight,
        penalty=weight * problem.penalty,
        quota=np.array([-1 if each.quota is None else quotas[each.quota] for each in leaders], np.int64),
        quota_room=np.array([quota.gpus for quota in problem.quotas], np.int64),
        group=group,
        pool=pool,
        option=option,
        shape=shape,
        replicas=replicas,
        gpus=gpus,
        cost=_costs(problem, leaders, group, pool, gpus),
    )


def undominated(
    options: Iterable[tuple[int, FleetOption]], gpus_per_node: int
) -> list[tuple[int, FleetOption]]:
    """Leave out options in whose nodes another fits that has no more GPUs."""
    kept: list[tuple[int, FleetOption]] = []
    for number, option in sorted(options, key=lambda each: (each[1].total, each[1].gpus, each[0])):
        if not any(
            option.replicas * _inside(option.gpus, other.gpus, gpus_per_node) >= other.replicas
            for _, other in kept
        ):
            kept.append((number, option))
    return kept


def _inside(outer: int, inner: int, gpus_per_node: int) -> int:
    """Count the replicas of ``inner`` GPUs that fit into the nodes of one of ``outer``."""
    nodes = -(-outer // gpus_per_node)
    if inner > gpus_per_node:
        return nodes // -(-inner // gpus_per_node) if nodes > 1 else 0
    return outer // inner if nodes == 1 else nodes * (gpus_per_node // inner)


def _groups(endpoints: Sequence[FleetEndpoint]) -> tuple[tuple[int, ...], ...]:
    fields = [field.name for field in dataclasses.fields(FleetEndpoint) if field.name != "id"]
    groups: defaultdict[tuple[object, ...], list[int]] = defaultdict(list)
    for number, endpoint in enumerate(endpoints):
        groups[tuple(getattr(endpoint, field) for field in fields)].append(number)
    return tuple(tuple(group) for group in groups.values())


def _choices(
    problem: FleetProblem, grid: Grid, leaders: Sequence[FleetEndpoint]
) -> tuple[Integers, Integers, Integers, Integers, Integers]:
    """Give group, pool, option, shape and replicas of every option in every pool that is not barred."""
    shape_of = {int(gpus): number for number, gpus in enumerate(grid.shapes)}
    kinds: defaultdict[str, defaultdict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, pool in enumerate(problem.pools):
        kinds[pool.gpu][pool.gpus_per_node].append(number)
    lists: dict[tuple[object, ...], list[tuple[int, Integers]]] = {}
    rows: list[tuple[int, int, int, int]] = []
    pools: list[Integers] = []
    for number, leader in enumerate(leaders):
        options: defaultdict[str, list[tuple[int, FleetOption]]] = defaultdict(list)
        for at, option in enumerate(leader.options):
            if option.replicas >= leader.spread:
                options[option.gpu].append((at, option))
        place = (
            leader.residency,
            leader.certifications,
            leader.tolerations,
            leader.pinned and leader.current,
        )
        for gpu, of_gpu in options.items():
            if (gpu, place) not in lists:
                lists[gpu, place] = [
                    (each, np.array([p for p in of_kind if bar(leader, problem.pools[p]) is None], np.int64))
                    for each, of_kind in kinds[gpu].items()
                ]
            for gpus_per_node, allowed in lists[gpu, place]:
                if not len(allowed):
                    continue
                for at, option in undominated(of_gpu, gpus_per_node):
                    rows.append((number, at, shape_of[option.gpus], option.replicas))
                    pools.append(allowed)
    if not rows:
        none = np.zeros(0, np.int64)
        return none, none, none, none, none
    lengths = [len(allowed) for allowed in pools]
    group, option_at, shape, replicas = np.repeat(np.array(rows, np.int64), lengths, axis=0).T
    return group, np.concatenate(pools), option_at, shape, replicas


def _costs(
    problem: FleetProblem, leaders: Sequence[FleetEndpoint], group: Integers, pool: Integers, gpus: Integers
) -> Floats:
    number_of = {each.id: number for number, each in enumerate(problem.pools)}
    gone = len(problem.pools)
    current = np.array(
        [-1 if each.current is None else number_of.get(each.current, gone) for each in leaders], np.int64
    )
    price = np.array([each.price for each in problem.pools], np.float64)
    stays = current[group] == pool
    per_gpu = price[pool] + np.where((current[group] >= 0) & ~stays, problem.move_cost, 0.0)
    once = np.zeros(len(group))
    ends = np.searchsorted(group, np.arange(len(leaders) + 1))
    far: dict[str, Floats] = {}
    for number, leader in enumerate(leaders):
        if leader.near is None and not leader.load_cost:
            continue
        of = slice(int(ends[number]), int(ends[number + 1]))
        if leader.near is not None:
            if leader.near not in far:
                far[leader.near] = np.array(
                    [not residency_allows(leader.near, each.region, each.zones) for each in problem.pools],
                    np.float64,
                )
            per_gpu[of] += leader.near_penalty * far[leader.near][pool[of]]
        if leader.load_cost:
            there = [number_of[name] for name in leader.cached if name in number_of]
            once[of] = np.where(stays[of] | np.isin(pool[of], there), 0.0, leader.load_cost)
    costs: Floats = per_gpu * gpus + once
    return costs
