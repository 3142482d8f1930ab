"""Fleets of three kinds and sizes, placed by first fit, by regret and by the solver."""

from __future__ import annotations

import dataclasses
import functools
import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

from bench.tools.figures import Figures
from clusters.planning.placement.columns import columns_of
from clusters.planning.placement.draft import Draft
from clusters.planning.placement.fleet import (
    FleetEndpoint,
    FleetOption,
    FleetPool,
    FleetProblem,
    bar,
    cost_of,
)
from clusters.planning.placement.regret import place_by_regret
from clusters.planning.placement.solve import solve
from clusters.planning.placement.stock import Stock

Result = TypeVar("Result")

CLUSTERS: Final = 100
SIZES: Final = (100, 1_000, 10_000)
SEED: Final = 8
#: Supply of GPUs in parts of what the endpoints need at least.
KINDS: Final = {"ample": 2.5, "tight": 1.05, "fragmented": 1.6}
ADMISSIONS: Final = 200

#: Memory in GiB, decode speed, $ per GPU-hour and GPUs per node.
GPUS: Final = {
    "l40s": (48, 0.35, 0.95, 8),
    "a100_sxm": (80, 0.75, 1.75, 8),
    "h100_sxm": (80, 1.3, 2.99, 8),
    "h200_sxm": (141, 1.6, 3.60, 8),
    "b200_sxm": (180, 2.8, 5.50, 8),
    "gb200": (186, 3.0, 6.20, 4),
}
#: GiB of weights, and how common such a model is.
MODELS: Final = {8: 45, 32: 25, 70: 20, 120: 6, 400: 4}
REGIONS: Final = {
    "EU": ("de", "fr", "se", "pl", "it"),
    "US": ("us-east", "us-west"),
    "UK": ("uk",),
    "CH": ("ch",),
    "APAC": ("jp", "sg", "in"),
}
CERTIFICATIONS: Final = ("C5", "SecNumCloud", "FedRAMP", "ISO27001")


def measure(sizes: tuple[int, ...] = SIZES, seed: int = SEED) -> Figures:
    """Place a fleet of each kind and size; gaps are to the solver's bound, in percent of it."""
    figures: Figures = {"clusters": CLUSTERS}
    for kind in KINDS:
        for size in sizes:
            problem = fleet(kind, size, seed)
            plan, seconds, busy = _timed(functools.partial(solve, problem))
            name = f"{kind}_{size}"
            figures |= {
                f"{name}_s": seconds,
                f"{name}_cpu_s": busy,
                f"{name}_status": plan.status.value,
                f"{name}_gap_percent": 100 * plan.gap,
                f"{name}_unplaced": len(plan.unplaced),
            }
            for rival, place in (("first_fit", _first_fit), ("regret", _regret)):
                (objective, unplaced), seconds, _ = _timed(functools.partial(place, problem))
                figures |= {
                    f"{name}_{rival}_s": seconds,
                    f"{name}_{rival}_gap_percent": 100 * (objective / plan.bound - 1),
                    f"{name}_{rival}_unplaced": unplaced,
                }
    return figures | {"admission_ms": _admission_ms(fleet("tight", max(sizes), seed))}


