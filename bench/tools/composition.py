"""Fleets of several GPU types against the best of one type, over a published study's market; and many models at once.

``python -m bench.tools.composition`` prints the tables of docs/performance.md.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import importlib.resources
import itertools
import json
import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from bench.tools.figures import Figures, quantiles
from clusters.planning.architecture import Architecture
from clusters.planning.composition.configurations import Lengths, Served, configurations_of
from clusters.planning.composition.fleet import (
    Configuration,
    Fleet,
    FleetProblem,
    Goal,
    GpuOffer,
    ModelLoad,
    Workload,
)
from clusters.planning.composition.programs import draft
from clusters.planning.composition.solve import best_homogeneous, largest_rate, least_cost
from clusters.planning.composition.tables import market_of, tables_of
from clusters.planning.gpus import gpu_catalog
from clusters.planning.problem import GpuSpec, Precision

SEED: Final = 20
#: Models at once, and the seconds that their fleet may be searched.
MANY: Final = {2: 10.0, 10: 10.0, 50: 20.0}
#: Their median rates to one another, how many share the stock of one market, and the part of it that they fill.
MANY_RATE: Final = {"Llama3-8B": 4.0, "Llama3-70B": 1.0}
MANY_PER_STOCK: Final = 5
MANY_FILL: Final = 0.75
CASE_LIMIT_S: Final = 2.0
CASE_GAP: Final = 1e-3

#: The precision of the study, and those that the models could be served in besides.
PLAIN: Final = (Precision.BF16,)
ALL: Final = (Precision.BF16, Precision.FP8, Precision.INT4)

ARCHITECTURES: Final = {
    "Llama3-8B": Architecture(
        parameters_total=8_030_000_000,
        parameters_active=8_030_000_000,
        layers=32,
        hidden_size=4096,
        heads=32,
        kv_heads=8,
        head_size=128,
        vocabulary=128_256,
        mlp_size=14_336,
    ),
    "Llama3-70B": Architecture(
        parameters_total=70_550_000_000,
        parameters_active=70_550_000_000,
        layers=80,
        hidden_size=8192,
        heads=64,
        kv_heads=8,
        head_size=128,
        vocabulary=128_256,
        mlp_size=28_672,
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """The market and the load of ``clusters/planning/data/jiang2025.json``."""

    specs: Mapping[str, GpuSpec]
    prices: Mapping[str, Decimal]
    budgets: tuple[Decimal, ...]
    stock: Mapping[str, Mapping[str, int]]
    lengths: tuple[Lengths, ...]
    mixes: Mapping[str, tuple[float, ...]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One market and load, with the best fleets of all types and of one type, in stock and in any number."""

    model: str
    budget: Decimal
    stock: str
    mix: str
    mixed: Fleet
    mixed_any: Fleet
    single: Fleet
    single_any: Fleet

    @property
    def gains(self) -> tuple[float, float, float]:
        """Throughput of the mixed fleet over the single one's, less 1.

        Both in stock; the mixed one in stock and the single one in any number; both in any number.
        """
        return (
            _over(self.mixed, self.single),
            _over(self.mixed, self.single_any),
            _over(self.mixed_any, self.single_any),
        )


@functools.cache
def study() -> Study:
    """Read the study's data."""
    text = importlib.resources.files("clusters.planning").joinpath("data/jiang2025.json").read_text("utf-8")
    data: dict[str, Any] = json.loads(text)
    return Study(
        specs={
            name: GpuSpec(name=name, **gpu["spec"]) if gpu["spec"] else gpu_catalog()[name]
            for name, gpu in data["gpus"].items()
        },
        prices={name: Decimal(gpu["price_per_hour"]) for name, gpu in data["gpus"].items()},
        budgets=tuple(Decimal(budget) for budget in data["budgets_per_hour"]),
        stock=data["stock"],
        lengths=tuple(Lengths(input_tokens=read, output_tokens=written) for read, written in data["lengths"]),
        mixes={name: tuple(shares) for name, shares in data["mixes"].items()},
    )


