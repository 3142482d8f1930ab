"""All ways to serve an order, whatever is free now: what a re-plan of a whole fleet chooses from."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable

from clusters.planning.performance.best import default_model
from clusters.planning.performance.model import PerformanceModel, Shape
from clusters.planning.placement.nodes import replicas_that_fit
from clusters.planning.problem import Order, Pool, PoolState, Precision, QuotaState
from clusters.planning.rules import Kind
from clusters.planning.search.order import Search, by_kind
from clusters.planning.search.sizing import Unfit


@dataclasses.dataclass(frozen=True, kw_only=True)
class Option:
    """One shape and number of replicas that carry the order, and the pools that could hold it when empty."""

    gpu: str
    precision: Precision
    tp: int
    pp: int
    replicas: int
    runtime: str
    pools: tuple[str, ...]

    @property
    def gpus_per_replica(self) -> int:
        """GPUs that one replica holds."""
        return self.tp * self.pp

    @property
    def gpus(self) -> int:
        """GPUs that all replicas hold."""
        return self.gpus_per_replica * self.replicas


def options(
    order: Order, pools: Iterable[Pool], *, performance: PerformanceModel | None = None
) -> tuple[Option, ...]:
    """Give the ways to serve ``order`` in active pools that may lawfully hold it, by GPU type.

    Of each size of a replica the one with the fewest replicas is given, at equal numbers in the precision that the
    model prefers, and none that another of smaller replicas and no more GPUs makes pointless. Neither free GPUs nor
    quotas are looked at.
    """
    search = Search(
        pools=tuple(sorted(pools, key=lambda pool: pool.id)),
        quota=QuotaState(),
        performance=performance or default_model(),
    )
    kinds = by_kind(order, (pool for pool in search.pools if pool.state is PoolState.ACTIVE))
    return tuple(option for kind, held in kinds.items() for option in _of_kind(search, order, kind, held))


def _of_kind(search: Search, order: Order, kind: Kind, pools: list[Pool]) -> list[Option]:
    kept: list[Option] = []
    shapes = sorted(search.shapes(order, kind), key=lambda shape: shape.gpus)
    for gpus, alike in itertools.groupby(shapes, key=lambda shape: shape.gpus):
        fewest = min((option.gpus for option in kept), default=None)
        if fewest is not None and gpus >= fewest:
            break  # one replica of it holds as many as all of what is known
        best = _best(search, order, kind, pools, alike)
        if best is not None and (fewest is None or best.gpus < fewest):
            kept.append(best)
    return kept


def _best(
    search: Search, order: Order, kind: Kind, pools: list[Pool], shapes: Iterable[Shape]
) -> Option | None:
    """Give the option with the fewest replicas among shapes of one size, the first of equals."""
    best: Option | None = None
    for shape in shapes:
        if best is not None and best.replicas == 1:
            break
        if search.shape_fault(order, kind, shape) is not None:
            continue
        sizing = search.sizing(order, shape)
        if isinstance(sizing, Unfit) or sizing.replicas < 1:
            continue
        if best is not None and best.replicas <= sizing.replicas:
            continue
        fitting = tuple(pool.id for pool in pools if _holds(pool, shape.gpus, sizing.replicas))
        if fitting:
            best = Option(
                gpu=kind.gpu.name,
                precision=shape.precision,
                tp=shape.tp,
                pp=shape.pp,
                replicas=sizing.replicas,
                runtime=kind.runtime,
                pools=fitting,
            )
    return best


def _holds(pool: Pool, gpus: int, replicas: int) -> bool:
    whole = [pool.gpus_per_node] * len(pool.free)
    return replicas_that_fit(whole, gpus, gpus_per_node=pool.gpus_per_node) >= replicas