def fleet(kind: str, endpoints: int, seed: int) -> FleetProblem:
    """Draw a fleet of this kind in 100 clusters of one to four GPU types each."""
    rng = random.Random(f"{kind} {endpoints} {seed}")
    orders = [_order(rng, number) for number in range(endpoints)]
    places = [(region, zone) for zone, regions in REGIONS.items() for region in regions]
    shapes = []
    for cluster in range(CLUSTERS):
        place = places[cluster] if cluster < len(places) else rng.choice(places)
        certifications = frozenset(name for name in CERTIFICATIONS if rng.random() < 0.5)
        shapes += [
            (cluster, gpu, place, certifications, rng.lognormvariate(0, 0.7))
            for gpu in rng.sample(sorted(GPUS), rng.randint(1, 4))
        ]
    needed = sum(min(option.total for option in order.options) for order in orders)
    shares = sum(share for *_, share in shapes)
    pools = []
    for cluster, gpu, (region, zone), certifications, share in shapes:
        _, _, price, each = GPUS[gpu]
        nodes = max(1, round(KINDS[kind] * needed * share / shares / each))
        pools.append(
            FleetPool(
                id=f"c{cluster}/{gpu}",
                cluster=f"c{cluster}",
                gpu=gpu,
                region=region,
                zones=frozenset({zone, "EEA"} if zone == "EU" else {zone}),
                certifications=certifications,
                price=round(price * rng.uniform(0.8, 1.3), 4),
                gpus_per_node=each,
                free=tuple(
                    rng.choice((0, 1, 2, 3, each // 2, each)) if kind == "fragmented" else each
                    for _ in range(nodes)
                ),
            )
        )
    return FleetProblem(
        penalty=10_000.0,
        move_cost=0.2,
        pools=tuple(pools),
        endpoints=tuple(_settled(rng, order, places, pools) for order in orders),
    )


def _order(rng: random.Random, number: int) -> FleetEndpoint:
    """Draw an endpoint with every option that holds its model and its load."""
    size = rng.choices(list(MODELS), list(MODELS.values()))[0]
    load = rng.lognormvariate(0.0, 1.0) * (size / 8) ** 0.5
    options = []
    for gpu, (memory, speed, _, _) in GPUS.items():
        for gpus in (1, 2, 4, 8, 16):
            rate = speed * gpus**0.9 * (8 / size) ** 0.8
            replicas = max(1, round(load / rate + 0.49))
            if size * 1.3 <= gpus * memory * 0.9 and (gpus <= 8 or size >= 400) and replicas <= 16:
                options.append(FleetOption(gpu=gpu, gpus=gpus, replicas=replicas))
    return FleetEndpoint(
        id=f"e{number}",
        weight=rng.choice((1, 1, 1, 3)),
        residency="global",
        certifications=frozenset({rng.choice(CERTIFICATIONS)} if rng.random() < 0.2 else ()),
        current=None,
        options=tuple(options) or (FleetOption(gpu="b200_sxm", gpus=8, replicas=16),),
    )


def _settled(
    rng: random.Random, order: FleetEndpoint, places: list[tuple[str, str]], pools: list[FleetPool]
) -> FleetEndpoint:
    """Say where an endpoint may be, and of three in ten where it is."""
    region, zone = rng.choice(places)
    draw = rng.random()
    return dataclasses.replace(
        order,
        residency=f"region:{region}" if draw < 0.15 else f"zone:{zone}" if draw < 0.5 else "global",
        current=rng.choice(pools).id if rng.random() < 0.3 else None,
    )


def _first_fit(problem: FleetProblem) -> tuple[float, int]:
    """Take endpoints and pools as they come, and the first option that fits; give the objective and who is out."""
    stock, objective, unplaced = Stock(problem), 0.0, 0
    for endpoint in problem.endpoints:
        for pool, number in (
            (pool, number)
            for pool in problem.pools
            for number, option in enumerate(endpoint.options)
            if option.gpu == pool.gpu and bar(endpoint, pool) is None
        ):
            if stock.take(endpoint, pool.id, endpoint.options[number]) is not None:
                objective += cost_of(problem, endpoint, pool, endpoint.options[number])
                break
        else:
            objective += problem.penalty * endpoint.weight
            unplaced += 1
    return objective, unplaced


def _regret(problem: FleetProblem) -> tuple[float, int]:
    columns = columns_of(problem)
    draft = Draft(columns)
    place_by_regret(draft, columns.cost)
    return draft.objective, int(draft.unplaced.sum())


def _admission_ms(problem: FleetProblem) -> float:
    """Give how long it takes to admit one endpoint to a fleet of this size, on average."""
    stock = Stock(problem)
    begun = time.perf_counter()
    for endpoint in problem.endpoints[:ADMISSIONS]:
        stock.admit(endpoint)
    return (time.perf_counter() - begun) * 1000 / ADMISSIONS


def _timed(work: Callable[[], Result]) -> tuple[Result, float, float]:
    begun, busy = time.perf_counter(), time.process_time()
    return work(), time.perf_counter() - begun, time.process_time() - busy