@functools.cache
def configurations(
    model: str, precisions: tuple[Precision, ...], lengths: tuple[Lengths, ...]
) -> tuple[Configuration, ...]:
    """Configurations of a model on the study's GPU types."""
    served = Served(
        engine="vllm", name=model, architecture=ARCHITECTURES[model], precisions=precisions, lengths=lengths
    )
    return configurations_of(served, study().specs)


def cases(precisions: tuple[Precision, ...], *, turned: bool = False) -> Iterator[Case]:
    """Compose a fleet for every model, budget, stock and mix; ``turned`` has the outputs' length change slowest."""
    lengths = study().lengths
    if turned:
        lengths = tuple(sorted(lengths, key=lambda each: (-each.output_tokens, -each.input_tokens)))
    plenty: dict[tuple[str, Decimal, str], tuple[Fleet, Fleet]] = {}
    for model, budget, stock, mix in itertools.product(
        ARCHITECTURES, study().budgets, study().stock, study().mixes
    ):
        problem = FleetProblem(
            gpus=tuple(
                GpuOffer(name=name, price_per_hour=price, stock=study().stock[stock][name])
                for name, price in study().prices.items()
            ),
            models=(ModelLoad(name=model, workloads=_workloads(study().mixes[mix])),),
            configurations=configurations(model, precisions, lengths),
            budget_per_hour=budget,
        )
        if (model, budget, mix) not in plenty:
            unlimited = dataclasses.replace(
                problem, gpus=tuple(dataclasses.replace(offer, stock=None) for offer in problem.gpus)
            )
            plenty[model, budget, mix] = _fastest(unlimited), _fastest_single(unlimited)
        mixed_any, single_any = plenty[model, budget, mix]
        yield Case(
            model=model,
            budget=budget,
            stock=stock,
            mix=mix,
            mixed=_fastest(problem),
            mixed_any=mixed_any,
            single=_fastest_single(problem),
            single_any=single_any,
        )


def _fastest(problem: FleetProblem) -> Fleet:
    return largest_rate(problem, time_limit_s=CASE_LIMIT_S, gap=CASE_GAP)


def _fastest_single(problem: FleetProblem) -> Fleet:
    return best_homogeneous(problem, Goal.LARGEST_RATE, time_limit_s=CASE_LIMIT_S, gap=CASE_GAP)


def _workloads(demand: Sequence[float]) -> tuple[Workload, ...]:
    return tuple(Workload(name=f"type {at}", demand=share) for at, share in enumerate(demand, 1))


def _over(fleet: Fleet, other: Fleet) -> float:
    return fleet.rate / other.rate - 1 if fleet.rate and other.rate else float("nan")


def many(count: int) -> FleetProblem:
    """``count`` models of two kinds in turn, each of nine workloads and a rate of its own, on a scarce stock.

    They ask for ``MANY_FILL`` of what the stock would serve if replicas could be divided.
    """
    draws = random.Random(SEED)
    loads, found = [], []
    for number in range(count):
        kind = list(ARCHITECTURES)[number % len(ARCHITECTURES)]
        rate = draws.lognormvariate(0, 1) * MANY_RATE[kind]
        weights = [draws.random() for _ in study().lengths]
        name = f"{kind}-{number}"
        loads.append(
            ModelLoad(name=name, workloads=_workloads([rate * each / sum(weights) for each in weights]))
        )
        found += [
            dataclasses.replace(each, name=f"{each.name} for {name}", model=name)
            for each in configurations(kind, ALL, study().lengths)
        ]
    stock = study().stock["1"]
    problem = FleetProblem(
        gpus=tuple(
            GpuOffer(
                name=name, price_per_hour=price, stock=max(1, round(stock[name] * count / MANY_PER_STOCK))
            )
            for name, price in study().prices.items()
        ),
        models=tuple(loads),
        configurations=tuple(found),
    )
    market, tables = market_of(problem), tables_of(problem)
    most = draft(
        tables, prices=market.prices, stock=market.stock, fastest=True, relaxed=True
    ).solution.objective
    scale = MANY_FILL * most / sum(float(table.demand.sum()) for table in tables)
    return dataclasses.replace(
        problem,
        models=tuple(
            dataclasses.replace(
                load, workloads=_workloads([scale * workload.demand for workload in load.workloads])
            )
            for load in loads
        ),
    )


