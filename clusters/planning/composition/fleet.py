"""What is asked for and what is answered: offers, loads, configurations; a fleet of them. All frozen.

Money is :class:`~decimal.Decimal` per hour, rates are requests per second.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final

from clusters.planning.problem import ProblemError

#: Numbers beyond these are mistakes, and too far apart for a solver; demands and rates may also be 0.
MOST: Final = 10**9
LEAST: Final = 1e-6


class Goal(enum.StrEnum):
    """What makes one fleet better than another.

    ``SHORTEST_MAKESPAN`` ends a batch of requests soonest, ``LARGEST_RATE`` serves a mix at the highest rate,
    both within the budget; ``LEAST_COST`` serves given rates for the least money.
    """

    SHORTEST_MAKESPAN = "shortest_makespan"
    LARGEST_RATE = "largest_rate"
    LEAST_COST = "least_cost"


@dataclasses.dataclass(frozen=True, kw_only=True)
class GpuOffer:
    """GPUs of one type that can be had. ``stock`` is how many, None any number."""

    name: str
    price_per_hour: Decimal
    stock: int | None = None

    def __post_init__(self) -> None:
        if not self.price_per_hour.is_finite() or not 0 <= self.price_per_hour <= MOST:
            raise ProblemError("gpus", f"{self.name}: a price is from 0 to {MOST}")
        if self.stock is not None and self.stock < 0:
            raise ProblemError("gpus", f"{self.name}: a stock cannot be negative")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """Requests of one kind. ``demand`` is their number in the batch, their share of the mix, or their rate."""

    name: str
    demand: float

    def __post_init__(self) -> None:
        if self.demand != 0 and not LEAST <= self.demand <= MOST:
            raise ProblemError("models", f"workload {self.name}: the demand is 0 or from {LEAST:g} to {MOST}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelLoad:
    """A model and what is asked of it."""

    name: str
    workloads: tuple[Workload, ...]

    def __post_init__(self) -> None:
        _distinct("models", f"workloads of {self.name}", (workload.name for workload in self.workloads))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Configuration:
    """One replica of a model. ``gpus`` are how many of each type it takes.

    ``rates`` are the requests per second of each of the model's workloads, in their order, when it serves that
    workload alone; 0 where it cannot. Serving several, it divides its time.
    """

    name: str
    model: str
    gpus: Mapping[str, int]
    rates: tuple[float, ...]

    def __post_init__(self) -> None:
        if not any(self.gpus.values()) or any(count < 0 for count in self.gpus.values()):
            raise ProblemError("configurations", f"{self.name}: a replica takes at least one GPU")
        if not all(rate == 0 or LEAST <= rate <= MOST for rate in self.rates):
            raise ProblemError("configurations", f"{self.name}: a rate is 0 or from {LEAST:g} to {MOST}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FleetProblem:
    """Everything a fleet is chosen by. ``budget_per_hour`` None is no limit.

    Raises:
        ProblemError: the parts contradict each other.
    """

    gpus: tuple[GpuOffer, ...]
    models: tuple[ModelLoad, ...]
    configurations: tuple[Configuration, ...]
    budget_per_hour: Decimal | None = None

    def __post_init__(self) -> None:
        _distinct("gpus", "GPU types", (offer.name for offer in self.gpus))
        _distinct("models", "models", (model.name for model in self.models))
        _distinct("configurations", "configurations", (each.name for each in self.configurations))
        budget = self.budget_per_hour
        if budget is not None and (not budget.is_finite() or not 0 <= budget <= MOST):
            raise ProblemError("budget_per_hour", f"a budget is from 0 to {MOST}")
        known = {offer.name for offer in self.gpus}
        workloads = {model.name: len(model.workloads) for model in self.models}
        for each in self.configurations:
            if unknown := sorted(set(each.gpus) - known):
                raise ProblemError("configurations", f"{each.name}: unknown GPU type {unknown[0]}")
            if each.model not in workloads:
                raise ProblemError("configurations", f"{each.name}: unknown model {each.model}")
            if len(each.rates) != workloads[each.model]:
                raise ProblemError(
                    "configurations",
                    f"{each.name}: {len(each.rates)} rates for the {workloads[each.model]} workloads "
                    f"of {each.model}",
                )

    def price(self, configuration: Configuration) -> Decimal:
        """Money per hour of one replica."""
        prices = {offer.name: offer.price_per_hour for offer in self.gpus}
        return sum((prices[gpu] * count for gpu, count in configuration.gpus.items()), Decimal(0))


class FleetStatus(enum.StrEnum):
    """``OPTIMAL`` is proven best within the gap asked for, ``FEASIBLE`` serves everything but may not be best.

    ``INFEASIBLE`` is proven: no fleet does it. ``NOT_FOUND`` is neither found nor excluded.
    """

    OPTIMAL = "optimal"
    FEASIBLE = "feasible"
    INFEASIBLE = "infeasible"
    NOT_FOUND = "not_found"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Copies:
    """So many replicas of one configuration, and their money per hour together."""

    configuration: str
    count: int
    price_per_hour: Decimal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Assignment:
    """The share of a model's workload that all replicas of one configuration serve together."""

    model: str
    workload: str
    configuration: str
    share: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fleet:
    """A fleet, or in ``message`` why there is none.

    ``rate`` is the multiple of the whole demand that is served each second and ``makespan_s`` its inverse; for
    rates that were given a fleet serves them when ``rate`` is at least 1. ``bound`` is what no fleet beats, in
    what the goal counts (seconds, rate or money per hour), ``gap`` the fleet's relative distance to it. All four
    are None where there is nothing to say. ``gpus_left`` has the stock that stays, without unlimited types.
    """

    goal: Goal
    status: FleetStatus
    message: str
    copies: tuple[Copies, ...] = ()
    assignments: tuple[Assignment, ...] = ()
    rate: float | None = None
    makespan_s: float | None = None
    cost_per_hour: Decimal = Decimal(0)
    bound: float | None = None
    gap: float | None = None
    gpus_left: Mapping[str, int] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0

    @property
    def is_found(self) -> bool:
        """Whether there is a fleet."""
        return self.status in (FleetStatus.OPTIMAL, FleetStatus.FEASIBLE)


def _distinct(field: str, what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if not name:
            raise ProblemError(field, f"{what}: one has no name")
        if name in seen:
            raise ProblemError(field, f"{what}: {name} is there twice")
        seen.add(name)
