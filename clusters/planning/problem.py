"""What the planner is asked: the order, the model, the class, the pools and the quota, all frozen.

Sizes are GiB (2**30 bytes), bandwidths GB/s (10**9 bytes), compute TFLOPS (dense), times
milliseconds, money :class:`~decimal.Decimal` in the platform's one currency.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping
from decimal import Decimal

from clusters.planning.architecture import Architecture
from clusters.specs import Tuning


class ProblemError(ValueError):
    """A problem that contradicts itself; ``field`` names the part of the order to change."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class Precision(enum.StrEnum):
    """How weights are stored."""

    BF16 = "bf16"
    FP8 = "fp8"
    INT4 = "int4"  # weights only; multiplied in bf16
    NVFP4 = "nvfp4"


class PoolState(enum.StrEnum):
    """Whether a pool's cluster takes new work."""

    ACTIVE = "active"
    CORDONED = "cordoned"
    UNREACHABLE = "unreachable"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quality:
    """What is known of a model's answers in a precision that is not its own."""

    note: str
    needs_approval: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A catalog model as it may be ordered. ``zones`` are where its licence lets it run, None anywhere.

    ``runtimes`` and ``precisions`` are in order of preference. Precisions that ``made`` lists are not the
    checkpoint's own: they are offered with the note that ``quality`` holds, and not at all without one. Weights
    that are ``weights_local`` lie in the cluster that serves them; others, of ``weights_gib``, are fetched from a
    place in ``weights_zones`` (zones and regions), which is empty when nobody knows where that is.
    """

    name: str
    architecture: Architecture
    context_limit: int
    precisions: tuple[Precision, ...]
    runtimes: tuple[str, ...]
    zones: frozenset[str] | None = None
    licence: str = ""
    weights_zones: frozenset[str] = frozenset()
    weights_local: bool = True
    weights_gib: float = 0.0
    made: frozenset[Precision] = frozenset()
    quality: Mapping[Precision, Quality] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.context_limit < 1:
            raise ProblemError("model.context_limit", f"{self.name} takes no context")
        if not self.precisions:
            raise ProblemError("model.precisions", f"{self.name} is offered in no precision")


@dataclasses.dataclass(frozen=True, kw_only=True)
class GpuSpec:
    """One GPU type. ``reserved_gib`` is what context, runtime and communication buffers take of it.

    A precision a GPU cannot compute in has 0 TFLOPS. ``intra_node_gbs`` and ``inter_node_gbs``
    are one GPU's bandwidth in one direction to its peers in the node and beyond. ``slice_of`` names the whole
    GPU that this is a part of; parts have no way to each other and serve no model together.
    """

    name: str
    memory_gib: float
    bandwidth_gbs: float
    bandwidth_efficiency: float
    bf16_tflops: float
    fp8_tflops: float
    fp4_tflops: float
    intra_node_gbs: float
    inter_node_gbs: float
    gpus_per_node: int
    reserved_gib: float
    power_w: int = 0
    slice_of: str = ""

    def tflops(self, precision: Precision) -> float:
        """Dense TFLOPS at which weights of ``precision`` are multiplied; 0 where the GPU cannot."""
        match precision:
            case Precision.FP8:
                return self.fp8_tflops
            case Precision.NVFP4:
                return self.fp4_tflops
            case _:
                return self.bf16_tflops


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pool:
    """GPUs of one type in one cluster. ``free`` counts the free GPUs of each node.

    ``driver_version`` is the NVIDIA driver of its nodes, empty when unknown; ``min_drivers`` is the oldest one
    that each runtime's image runs with, ``unpinned`` the runtimes whose image nobody has pinned by digest.
    ``domains`` names each node's failure domain (a rack, a zone), every node its own where empty. ``cached`` are
    models whose weights lie there already. ``spans_nodes`` says whether a replica may take several whole nodes.
    """

    id: str
    cluster: str
    region: str
    zones: frozenset[str]
    gpu: GpuSpec
    gpus_per_node: int
    free: tuple[int, ...]
    price_per_gpu_hour: Decimal
    runtimes: frozenset[str]
    certifications: frozenset[str] = frozenset()
    driver: str = "kubernetes"
    state: PoolState = PoolState.ACTIVE
    declared: bool = False  # its GPUs are stated, not physical
    driver_version: str = ""
    min_drivers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unpinned: frozenset[str] = frozenset()
    domains: tuple[str, ...] = ()
    cached: frozenset[str] = frozenset()
    spans_nodes: bool = False

    def __post_init__(self) -> None:
        if self.domains and len(self.domains) != len(self.free):
            raise ProblemError("pools", f"pool {self.id}: give the failure domain of every node, or of none")
        if self.gpus_per_node < 1:
            raise ProblemError("pools", f"pool {self.id}: a node has at least one GPU")
        if any(not 0 <= free <= self.gpus_per_node for free in self.free):
            raise ProblemError("pools", f"pool {self.id}: free per node must be 0 to {self.gpus_per_node}")
        if self.price_per_gpu_hour < 0:
            raise ProblemError("pools", f"pool {self.id}: a price cannot be negative")

    @property
    def free_gpus(self) -> int:
        """Free GPUs over all nodes, however scattered."""
        return sum(self.free)

    @property
    def total_gpus(self) -> int:
        """GPUs over all nodes, free or not."""
        return len(self.free) * self.gpus_per_node


@dataclasses.dataclass(frozen=True, kw_only=True)
class SloTargets:
    """What an SLO class promises. ``availability`` is in percent; None is no latency target.

    ``spare_replicas`` run beyond what the load needs, so that a lost one is not missed, and in failure domains of
    their own where there are any.
    """

    name: str
    ttft_p95_ms: float | None
    itl_p95_ms: float | None
    availability: Decimal
    price_factor: Decimal = Decimal(1)
    spare_replicas: int = 0

    @property
    def is_latency_bound(self) -> bool:
        """Whether someone waits for the answer: such classes keep room for bursts."""
        return self.ttft_p95_ms is not None or self.itl_p95_ms is not None


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadProfile:
    """The shape of an order's load: mean rate, mean lengths and their spread.

    ``burstiness`` is the busiest minute's rate over the mean rate; 1 is steady. ``input_cv`` and ``output_cv``
    are coefficients of variation: standard deviation over mean. ``prefix_share`` of the input tokens are found
    in a cache because other requests began with them.
    """

    requests_per_second: float
    input_tokens: int
    output_tokens: int
    burstiness: float = 1.0
    input_cv: float = 1.0
    output_cv: float = 1.0
    prefix_share: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.requests_per_second < math.inf:
            raise ProblemError("requests_per_second", "the request rate must be 0 or more")
        if self.input_tokens < 1 or self.output_tokens < 1:
            raise ProblemError("profile", "a request has at least one input and one output token")
        if not 1 <= self.burstiness < math.inf:
            raise ProblemError("burstiness", "burstiness is peak over mean rate and at least 1")
        for name in ("input_cv", "output_cv"):
            if not 0 <= getattr(self, name) <= 10:
                raise ProblemError(name, "a coefficient of variation is 0 (always the same) to 10")
        if not 0 <= self.prefix_share < 1:
            raise ProblemError("prefix_share", "the shared part of a prompt is 0 up to, not including, 1")

    @property
    def tokens_per_request(self) -> int:
        """Input and output tokens of a mean request."""
        return self.input_tokens + self.output_tokens

    @property
    def output_tokens_per_s(self) -> float:
        """Output tokens per second that the mean load asks for."""
        return self.requests_per_second * self.output_tokens

    @property
    def fresh_tokens(self) -> float:
        """Input tokens of a mean request that no cache holds."""
        return self.input_tokens * (1 - self.prefix_share)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pins:
    """What an order leaves no choice in; None where the planner chooses."""

    gpu: str | None = None
    cluster: str | None = None
    precision: Precision | None = None
    tp: int | None = None
    pp: int | None = None
    max_batch_size: int | None = None

    def set(self) -> dict[str, str]:
        """Give the pins that are set, as text by name."""
        named = ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
        return {name: str(value) for name, value in named if value is not None}


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnerPolicy:
    """What an order's owner lets itself use, whatever the order asks for; ``says`` names the policy.

    A place must be in one of ``zones`` (zones or regions) of each set, and hold ``certifications``. None of models,
    licences and classes is any. ``most_per_hour`` caps the price, for the reason that ``most_says`` gives.
    """

    says: str
    zones: tuple[frozenset[str], ...] = ()
    certifications: frozenset[str] = frozenset()
    models: frozenset[str] | None = None
    licences: frozenset[str] | None = None
    classes: frozenset[str] | None = None
    most_per_hour: Decimal | None = None
    most_says: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
    """Model x SLO class x residency, with the load it is for.

    ``residency`` is ``region:R``, ``zone:Z`` or ``global``. ``near`` is a region or zone code that is preferred
    where it does not cost much more. ``context_tokens`` caps a request with its answer, ``output_limit`` the
    answer; None is what the context leaves. ``approved`` are precisions whose quality note was accepted.
    Replica bounds are None where the planner may choose. ``tuning`` is how the class runs its engines, ``policy``
    what its owner lets itself use.

    Raises:
        ProblemError: the parts contradict each other.
    """

    model: ModelSpec
    slo: SloTargets
    residency: str
    profile: LoadProfile
    context_tokens: int
    output_limit: int | None = None
    certifications: frozenset[str] = frozenset()
    near: str = ""
    replicas_floor: int | None = None
    replicas_ceiling: int | None = None
    pins: Pins = Pins()
    approved: frozenset[Precision] = frozenset()
    tuning: Tuning = dataclasses.field(default_factory=Tuning)
    policy: OwnerPolicy | None = None

    def __post_init__(self) -> None:
        model = self.model
        if not 1 <= self.context_tokens <= model.context_limit:
            raise ProblemError(
                "context_tokens",
                f"{model.name} takes 1 to {model.context_limit} tokens of context, not {self.context_tokens}",
            )
        if self.output_limit is not None and not 1 <= self.output_limit <= self.context_tokens:
            raise ProblemError(
                "output_limit",
                f"an answer has 1 to {self.context_tokens} tokens, as many as the context, not {self.output_limit}",
            )
        if self.profile.tokens_per_request > self.context_tokens:
            raise ProblemError(
                "profile",
                f"a mean request of {self.profile.tokens_per_request} tokens does not fit into "
                f"{self.context_tokens} tokens of context",
            )
        if self.replicas_floor is not None and self.replicas_floor < 0:
            raise ProblemError("replicas_floor", "the floor of replicas must be 0 or more")
        if self.replicas_ceiling is not None and self.replicas_ceiling < max(1, self.replicas_floor or 0):
            raise ProblemError("replicas_ceiling", "the ceiling of replicas must be at least 1 and the floor")
        self._check_pins()

    def _check_pins(self) -> None:
        pins, model = self.pins, self.model
        if pins.precision is not None and pins.precision not in model.precisions:
            offered = ", ".join(model.precisions)
            raise ProblemError(
                "precision", f"{model.name} is not offered in {pins.precision}, only in {offered}"
            )
        for name in ("tp", "pp", "max_batch_size"):
            value = getattr(pins, name)
            if value is not None and value < 1:
                raise ProblemError(name, f"{name} must be at least 1, not {value}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuotaState:
    """What a tenant may hold and already holds, without the order in question; None is no limit.

    ``type_limits`` and ``types_used`` are by GPU type; a type without a limit has none of its own.
    """

    gpu_limit: int | None = None
    gpus_used: int = 0
    type_limits: Mapping[str, int] = dataclasses.field(default_factory=dict)
    types_used: Mapping[str, int] = dataclasses.field(default_factory=dict)
    endpoint_limit: int | None = None
    endpoints_used: int = 0