def measure() -> Figures:
    """Compose the study's fleets in its precision, and fleets for 2, 10 and 50 models."""
    figures: Figures = {}
    every = list(cases(PLAIN))
    for model in ARCHITECTURES:
        gains = list(zip(*(case.gains for case in every if case.model == model), strict=True))
        name = f"fleet_{model.lower().replace('-', '_')}"
        for which, values in zip(("in_stock", "single_any", "both_any"), gains, strict=True):
            figures[f"{name}_gain_{which}_mean_percent"] = 100 * statistics.mean(values)
            figures[f"{name}_gain_{which}_max_percent"] = 100 * max(values)
    spent = [1000 * case.mixed.seconds for case in every]
    figures |= {**quantiles("fleet_one_model", spent, "ms"), "fleet_one_model_max_ms": max(spent)}
    for count, limit_s in MANY.items():
        problem = many(count)
        fleet = least_cost(problem, time_limit_s=limit_s)
        if not fleet.is_found or fleet.gap is None:
            raise RuntimeError(f"{count} models found no fleet: {fleet.message}")
        relaxed = relaxed_cost(problem)
        name = f"fleet_{count}_models"
        figures[f"{name}_s"] = fleet.seconds
        figures[f"{name}_usd_per_h"] = float(fleet.cost_per_hour)
        figures[f"{name}_over_bound_percent"] = 100 * fleet.gap
        figures[f"{name}_over_relaxed_percent"] = 100 * (float(fleet.cost_per_hour) / relaxed - 1)
    return figures


def relaxed_cost(problem: FleetProblem) -> float:
    """Money per hour of the fleet if parts of replicas could be had."""
    market = market_of(problem)
    answer = draft(tables_of(problem), prices=market.prices, stock=market.stock, relaxed=True)
    return answer.solution.objective


def tables() -> Iterator[str]:
    """Lines of the tables in docs/performance.md."""
    plain = list(cases(PLAIN))
    yield from _head("model", "budget, $/h")
    for model in ARCHITECTURES:
        for budget in study().budgets:
            yield _row(model, str(budget), [c for c in plain if (c.model, c.budget) == (model, budget)])
        yield _row(model, "all", [case for case in plain if case.model == model])
    yield ""
    yield from _head("variant", "model")
    for words, every in (
        ("as above", plain),
        ("output length changes slowest", list(cases(PLAIN, turned=True))),
        ("bf16, fp8 and int4", list(cases(ALL))),
    ):
        for model in ARCHITECTURES:
            yield _row(words, model, [case for case in every if case.model == model])
    yield ""
    yield "| stock | model | gain in stock, mean | max | best single type: cases |"
    yield "|---|---|---:|---:|---|"
    for stock, model in itertools.product(study().stock, ARCHITECTURES):
        own = [case for case in plain if (case.stock, case.model) == (stock, model)]
        gains = [case.gains[0] for case in own]
        types = collections.Counter(case.single.message.split(" ")[0] for case in own)
        named = ", ".join(f"{name}: {count}" for name, count in types.most_common())
        yield f"| {stock} | {model} | {statistics.mean(gains):+.0%} | {max(gains):+.0%} | {named} |"


def _head(first: str, second: str) -> Iterator[str]:
    yield f"| {first} | {second} | both in stock: mean | max | single any: mean | min | max | both any: mean | max |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|---:|"


def _row(first: str, second: str, every: Sequence[Case]) -> str:
    stock, single, free = zip(*(case.gains for case in every), strict=True)
    numbers = (
        statistics.mean(stock), max(stock), statistics.mean(single), min(single), max(single),
        statistics.mean(free), max(free),
    )  # fmt: skip
    return f"| {first} | {second} | {' | '.join(f'{number:+.0%}' for number in numbers)} |"


if __name__ == "__main__":
    print("\n".join(tables()))
