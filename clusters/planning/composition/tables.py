"""A problem as arrays, one table for each model, without the configurations that no best fleet needs."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from clusters.planning.composition.fleet import Configuration, FleetProblem, ModelLoad
from clusters.planning.milp import Floats

Counts = NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """One model: C configurations, the W workloads that are demanded, G GPU types.

    ``rates`` is C x W, ``gpus`` C x G, ``demand`` W.
    """

    model: ModelLoad
    configurations: tuple[Configuration, ...]
    workloads: tuple[str, ...]
    rates: Floats
    gpus: Counts
    demand: Floats

    def scaled(self, factor: float) -> Table:
        """Give it with ``factor`` times the demand."""
        return dataclasses.replace(self, demand=self.demand * factor)

    def unserved(self) -> str:
        """Name a workload that no configuration serves; empty where there is none."""
        served = self.rates.any(axis=0)
        return next((name for name, some in zip(self.workloads, served, strict=True) if not some), "")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Market:
    """The GPU types: price and stock of each (infinite where unlimited), in one order everywhere."""

    names: tuple[str, ...]
    prices: Floats
    stock: Floats


def market_of(problem: FleetProblem) -> Market:
    """Lay out the offers."""
    return Market(
        names=tuple(offer.name for offer in problem.gpus),
        prices=np.array([float(offer.price_per_hour) for offer in problem.gpus]),
        stock=np.array([np.inf if offer.stock is None else float(offer.stock) for offer in problem.gpus]),
    )


def tables_of(problem: FleetProblem) -> list[Table]:
    """Lay out each model that something is asked of, dominated configurations left out."""
    at = {offer.name: number for number, offer in enumerate(problem.gpus)}
    found = []
    for model in problem.models:
        wanted = [number for number, workload in enumerate(model.workloads) if workload.demand > 0]
        if not wanted:
            continue
        own = [each for each in problem.configurations if each.model == model.name]
        rates = np.array([each.rates for each in own]).reshape(len(own), len(model.workloads))[:, wanted]
        gpus = np.zeros((len(own), len(at)), np.int64)
        for row, each in enumerate(own):
            for gpu, count in each.gpus.items():
                gpus[row, at[gpu]] = count
        kept = undominated(rates, gpus)
        found.append(
            Table(
                model=model,
                configurations=tuple(own[row] for row in kept),
                workloads=tuple(model.workloads[number].name for number in wanted),
                rates=rates[kept],
                gpus=gpus[kept],
                demand=np.array([model.workloads[number].demand for number in wanted]),
            )
        )
    return found


def undominated(rates: Floats, gpus: Counts) -> list[int]:
    """Rows that are not dominated: no copies of another row serve at least as much with the same GPUs or fewer.

    Leaving the others out costs nothing: wherever one is used, those copies can stand instead.
    """
    kept = []
    for row in range(len(rates)):
        if not rates[row].any():
            continue
        with np.errstate(divide="ignore"):
            copies = np.where(gpus > 0, gpus[row] // np.maximum(gpus, 1), np.iinfo(np.int64).max).min(axis=1)
        better = (copies > 0) & (copies[:, None] * rates >= rates[row]).all(axis=1)
        same = (gpus == gpus[row]).all(axis=1) & (rates == rates[row]).all(axis=1)
        better &= ~same | (np.arange(len(rates)) < row)
        if not better.any():
            kept.append(row)
    return kept
