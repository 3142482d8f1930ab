"""What the planner answers: a status, the chosen configuration, and a reason for every other candidate."""

from __future__ import annotations

import dataclasses
import enum
from decimal import Decimal
from typing import Any

import msgspec

from clusters.planning.problem import Precision
from clusters.specs import Tuning


def price_text(amount: Decimal) -> str:
    """Write an amount of money for people: two decimals, more only where they count; no currency."""
    whole, _, decimals = f"{amount.normalize():f}".partition(".")
    return f"{whole}.{decimals:0<2}"


class PlanStatus(enum.StrEnum):
    """How a plan came out."""

    PLACED = "placed"
    NO_CAPACITY = "no_capacity"  # waiting can help: only free GPUs or a reachable cluster are wanting
    OVER_QUOTA = "over_quota"  # a larger quota would help
    POLICY = "policy"  # the owner's own policy bars it: an exception would help
    IMPOSSIBLE = "impossible"  # no pool can ever satisfy this order as it stands


class Reason(enum.StrEnum):
    """Why a candidate was not chosen, in the order in which candidates are judged."""

    RESIDENCY = "residency"
    CERTIFICATION = "certification"
    MODEL_ZONE = "model_zone"
    WEIGHTS_LOCATION = "weights_location"
    PINNED = "pinned_otherwise"  # the order itself wants another
    RUNTIME = "runtime"
    IMAGE = "image"  # the runtime's image is not pinned by digest
    DRIVER = "driver"  # the nodes' NVIDIA driver is older than the runtime's image needs
    POLICY = "policy"  # the owner's own policy bars it there, or at all
    PRECISION = "precision_unsupported_by_gpu"
    QUALITY = "quality_not_accepted"  # the precision's quality is unknown, or its note was not accepted
    NODE_SIZE = "node_size"  # more GPUs per replica than a node has
    DOMINATED = "dominated"  # another shape of as many GPUs is better in everything
    MEMORY = "memory"
    ITL = "itl"
    TTFT = "ttft"
    REPLICAS = "replicas"  # the load needs more than the order's ceiling
    POOL_SIZE = "pool_size"  # not enough even if the whole pool were free
    SPEND = "policy_spend"  # dearer than the owner's own policy allows
    QUOTA = "quota"
    CLUSTER_STATE = "cluster_state"
    CAPACITY = "capacity"
    DEARER = "dearer"  # feasible, but not the cheapest


class Relaxation(enum.StrEnum):
    """What an alternative gives up."""

    RESIDENCY = "residency"
    CERTIFICATIONS = "certifications"
    PIN = "pin"
    QUALITY = "quality"
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
class Headroom:
    """Why there are that many replicas: what the mean load needs, the busiest minute beyond it, spare ones.

    ``price_per_hour`` is of the latter two together.
    """

    for_load: int
    for_peak: int
    spare: int
    price_per_hour: Decimal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Technique:
    """One thing that makes an engine fast or small: how it is set, and why."""

    name: str
    setting: str
    why: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Configuration:
    """One deployable answer.

    ``replicas`` are what capacity, quota and cost are judged on; ``replicas_floor`` of them are what the mean
    load needs with its spare ones, ``replicas_ceiling`` the most that may run. Expected times are those
    at the declared mean load, each replica getting its share; ``answer_ms`` is a whole mean answer.
    ``tokens_per_s`` is the output that ``replicas`` can give within the targets, ``utilisation`` what of it the
    mean load takes. ``itl_error`` and ``ttft_error`` say how far those times may be off, as fractions, in 9 of
    10 cases. ``cost_per_hour`` is GPUs times their price, ``price_per_hour`` that times the class's price factor:
    what is charged. ``price_per_million_tokens`` is that per million output tokens at the declared load, None
    without load. ``nodes`` gives, for each replica, the nodes it takes as indices into the pool's ``free``.
    ``tuning`` is how its engines are to be set, ``techniques`` the same in words.
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
    ttft_p95_ms: float
    itl_ms: float
    itl_p95_ms: float
    answer_ms: float
    tokens_per_s: float
    utilisation: float
    performance_source: str
    itl_error: float
    ttft_error: float
    memory: MemoryBreakdown
    price_per_gpu_hour: Decimal
    cost_per_hour: Decimal
    price_per_hour: Decimal
    price_per_million_tokens: Decimal | None
    headroom: Headroom
    nodes: tuple[tuple[int, ...], ...]
    tuning: Tuning
    techniques: tuple[Technique, ...]
    declared: bool
    weights_cached: bool

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
    """Why one candidate was not chosen, in each of ``pools``; ``clusters`` has the cluster of each.

    ``precision``, ``tp`` and ``pp`` are None where every shape is refused. ``dearer_by_per_hour``, in price, is
    set for feasible ones only.
    """

    gpu: str
    pools: tuple[str, ...]
    clusters: tuple[str, ...]
    reason: Reason
    message: str
    precision: Precision | None = None
    tp: int | None = None
    pp: int | None = None
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
class FrontPoint:
    """One of the feasible configurations that no other beats in both price and speed of an answer."""

    pool: str
    cluster: str
    region: str
    gpu: str
    precision: Precision
    tp: int
    pp: int
    replicas: int
    price_per_hour: Decimal
    ttft_p95_ms: float
    itl_p95_ms: float
    answer_ms: float
    chosen: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class PinCost:
    """What one pin of the order costs: the price without it, and how much that is less, per hour."""

    pin: str
    value: str
    price_per_hour: Decimal
    saves_per_hour: Decimal


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContextStep:
    """The next larger context cap, and what it would cost per hour in all and beyond the plan."""

    context_tokens: int
    price_per_hour: Decimal
    extra_per_hour: Decimal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Disaggregated:
    """The chosen shape with prompts and answers on replicas of their own: computed, not deployable yet."""

    prefill_replicas: int
    decode_replicas: int
    ttft_ms: float
    itl_ms: float
    price_per_hour: Decimal
    message: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """The answer to one order. ``configuration`` is set exactly when ``status`` is placed.

    ``front`` holds the feasible configurations worth a thought, cheapest first.
    """

    status: PlanStatus
    message: str
    configuration: Configuration | None
    refusals: tuple[Refusal, ...]
    alternatives: tuple[Alternative, ...]
    front: tuple[FrontPoint, ...] = ()
    pin_costs: tuple[PinCost, ...] = ()
    next_context: ContextStep | None = None
    disaggregated: Disaggregated | None = None

    def headlines(self) -> tuple[Refusal, ...]:
        """Give one refusal for each pool that was not chosen: that of its candidate that came furthest.

        Pools with the same one share it.
        """
        stages = {reason: stage for stage, reason in enumerate(Reason)}
        best: dict[str, Refusal] = {}
        for refusal in self.refusals:
            for pool in refusal.pools:
                held = best.get(pool)
                if held is None or stages[refusal.reason] > stages[held.reason]:
                    best[pool] = refusal
        if self.configuration is not None:
            best.pop(self.configuration.pool, None)
        shared: dict[int, tuple[Refusal, dict[str, str]]] = {}
        for pool in sorted(best):
            refusal = best[pool]
            cluster = refusal.clusters[refusal.pools.index(pool)]
            shared.setdefault(id(refusal), (refusal, {}))[1][pool] = cluster
        return tuple(
            dataclasses.replace(refusal, pools=tuple(held), clusters=tuple(held.values()))
            for refusal, held in shared.values()
        )

    def to_document(self) -> dict[str, Any]:
        """Give the plan as JSON-ready builtins, with its headlines; money as decimal strings."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        document["headlines"] = msgspec.to_builtins(self.headlines())
        return document
