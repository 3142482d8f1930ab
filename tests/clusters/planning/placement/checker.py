"""An independent judge of fleet plans: reads problem and plan as JSON has them, and shares no code with the solver."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

Document = Mapping[str, Any]


def judge(problem: Document, plan: Document) -> tuple[float, list[str]]:
    """Give what the plan counts and everything in it that breaks a rule."""
    pools = {pool["id"]: pool for pool in problem["pools"]}
    endpoints = {endpoint["id"]: endpoint for endpoint in problem["endpoints"]}
    faults: list[str] = []
    used: defaultdict[str, Counter[int]] = defaultdict(Counter)
    quotas: Counter[str] = Counter()
    objective = 0.0
    for assignment in plan["assignments"]:
        endpoint, pool = endpoints[assignment["endpoint"]], pools[assignment["pool"]]
        option = endpoint["options"][assignment["option"]]
        name = f"{endpoint['id']} in {pool['id']}"
        faults += [f"{name}: {fault}" for fault in _rules_broken(endpoint, pool, option)]
        faults += [
            f"{name}: {fault}" for fault in _nodes_wrong(endpoint, pool, option, assignment["replicas"])
        ]
        spanning = option["gpus"] > pool["gpus_per_node"]
        for node in (node for replica in assignment["replicas"] for node in replica):
            used[pool["id"]][node] += pool["gpus_per_node"] if spanning else option["gpus"]
        if endpoint.get("quota"):
            quotas[endpoint["quota"]] += option["gpus"] * option["replicas"]
        objective += _cost(problem, endpoint, pool, option)
    for pool_id, nodes in used.items():
        free = pools[pool_id]["free"]
        faults += [f"{pool_id}: node {node} overfull" for node, gpus in nodes.items() if gpus > free[node]]
    for quota in problem.get("quotas", ()):
        if quotas[quota["id"]] > quota["gpus"]:
            faults.append(f"quota {quota['id']} exceeded")
    told = Counter(
        [each["endpoint"] for each in plan["assignments"]] + [each["endpoint"] for each in plan["unplaced"]]
    )
    if told != Counter(list(endpoints)):
        faults.append("an endpoint is missing, unknown or there twice")
    for unplaced in plan["unplaced"]:
        objective += problem["penalty"] * endpoints[unplaced["endpoint"]]["weight"]
        if not unplaced["reason"]:
            faults.append(f"{unplaced['endpoint']}: no reason")
    if not math.isclose(objective, plan["objective"], rel_tol=1e-9, abs_tol=1e-9):
        faults.append(f"objective is {objective}, not {plan['objective']}")
    if plan["bound"] > plan["objective"] + 1e-9 * abs(plan["objective"]):
        faults.append("the bound is above the objective")
    return objective, faults


def _is_in(place: str, pool: Document) -> bool:
    kind, _, name = place.partition(":")
    return place == "global" or (
        pool["region"] == name if kind == "region" else kind == "zone" and name in pool["zones"]
    )


def _rules_broken(endpoint: Document, pool: Document, option: Document) -> Iterator[str]:
    if option["gpu"] != pool["gpu"]:
        yield "wrong GPU type"
    if not _is_in(endpoint["residency"], pool):
        yield "residency"
    if not set(endpoint["certifications"]) <= set(pool["certifications"]):
        yield "certifications"
    if not set(pool.get("taints", ())) <= set(endpoint.get("tolerations", ())):
        yield "taints"
    if endpoint.get("pinned") and pool["id"] != endpoint["current"]:
        yield "pinned elsewhere"


def _nodes_wrong(
    endpoint: Document, pool: Document, option: Document, replicas: list[list[int]]
) -> Iterator[str]:
    whole = math.ceil(option["gpus"] / pool["gpus_per_node"])
    if len(replicas) != option["replicas"]:
        yield "wrong number of replicas"
    for nodes in replicas:
        if len(set(nodes)) != whole or len(nodes) != whole:
            yield f"a replica on nodes {nodes}, not on {whole}"
        if whole > 1 and any(pool["free"][node] != pool["gpus_per_node"] for node in nodes):
            yield f"a replica spans nodes {nodes} that are not wholly free"
    spread = endpoint.get("spread", 1)
    if spread > 1:
        names = pool.get("domains") or range(len(pool["free"]))
        domains = [{names[node] for node in nodes} for nodes in replicas]
        if any(len(each) > 1 for each in domains):
            yield "a replica lies in several domains"
        if len(set().union(*domains)) < spread:
            yield f"{len(set().union(*domains))} domains, not {spread}"


def _cost(problem: Document, endpoint: Document, pool: Document, option: Document) -> float:
    gpus = option["gpus"] * option["replicas"]
    cost = pool["price"] * gpus
    if endpoint["current"] and endpoint["current"] != pool["id"]:
        cost += problem["move_cost"] * gpus
    if endpoint.get("near") and not _is_in(endpoint["near"], pool):
        cost += endpoint["near_penalty"] * gpus
    if pool["id"] not in {endpoint["current"], *endpoint.get("cached", ())}:
        cost += endpoint.get("load_cost", 0.0)
    return float(cost)
