"""Problems for the fleet tests, a checker of answers, and searches that look at every fleet."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from decimal import Decimal
from fractions import Fraction

from hypothesis import strategies as st

from clusters.planning.composition.fleet import (
    Configuration,
    Fleet,
    FleetProblem,
    GpuOffer,
    ModelLoad,
    Workload,
)

#: Section 4.2 of Jiang et al. (arXiv 2502.00722), as transcribed second-hand.
WORKED_EXAMPLE = FleetProblem(
    gpus=(
        GpuOffer(name="t1", price_per_hour=Decimal(4), stock=2),
        GpuOffer(name="t2", price_per_hour=Decimal(2), stock=2),
        GpuOffer(name="t3", price_per_hour=Decimal(2), stock=2),
    ),
    models=(
        ModelLoad(
            name="model",
            workloads=(Workload(name="w1", demand=80), Workload(name="w2", demand=20)),
        ),
    ),
    configurations=(
        Configuration(name="1xt1", model="model", gpus={"t1": 1}, rates=(1.0, 1.2)),
        Configuration(name="1xt2", model="model", gpus={"t2": 1}, rates=(0.9, 0.9)),
        Configuration(name="1xt3", model="model", gpus={"t3": 1}, rates=(0.3, 0.5)),
        Configuration(name="TP2xt2", model="model", gpus={"t2": 2}, rates=(2.4, 1.5)),
    ),
    budget_per_hour=Decimal(8),
)


def faults(problem: FleetProblem, fleet: Fleet, *, rate: float | None = None) -> list[str]:
    """Say what is wrong with a fleet that was found; ``rate`` is what it has to serve each second."""
    found = []
    configurations = {each.name: each for each in problem.configurations}
    prices = {offer.name: offer.price_per_hour for offer in problem.gpus}
    count = {each.configuration: each.count for each in fleet.copies}
    used = dict.fromkeys(prices, 0)
    cost = Decimal(0)
    for name, copies in count.items():
        if copies < 1:
            found.append(f"{copies} copies of {name}")
        for gpu, needed in configurations[name].gpus.items():
            used[gpu] += needed * copies
            cost += prices[gpu] * needed * copies
    if cost != fleet.cost_per_hour:
        found.append(f"costs {cost}, not {fleet.cost_per_hour}")
    if problem.budget_per_hour is not None and cost > problem.budget_per_hour:
        found.append(f"costs {cost} of {problem.budget_per_hour}")
    for offer in problem.gpus:
        if offer.stock is not None and used[offer.name] > offer.stock:
            found.append(f"{used[offer.name]} of {offer.stock} {offer.name}")
        if offer.stock is not None and fleet.gpus_left[offer.name] != offer.stock - used[offer.name]:
            found.append(f"{fleet.gpus_left[offer.name]} {offer.name} left")
    served = fleet.rate if rate is None else rate
    busy = dict.fromkeys(count, 0.0)
    for model in problem.models:
        for at, workload in enumerate(model.workloads):
            own = [
                each
                for each in fleet.assignments
                if (each.model, each.workload) == (model.name, workload.name)
            ]
            if workload.demand > 0 and not math.isclose(sum(each.share for each in own), 1, abs_tol=1e-5):
                found.append(f"{workload.name} of {model.name} is served {sum(each.share for each in own)}")
            for each in own:
                configuration = configurations[each.configuration]
                if configuration.model != model.name:
                    found.append(f"{configuration.name} serves {model.name}")
                busy[each.configuration] += (
                    each.share * workload.demand * (served or 0) / configuration.rates[at]
                )
    found += [
        f"{name} is busy {busy[name]} of {count[name]}"
        for name in count
        if busy[name] > count[name] * (1 + 1e-5)
    ]
    return found


def every_fleet(problem: FleetProblem, most: int = 8) -> Iterator[tuple[int, ...]]:
    """All counts of the configurations within stock and budget, at most ``most`` of each."""
    stock = {offer.name: offer.stock for offer in problem.gpus}
    for counts in itertools.product(range(most + 1), repeat=len(problem.configurations)):
        used = dict.fromkeys(stock, 0)
        for each, copies in zip(problem.configurations, counts, strict=True):
            for gpu, needed in each.gpus.items():
                used[gpu] += needed * copies
        if any(limit is not None and used[gpu] > limit for gpu, limit in stock.items()):
            continue
        if problem.budget_per_hour is None or cost_of(problem, counts) <= problem.budget_per_hour:
            yield counts


def cost_of(problem: FleetProblem, counts: Sequence[int]) -> Decimal:
    prices = {offer.name: offer.price_per_hour for offer in problem.gpus}
    return sum(
        (
            prices[gpu] * needed * copies
            for each, copies in zip(problem.configurations, counts, strict=True)
            for gpu, needed in each.gpus.items()
        ),
        Decimal(0),
    )


def rate_of(problem: FleetProblem, counts: Sequence[int]) -> Fraction:
    """The largest multiple of the demand that these copies serve each second, for at most two workloads a model.

    By duality it is the least of ``sum_c y_c max_w(p_w h_cw) / sum_w p_w f_w`` over prices p of the workloads,
    which lies where two workloads earn a copy the same, or where one is worth nothing.
    """
    least = None
    for model in problem.models:
        own = [
            (copies, [Fraction(rate) for rate in each.rates])
            for each, copies in zip(problem.configurations, counts, strict=True)
            if each.model == model.name
        ]
        demand = [Fraction(workload.demand) for workload in model.workloads]
        size = len(demand)
        candidates = [[Fraction(int(at == one)) for at in range(size)] for one in range(size)]
        if size == 2:
            candidates += [[rates[1], rates[0]] for _, rates in own if all(rates)]
        for prices in candidates:
            worth = sum((price * much for price, much in zip(prices, demand, strict=True)), Fraction(0))
            if worth > 0:
                earned = sum(
                    (
                        copies * max(price * rate for price, rate in zip(prices, rates, strict=True))
                        for copies, rates in own
                    ),
                    Fraction(0),
                )
                least = earned / worth if least is None else min(least, earned / worth)
    assert least is not None
    return least


@st.composite
def problems(draw: st.DrawFn, *, models: int = 1) -> FleetProblem:
    """Small problems: two or three GPU types, one or two workloads and up to four configurations a model."""
    gpus = tuple(
        GpuOffer(
            name=f"gpu{number}",
            price_per_hour=Decimal(draw(st.integers(1, 40))) / 10,
            stock=draw(st.integers(0, 4)),
        )
        for number in range(draw(st.integers(2, 3)))
    )
    loads, configurations = [], []
    for number in range(models):
        size = draw(st.integers(1, 2))
        loads.append(
            ModelLoad(
                name=f"model{number}",
                workloads=tuple(
                    Workload(name=f"w{at}", demand=draw(st.integers(1, 30)) / 10) for at in range(size)
                ),
            )
        )
        for at in range(draw(st.integers(1, 4 if models == 1 else 2))):
            names = draw(
                st.lists(st.sampled_from([offer.name for offer in gpus]), min_size=1, max_size=2, unique=True)
            )
            configurations.append(
                Configuration(
                    name=f"model{number}-{at}",
                    model=f"model{number}",
                    gpus={name: draw(st.integers(1, 2)) for name in names},
                    rates=tuple(draw(st.integers(0, 20)) / 10 for _ in range(size)),
                )
            )
    return FleetProblem(
        gpus=gpus,
        models=tuple(loads),
        configurations=tuple(configurations),
        budget_per_hour=Decimal(draw(st.integers(0, 200))) / 10,
    )
