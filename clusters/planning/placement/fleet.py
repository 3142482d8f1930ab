"""The fleet to place and where it is placed, all frozen. Money is $ per hour, the same currency throughout."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Collection, Sequence

from clusters.planning.problem import ProblemError
from clusters.planning.residency import residency_allows

#: No node, replica or count is larger: a larger number is a slip of the pen, not a fleet.
MOST_GPUS_PER_NODE = 1024
MOST_GPUS_PER_REPLICA = 1_000_000
MOST_REPLICAS = 100_000


class PlacementStatus(enum.StrEnum):
    """How a search ended: proven best, ended by itself, or stopped by its time limit."""

    OPTIMAL = "optimal"
    FEASIBLE = "feasible"
    LIMIT = "limit"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FleetPool:
    """The GPUs of one type in one cluster: ``free`` of them on each node, at ``price`` per GPU-hour.

    ``domains`` names each node's failure domain; without them each node is one of its own. Endpoints that do
    not tolerate all of ``taints`` stay out.
    """

    id: str
    cluster: str
    gpu: str
    region: str
    zones: frozenset[str]
    certifications: frozenset[str]
    price: float
    gpus_per_node: int
    free: tuple[int, ...]
    taints: frozenset[str] = frozenset()
    domains: tuple[str, ...] = ()

    def nodes_of_replica(self, gpus: int) -> int:
        """Give how many nodes a replica takes; more than one must be wholly free."""
        return -(-gpus // self.gpus_per_node)

    def domain(self, node: int) -> str:
        """Name the failure domain of a node."""
        return self.domains[node] if self.domains else f"node {node}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FleetOption:
    """One way to serve an endpoint: so many replicas of so many GPUs of one type."""

    gpu: str
    gpus: int
    replicas: int

    @property
    def total(self) -> int:
        """GPUs of all replicas."""
        return self.gpus * self.replicas


@dataclasses.dataclass(frozen=True, kw_only=True)
class FleetEndpoint:
    """An endpoint to place with one of its options, all replicas in one pool.

    It pays ``move_cost`` of the problem where it leaves ``current``, ``near_penalty`` per GPU outside ``near``
    (``region:R`` or ``zone:Z``), and ``load_cost`` once where its weights are not there: neither its current pool
    nor one of ``cached``. Its replicas lie in at least ``spread`` failure domains; where that is more than one, a
    replica over several nodes stays in one domain. A ``pinned`` endpoint stays in its current pool or goes
    unplaced. Its GPUs count against the limit of ``quota``.
    """

    id: str
    weight: float
    residency: str
    certifications: frozenset[str]
    current: str | None
    options: tuple[FleetOption, ...]
    tolerations: frozenset[str] = frozenset()
    near: str | None = None
    near_penalty: float = 0.0
    cached: frozenset[str] = frozenset()
    load_cost: float = 0.0
    spread: int = 1
    quota: str | None = None
    pinned: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class FleetQuota:
    """How many GPUs the endpoints that name it may have together."""

    id: str
    gpus: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class FleetProblem:
    """Endpoints, the pools they may go to, and what it counts to leave one unplaced or to move one.

    ``penalty`` counts for an unplaced endpoint times its weight, ``move_cost`` for each GPU of one that does not
    stay in its current pool.

    Raises:
        ProblemError: the parts contradict each other or a number is out of range.
    """

    penalty: float
    move_cost: float
    pools: tuple[FleetPool, ...]
    endpoints: tuple[FleetEndpoint, ...]
    quotas: tuple[FleetQuota, ...] = ()

    def __post_init__(self) -> None:
        _require_amount("penalty", self.penalty)
        _require_amount("move_cost", self.move_cost)
        _require_distinct("pools", [pool.id for pool in self.pools])
        _require_distinct("endpoints", [endpoint.id for endpoint in self.endpoints])
        _require_distinct("quotas", [quota.id for quota in self.quotas])
        for pool in self.pools:
            _check_pool(pool)
        quotas = {quota.id for quota in self.quotas}
        for quota in self.quotas:
            if quota.gpus < 0:
                raise ProblemError("quotas", f"quota {quota.id}: gpus is {quota.gpus}, not at least 0")
        for endpoint in self.endpoints:
            _check_endpoint(endpoint, quotas)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Assignment:
    """Where an endpoint goes: the pool, the index of its option, and each replica's nodes by index."""

    endpoint: str
    pool: str
    option: int
    replicas: tuple[tuple[int, ...], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unplaced:
    """An endpoint without a place, and why in words."""

    endpoint: str
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class FleetPlan:
    """A placement. No placement at all has an objective below ``bound``."""

    status: PlacementStatus
    objective: float
    bound: float
    seconds: float
    assignments: tuple[Assignment, ...]
    unplaced: tuple[Unplaced, ...]

    @property
    def gap(self) -> float:
        """How far the objective is above the bound, in parts of the bound; 0 where both are 0."""
        distance = self.objective - self.bound
        if distance <= 0:
            return 0.0
        return distance / self.bound if self.bound > 0 else math.inf


def bar(endpoint: FleetEndpoint, pool: FleetPool) -> str | None:
    """Name what keeps an endpoint out of a pool whatever is free there; None where nothing does."""
    if endpoint.pinned and pool.id != endpoint.current:
        return "pin"
    if not residency_allows(endpoint.residency, pool.region, pool.zones):
        return "residency"
    if not endpoint.certifications <= pool.certifications:
        return "certifications"
    if not pool.taints <= endpoint.tolerations:
        return "taints"
    return None


def cost_of(problem: FleetProblem, endpoint: FleetEndpoint, pool: FleetPool, option: FleetOption) -> float:
    """Give what a placement counts as per hour."""
    per_gpu, once = rates(problem, endpoint, pool)
    return per_gpu * option.total + once


def rates(problem: FleetProblem, endpoint: FleetEndpoint, pool: FleetPool) -> tuple[float, float]:
    """Give what an endpoint counts in a pool for each of its GPUs, and once."""
    moves = endpoint.current is not None and endpoint.current != pool.id
    far = endpoint.near is not None and not residency_allows(endpoint.near, pool.region, pool.zones)
    loads = endpoint.current != pool.id and pool.id not in endpoint.cached
    per_gpu = pool.price + (problem.move_cost if moves else 0.0) + (endpoint.near_penalty if far else 0.0)
    return per_gpu, endpoint.load_cost if loads else 0.0


def _check_pool(pool: FleetPool) -> None:
    def fail(problem: str) -> ProblemError:
        return ProblemError("pools", f"pool {pool.id}: {problem}")

    if not 1 <= pool.gpus_per_node <= MOST_GPUS_PER_NODE:
        raise fail(f"gpus_per_node is {pool.gpus_per_node}, not 1 to {MOST_GPUS_PER_NODE}")
    if not _is_amount(pool.price):
        raise fail(f"price is {pool.price}, not a number of at least 0")
    if pool.free and not (min(pool.free) >= 0 and max(pool.free) <= pool.gpus_per_node):
        node = next(n for n, free in enumerate(pool.free) if not 0 <= free <= pool.gpus_per_node)
        raise fail(f"free[{node}] is {pool.free[node]}, not 0 to {pool.gpus_per_node} as gpus_per_node says")
    if pool.domains and len(pool.domains) != len(pool.free):
        raise fail(f"{len(pool.domains)} domains for {len(pool.free)} nodes")


def _check_endpoint(endpoint: FleetEndpoint, quotas: Collection[str]) -> None:
    def fail(problem: str) -> ProblemError:
        return ProblemError("endpoints", f"endpoint {endpoint.id}: {problem}")

    for name, amount in (
        ("weight", endpoint.weight),
        ("near_penalty", endpoint.near_penalty),
        ("load_cost", endpoint.load_cost),
    ):
        if not _is_amount(amount):
            raise fail(f"{name} is {amount}, not a number of at least 0")
    for name, place in (("residency", endpoint.residency), ("near", endpoint.near)):
        if place is not None and not _is_place(place):
            raise fail(f"{name} is {place!r}, not global, region:R or zone:Z")
    if not 1 <= endpoint.spread <= MOST_REPLICAS:
        raise fail(f"spread is {endpoint.spread}, not 1 to {MOST_REPLICAS}")
    if endpoint.quota is not None and endpoint.quota not in quotas:
        raise fail(f"quota {endpoint.quota} is not among the quotas")
    if endpoint.pinned and endpoint.current is None:
        raise fail("pinned without a current pool")
    for number, option in enumerate(endpoint.options):
        if not 1 <= option.gpus <= MOST_GPUS_PER_REPLICA:
            raise fail(f"options[{number}].gpus is {option.gpus}, not 1 to {MOST_GPUS_PER_REPLICA}")
        if not 1 <= option.replicas <= MOST_REPLICAS:
            raise fail(f"options[{number}].replicas is {option.replicas}, not 1 to {MOST_REPLICAS}")


def _require_amount(field: str, amount: float) -> None:
    if not _is_amount(amount):
        raise ProblemError(field, f"is {amount}, not a number of at least 0")


def _require_distinct(field: str, names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ProblemError(field, f"{twice} is there twice")


def _is_amount(amount: float) -> bool:
    return 0 <= amount < 1e15


def _is_place(place: str) -> bool:
    kind, _, name = place.partition(":")
    return place == "global" or (kind in {"region", "zone"} and bool(name))
