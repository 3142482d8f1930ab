"""What is to run and what is seen to run: the words that Berth and its clusters share. Plain Python, frozen.

Rooms that speak to clusters take these and give these; none of them sees a database row.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
from collections.abc import Mapping, Sequence
from typing import Any, Self

import msgspec

MIB, GIB = 2**20, 2**30


class WeightsKind(enum.StrEnum):
    """Where a model's weights come from."""

    BUILT_IN = "built-in"  # the runtime ships them
    PVC = "pvc"  # uri: claim/path, in the project's namespace
    OBJECT_STORE = "object-store"  # uri: s3://bucket/path, gs://… or https://host/bucket/path
    HUGGING_FACE = "hugging-face"  # uri: https://mirror/organisation/model, with a revision
    OCI_IMAGE = "oci-image"  # uri: registry/repository@sha256:…, mounted as an image volume


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weights:
    """Where an engine's weights come from, and the checkpoint's own precision.

    ``quantize`` names what a job makes of the checkpoint before it is served ("fp8", "nvfp4", "int4_awq"),
    empty where the checkpoint is served as it is.
    """

    kind: WeightsKind = WeightsKind.BUILT_IN
    uri: str = ""
    revision: str = ""
    size_gib: float = 0.0
    quantize: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tuning:
    """How an SLO class runs its engines: the row of the operators' table that a revision froze.

    Token limits count per iteration of the engine's scheduler; fractions are of the GPU's memory that is free
    after loading; times are seconds. None leaves a choice to the plan or to the engine.
    """

    max_batch_size: int | None = None  # caps the plan's
    max_num_tokens: int = 8192
    scheduler_policy: str = "GUARANTEED_NO_EVICT"  # or MAX_UTILIZATION, STATIC_BATCH
    kv_cache_fraction: float = 0.9
    kv_cache_dtype: str = "auto"  # or fp8
    kv_block_reuse: bool = True
    chunked_prefill: bool = True
    attention_backend: str = "TRTLLM"  # or FLASHINFER, VANILLA
    cuda_graphs: bool = True
    overlap_scheduler: bool = True
    stream_interval: int = 1
    drain_s: int = 60  # open streams may take this long once a pod is told to go
    load_s: int = 1800  # an engine may take this long until it is ready


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineImage:
    """The image of a runtime, pinned. ``reference`` is registry/repository:tag, ``digest`` sha256:…"""

    reference: str
    digest: str
    engine_version: str = ""  # of TensorRT-LLM, where it has one
    min_driver: str = ""  # NVIDIA driver, for instance 590.44.01

    @property
    def pinned(self) -> str:
        """The reference that names exactly one image."""
        return f"{self.reference}@{self.digest}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Placement:
    """Which nodes of the cluster: the GPU resource to ask for, the labels that nodes must carry, taints to bear.

    ``gpus_per_node`` bounds what one pod can hold; a replica that needs more spans nodes.
    """

    resource: str = "nvidia.com/gpu"
    gpus_per_node: int = 8
    node_selector: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tolerate: tuple[str, ...] = ()  # taint keys beyond nvidia.com/gpu


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scaling:
    """Bounds of a number of replicas that the cluster's autoscaler chooses.

    It aims at ``in_flight_per_replica`` requests in progress for each.
    """

    least: int
    most: int
    in_flight_per_replica: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Owner:
    """Whose a deployment is, as names for people and for namespaces; the ids are in the labels."""

    tenant: str = ""  # slug
    project: str = ""  # slug
    project_id: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeploymentSpec:
    """One revision of one endpoint as a cluster is to run it.

    ``name`` is unique in the cluster and stable for the revision; ``labels`` say whose it is
    (``tenant``, ``endpoint``, ``revision`` at least) and come back in the observation. ``secrets`` are
    environment variables for fetching weights; they are never part of a document and never compared.
    ``tool_parser`` is how its runtime reads calls of tools in answers, empty where it takes no tools.
    ``gpu_quota`` is how many GPUs of a kind the project's namespace may hold at most, None for no bound: the
    cluster's own last line, behind the quota that admission keeps.
    """

    name: str
    labels: Mapping[str, str]
    runtime: str  # "triton-python", "triton-llmapi", …
    model: str  # catalog name
    replicas: int
    gpu_type: str
    gpus_per_replica: int
    context_tokens: int
    max_output_tokens: int
    max_batch_size: int
    parameters: Mapping[str, str] = dataclasses.field(default_factory=dict)
    owner: Owner = Owner()
    slo_class: str = ""
    precision: str = "bf16"
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    expert_parallel: int = 1
    attention_dp: bool = False
    tuning: Tuning = Tuning()
    weights: Weights = Weights()
    image: EngineImage | None = None
    placement: Placement = Placement()
    scaling: Scaling | None = None  # where the cluster scales by itself; None: ``replicas`` it is
    gpu_quota: int | None = None
    tool_parser: str = ""
    secrets: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    @property
    def nodes_per_replica(self) -> int:
        """How many nodes one replica spans."""
        return max(1, -(-self.gpus_per_replica // self.placement.gpus_per_node))

    def to_document(self) -> dict[str, Any]:
        """Give the spec as JSON-ready builtins, without its secrets."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        del document["secrets"]
        return document

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_document` gave.

        Raises:
            msgspec.ValidationError: it is no such document.
        """
        return msgspec.convert(document, cls)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineContainer:
    """How a runtime's engine is started in a container, and how it is asked whether it is ready.

    ``files`` are mounted read-only under ``files_at`` (path below it: text). ``weights_at`` is where the
    weights are mounted read-only, ``cache_at`` where a writable engine cache is. ``probe_port`` answers the
    readiness path with 200 once the model serves. ``worker_command`` runs in the other nodes' pods where a
    replica spans nodes. ``shm_bytes`` counts against the container's memory.
    """

    image: str
    command: Sequence[str]
    env: Mapping[str, str]
    files: Mapping[str, str]
    files_at: str
    engine_model: str  # the name inside the engine
    protocol: str  # of ``gateway.contract.EngineProtocol``
    http_port: int
    readiness_path: str
    liveness_path: str
    weights_at: str = "/weights"
    cache_at: str = "/cache"
    metrics_port: int | None = None
    metrics_path: str = "/metrics"
    shm_bytes: int = GIB
    memory_bytes: int = 16 * GIB
    cpus: int = 4
    worker_command: Sequence[str] = ()
    jobs: Sequence[EngineJob] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineJob:
    """Work to be done once before an engine starts: fetch weights, quantize a checkpoint, build an engine.

    ``output`` is where the result lies below the cache (its name follows from everything that shapes the
    result, so that endpoints share it); ``gpus`` is 0 for what needs none. ``network`` says whether it must
    reach beyond the namespace.
    """

    kind: str  # "load", "quantize", "build"
    image: str
    command: Sequence[str]
    env: Mapping[str, str]
    output: str
    gpus: int = 0
    memory_bytes: int = 8 * GIB
    network: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class GatewaySpec:
    """One gateway as a cluster is to run it: ``replicas`` pods, a volume of ``storage_gib`` for each.

    ``name`` is the gateway's own, unique in the installation. ``control_plane_url`` is where the pods reach
    the control plane. ``token`` proves to it who they are; ``peppers`` (number: hexadecimal digits) digest
    inference keys; ``redis_url`` is where gateways of the region share their rate limits, empty for nowhere.
    ``drain_s`` is how long open streams may take once a pod is told to go.
    ``files_claim`` and ``files_secret`` name what the cluster's admin made in the namespace of gateways: a volume
    that all pods share for files and batches, and the keys under which they rest there; empty for no files.
    ``trusted_proxies`` are the networks (CIDR) of what stands in front of them and tells clients' addresses.
    """

    name: str
    region: str
    replicas: int
    image: EngineImage
    control_plane_url: str
    storage_gib: int = 10
    drain_s: int = 60
    port: int = 8080
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    token: str = dataclasses.field(default="", repr=False, compare=False)
    peppers: Mapping[int, str] = dataclasses.field(default_factory=dict, repr=False, compare=False)
    files_claim: str = ""
    files_secret: str = ""
    redis_url: str = dataclasses.field(default="", repr=False, compare=False)
    trusted_proxies: Sequence[str] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class GatewayStatus:
    """A deployed gateway as seen now: pods that are ready of those wanted, and what is wrong, for people."""

    name: str
    ready: int
    wanted: int
    message: str = ""
    pods: Sequence[str] = ()


class Phase(enum.StrEnum):
    """Where one replica stands, as the cluster shows it."""

    PENDING = "pending"  # accepted, no GPU held yet
    STARTING = "starting"  # holds its GPUs; the engine is not ready
    READY = "ready"  # the engine answers
    DRAINING = "draining"  # finishing its streams, gets no new ones
    FAILED = "failed"  # stopped and not coming back without a change; holds no GPU


class Trouble(enum.StrEnum):
    """Why a replica does not come up, where the cluster says why."""

    NONE = ""
    UNSCHEDULABLE = "Unschedulable"
    IMAGE_PULL = "ImagePull"
    WEIGHTS = "WeightsFailed"
    BUILD = "EngineBuildFailed"
    OUT_OF_MEMORY = "OutOfMemory"
    CRASH_LOOP = "CrashLoop"
    REFUSED = "AdmissionRefused"
    NODE = "NodeFault"
    GAVE_UP = "GaveUp"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReplicaMemory:
    """GPU memory of one replica in bytes, told apart; None is not available from its runtime."""

    weights: int | None = None
    kv_used: int | None = None
    kv_max: int | None = None
    other: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReplicaStatus:
    """One replica as seen now. ``replica_id`` never returns for another process or pod.

    ``gpus`` are those that it is seen to hold, None where its cluster does not tell.
    """

    replica_id: str
    index: int
    phase: Phase
    url: str | None  # where its engine answers, once it has an address
    engine_model: str
    message: str
    started_at: dt.datetime | None  # since when it holds its GPUs
    ready_at: dt.datetime | None
    restarts: int = 0
    trouble: Trouble = Trouble.NONE
    node: str = ""
    gpus: int | None = None

    @property
    def holds_gpus(self) -> bool:
        """Whether GPUs are taken by this replica now: what allocation and cost follow."""
        return self.phase in (Phase.STARTING, Phase.READY, Phase.DRAINING)

    @property
    def failing(self) -> bool:
        """Whether it will not come up as things stand, whether or not it still holds its GPUs."""
        return self.phase is Phase.FAILED or self.trouble not in (Trouble.NONE, Trouble.UNSCHEDULABLE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeploymentStatus:
    """What a cluster shows of one deployment. ``spec`` is what it was last told.

    ``drift`` names what there differs from what was told, for people; it stays empty where drift is repaired.
    """

    name: str
    labels: Mapping[str, str]
    spec: DeploymentSpec
    replicas: Sequence[ReplicaStatus]
    deleting: bool = False
    drift: Sequence[str] = ()
