"""What the planner answers: a status, the chosen configuration, and a reason for every other candidate."""

from __future__ import annotations

import dataclasses
import enum
from decimal import Decimal
from typing import Any

import msgspec

from clusters.planning.problem import Precision


def price_text(amount: Decimal) -> str:
    """Write an amount of money for people: two decimals, more only where they count; no currency."""
    whole, _, decimals = f"{amount.normalize():f}".partition(".")
    return f"{whole}.{decimals:0<2}"


class PlanStatus(enum.StrEnum):
    """How a plan came out."""

    PLACED = "placed"
    NO_CAPACITY = "no_capacity"  # waiting can help: only free GPUs or a reachable cluster are wanting
    OVER_QUOTA = "over_quota"  # a larger quota would help
    IMPOSSIBLE = "impossible"  # no pool can ever satisfy this order as it stands


class Reason(enum.StrEnum):
    """Why a candidate was not chosen, in the order in which candidates are judged."""

    RESIDENCY = "residency"
    CERTIFICATION = "certification"
    MODEL_ZONE = "model_zone"
    WEIGHTS_LOCATION = "weights_location"
    RUNTIME = "runtime"
    IMAGE = "image"  # the runtime's image is not pinned by digest
    DRIVER = "driver"  # the nodes' NVIDIA driver is older than the runtime's image needs
    PRECISION = "precision_unsupported_by_gpu"
    NODE_SIZE = "node_size"  # more GPUs per replica than a node has
    MEMORY = "memory"
    ITL = "itl"
    TTFT = "ttft"
    REPLICAS = "replicas"  # the load needs more than the order's ceiling
    POOL_SIZE = "pool_size"  # not enough even if the whole pool were free
    QUOTA = "quota"
    CLUSTER_STATE = "cluster_state"
    CAPACITY = "capacity"
    DEARER = "dearer"  # feasible, but not the cheapest


class Relaxation(enum.StrEnum):
    """What an alternative gives up."""

    RESIDENCY = "residency"
    CERTIFICATIONS = "certifications"
    QUANTIZATION = "quantization"
    SLO_CLASS = "slo_class"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemoryBreakdown:
    """GiB on each GPU. ``kv_gib`` is what the cache needs, ``kv_available_gib`` what is left for it."""

    weights_gib: float
    kv_gib: float
    activations_gib: float
    framework_gib: float
    needed_gib: float
    available_gib: float
    kv_available_gib: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Configuration:
    """One deployable answer.

    ``replicas`` run at the declared mean load; they are what capacity, quota and cost are judged
    on. The floor is what is always kept, the ceiling what the busiest minute needs. Expected
    times are means at the declared load; ``tokens_per_s`` is the output that ``replicas`` can give
    within the targets. ``cost_per_hour`` is GPUs times their price, ``price_per_hour`` that times
    the class's price factor: what is charged. ``price_per_million_tokens`` is that per million output
    tokens at the declared load, None without load. ``nodes`` gives each replica's node as an index into the
    pool's ``free``.
    """

    pool: str
    cluster: str
    region: str
    gpu: str
    runtime: str
    precision: Precision
    tp: int
    pp: int
    replicas: int
    replicas_floor: int
    replicas_ceiling: int
    max_batch_size: int
    ttft_ms: float
    itl_ms: float
    tokens_per_s: float
    utilisation: float
    performance_source: str
    memory: MemoryBreakdown
    price_per_gpu_hour: Decimal
    cost_per_hour: Decimal
    price_per_hour: Decimal
    price_per_million_tokens: Decimal | None
    nodes: tuple[int, ...]
    declared: bool

    @property
    def gpus_per_replica(self) -> int:
        """GPUs that one replica holds."""
        return self.tp * self.pp

    @property
    def gpus(self) -> int:
        """GPUs that ``replicas`` hold."""
        return self.gpus_per_replica * self.replicas


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why one candidate was not chosen. ``dearer_by_per_hour``, in price, is set for feasible ones only."""

    pool: str
    cluster: str
    gpu: str
    precision: Precision
    tp: int
    pp: int
    reason: Reason
    message: str
    memory: MemoryBreakdown | None = None
    dearer_by_per_hour: Decimal | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Alternative:
    """What could be had at once if the order gave up one demand; ``value`` is the demand's new value."""

    relaxation: Relaxation
    value: str
    message: str
    configuration: Configuration


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """The answer to one order. ``configuration`` is set exactly when ``status`` is placed."""

    status: PlanStatus
    message: str
    configuration: Configuration | None
    refusals: tuple[Refusal, ...]
    alternatives: tuple[Alternative, ...]

    def headlines(self) -> tuple[Refusal, ...]:
        """Give one refusal for each pool that was not chosen: that of its candidate that came furthest."""
        stages = {reason: stage for stage, reason in enumerate(Reason)}
        best: dict[str, Refusal] = {}
        for refusal in self.refusals:
            held = best.get(refusal.pool)
            if held is None or stages[refusal.reason] > stages[held.reason]:
                best[refusal.pool] = refusal
        if self.configuration is not None:
            best.pop(self.configuration.pool, None)
        return tuple(best[pool] for pool in sorted(best))

    def to_document(self) -> dict[str, Any]:
        """Give the plan as JSON-ready builtins, with its headlines; money as decimal strings."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        document["headlines"] = msgspec.to_builtins(self.headlines())
        return document
