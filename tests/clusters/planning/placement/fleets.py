"""Small fleets for the tests, as the documents that the command reads."""

from __future__ import annotations

import random
from typing import Any

import msgspec
from hypothesis import strategies as st

from clusters.planning.placement.documents import plan_to_json, problem_from_json
from clusters.planning.placement.fleet import FleetPlan, FleetProblem
from clusters.planning.placement.solve import solve

Document = dict[str, Any]

PLACES = (("de", ["EU", "EEA"]), ("fr", ["EU", "EEA"]), ("uk", ["UK"]))
CERTIFICATIONS = ("C5", "ISO27001")


def pool(name: str = "c0/h100", **given: Any) -> Document:
    """Make a pool of two free nodes in Germany."""
    return {
        "id": name,
        "cluster": name.split("/")[0],
        "gpu": "h100",
        "region": "de",
        "zones": ["EU", "EEA"],
        "certifications": ["C5"],
        "price": 2.0,
        "gpus_per_node": 8,
        "free": [8, 8],
        **given,
    }


def endpoint(name: str = "e0", *, gpus: int = 1, replicas: int = 1, **given: Any) -> Document:
    """Make an endpoint with one option, which may be anywhere."""
    return {
        "id": name,
        "weight": 1,
        "residency": "global",
        "certifications": [],
        "current": None,
        "options": [{"gpu": "h100", "gpus": gpus, "replicas": replicas}],
        **given,
    }


def fleet(pools: list[Document], endpoints: list[Document], **given: Any) -> Document:
    """Make a problem."""
    return {"penalty": 1000.0, "move_cost": 0.2, "pools": pools, "endpoints": endpoints, **given}


def problem_of(document: Document) -> FleetProblem:
    """Read a document as the command does."""
    return problem_from_json(msgspec.json.encode(document))


def solved(document: Document, limit_s: float = 30.0) -> FleetPlan:
    """Solve a document."""
    return solve(problem_of(document), limit_s)


def written(plan: FleetPlan) -> Document:
    """Write a plan as the command does."""
    document: Document = msgspec.json.decode(plan_to_json(plan))
    return document


@st.composite
def fleets(draw: st.DrawFn, *, soft: bool = True, sizes: tuple[int, ...] = (1, 2, 4, 8, 16)) -> Document:
    """Draw a fleet of few endpoints; ``soft`` adds what the file format leaves out by default."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    pools = []
    for number in range(draw(st.integers(1, 3))):
        region, zones = rng.choice(PLACES)
        per_node = rng.choice([4, 8])
        free = [rng.choice([0, 1, 2, 3, per_node // 2, per_node]) for _ in range(rng.randint(1, 3))]
        made = pool(
            f"c{number}/x",
            gpu=rng.choice(["h100", "b200"]),
            region=region,
            zones=zones,
            certifications=[name for name in CERTIFICATIONS if rng.random() < 0.6],
            price=round(rng.uniform(0.5, 6.0), 2),
            gpus_per_node=per_node,
            free=free,
        )
        if soft:
            made["taints"] = ["edge"] if rng.random() < 0.2 else []
            made["domains"] = [rng.choice("ab") for _ in free] if rng.random() < 0.5 else []
        pools.append(made)
    endpoints = []
    for number in range(draw(st.integers(1, 4))):
        region, zones = rng.choice(PLACES)
        made = endpoint(
            f"e{number}",
            weight=rng.choice([1, 1, 3]),
            residency=rng.choice(["global", "global", f"region:{region}", f"zone:{zones[0]}"]),
            certifications=[rng.choice(CERTIFICATIONS)] if rng.random() < 0.2 else [],
            current=rng.choice(pools)["id"] if rng.random() < 0.4 else None,
            options=[
                {
                    "gpu": rng.choice(["h100", "b200"]),
                    "gpus": rng.choice(sizes),
                    "replicas": rng.choice([1, 1, 2, 3]),
                }
                for _ in range(rng.randint(1, 2))
            ],
        )
        if soft:
            made |= _softened(rng, made, [each["id"] for each in pools])
        endpoints.append(made)
    quotas = [{"id": "q", "gpus": rng.randint(0, 12)}] if soft else []
    return fleet(pools, endpoints, penalty=rng.choice([3.0, 50.0, 1000.0]), quotas=quotas)


def _softened(rng: random.Random, made: Document, pools: list[str]) -> Document:
    return {
        "tolerations": ["edge"] if rng.random() < 0.3 else [],
        "near": rng.choice([None, "region:de", "zone:EU"]),
        "near_penalty": rng.choice([0.0, 0.7]),
        "cached": [name for name in pools if rng.random() < 0.3],
        "load_cost": rng.choice([0.0, 2.5]),
        "spread": rng.choice([1, 1, 2]),
        "quota": "q" if rng.random() < 0.3 else None,
        "pinned": made["current"] is not None and rng.random() < 0.3,
    }
