"""The wire contract between the control plane and its gateways.

Three messages cross it, all JSON: a :class:`Snapshot` flows down by long poll; batches of
:class:`UsageSegment` and :class:`ReplicaReports` flow up. Both sides import this module and nothing else of each other.

Times are UTC. Token counts are integers as the engine reported them. Prices are decimal strings
in the snapshot's currency per one million tokens. Durations are seconds as floats.
"""

from __future__ import annotations

import datetime as dt
import enum
import hashlib
from typing import Final

import msgspec

SCHEMA: Final = 2

SNAPSHOT_PATH: Final = "/api/gateway/v1/snapshot"
USAGE_PATH: Final = "/api/gateway/v1/usage"
REPLICAS_PATH: Final = "/api/gateway/v1/replicas"

#: What a gateway passes on of a replica's Prometheus text: the lines of metrics that begin so.
REPORTED_METRICS: Final = (
    "nv_gpu_memory_",
    "nv_trt_llm_kv_cache_block_metrics",
    "nv_trt_llm_runtime_memory_metrics",
    "trtllm_kv_cache_",
    "trtllm_gpu_memory_",
    "berth_",
)
MOST_REPORTED_BYTES: Final = 16 * 1024  # of one replica
MOST_REPORTS: Final = 100  # in one message

#: Upper bounds in milliseconds of the histogram of times to first token; one more bucket holds what is above.
LATENCY_BOUNDS_MS: Final = (
    5, 10, 20, 40, 60, 80, 100, 150, 200, 300, 400, 500, 750,
    1_000, 1_500, 2_000, 3_000, 5_000, 10_000, 30_000, 60_000,
)  # fmt: skip
#: The same of times between tokens, finest where the targets of classes are.
ITL_BOUNDS_MS: Final = (
    2, 4, 6, 8, 10, 12.5, 15, 20, 25, 30, 40, 50, 65, 80, 100, 130, 160, 200, 300, 500, 1_000,
)  # fmt: skip


class Outcome(enum.StrEnum):
    """How one request ended."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"  # the client left before the last byte
    FAILED = "failed"  # the engine failed or could not be reached
    REFUSED = "refused"  # turned away before any engine was asked


class EngineProtocol(enum.StrEnum):
    """How an engine is spoken to; one adapter each in ``gateway.engines``."""

    TRITON_GENERATE = "triton-generate"
    OPENAI_HTTP = "openai-http"


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all messages: immutable, keyword-only, strict about unknown fields."""


class Key(Message, frozen=True):
    """An inference key. ``digest`` is HMAC-SHA256 (hex) of the whole key under pepper ``pepper_id``.

    Peppers reach both sides by environment, never by this contract.
    """

    key_id: str
    pepper_id: int
    digest: str
    tenant_id: str
    project_id: str
    name: str
    expires_at: dt.datetime | None = None


class Replica(Message, frozen=True):
    """One running engine that may be given requests.

    ``metrics_url`` is where it shows its Prometheus text, empty where it shows none.
    """

    replica_id: str
    url: str
    protocol: EngineProtocol
    engine_model: str  # the name inside the engine, for Triton the model of its repository
    region: str
    zones: tuple[str, ...] = ()
    metrics_url: str = ""


class Route(Message, frozen=True):
    """The replicas of one revision and the weight of traffic it is to get (0 = none)."""

    revision_id: str
    weight: int
    replicas: tuple[Replica, ...]


class Timeouts(Message, frozen=True):
    """Seconds a request may wait for each thing, and how often it is tried before the first byte."""

    connect_s: float = 2.0
    first_token_s: float = 30.0
    between_tokens_s: float = 15.0
    total_s: float = 300.0
    attempts: int = 2


class TokenPrices(Message, frozen=True):
    """Decimal strings per one million tokens."""

    currency: str
    input: str
    output: str
    cached: str


class Endpoint(Message, frozen=True):
    """A model endpoint as its clients know it: ``name`` is what they send as ``model``."""

    endpoint_id: str
    tenant_id: str
    project_id: str
    name: str
    created_at: dt.datetime
    model: str  # catalog model
    slo_class: str
    residency: str  # "region:R", "zone:Z" or "global"
    context_tokens: int
    max_output_tokens: int
    default_max_tokens: int
    chat_template: str  # Jinja over messages and add_generation_prompt
    state: str  # "ready", or why it is not: "provisioning", "paused", "failed", …
    routes: tuple[Route, ...] = ()
    timeouts: Timeouts = Timeouts()
    prices: TokenPrices | None = None


class Snapshot(Message, frozen=True):
    """Everything one gateway needs to serve without the control plane.

    ``version`` is a digest of the content: equal content gives an equal version, and a long poll
    that names the version it holds is answered 304 when nothing changed within its wait.
    """

    schema: int
    version: str
    gateway: str
    region: str
    keys: tuple[Key, ...]
    endpoints: tuple[Endpoint, ...]
    allowed_origins: tuple[str, ...] = ()  # browsers that may call (the portal's playground)

    @classmethod
    def build(
        cls,
        *,
        gateway: str,
        region: str,
        keys: tuple[Key, ...],
        endpoints: tuple[Endpoint, ...],
        allowed_origins: tuple[str, ...] = (),
    ) -> Snapshot:
        """Make a snapshot whose version is the digest of what it holds."""
        draft = cls(
            schema=SCHEMA,
            version="",
            gateway=gateway,
            region=region,
            keys=keys,
            endpoints=endpoints,
            allowed_origins=allowed_origins,
        )
        digest = hashlib.sha256(msgspec.json.encode(draft)).hexdigest()[:32]
        return msgspec.structs.replace(draft, version=digest)


class UsageSegment(Message, frozen=True):
    """What a few seconds of requests used, for one key, endpoint, revision, outcome and UTC minute.

    ``sequence`` counts the segments of one gateway from 1 without gaps and never returns; together
    with ``tenant_id``, ``day``, ``gateway`` and ``key_id`` it is the segment's identity, so that
    sending one again is always safe. ``gateway`` is the gateway's name, a slash, and the instance of
    its data folder: a gateway that lost its folder counts from 1 again, under another instance.
    ``endpoint_id``, ``model`` and ``slo_class`` are empty for refused requests that named no endpoint
    of their key's. ``day`` is the UTC day in which the requests ended and never changes.
    ``input_tokens_squared`` and ``output_tokens_squared`` sum the squares of each request's tokens, from
    which the spread of lengths follows. ``ttft_ms`` counts requests per bucket of
    :data:`LATENCY_BOUNDS_MS`, ``itl_ms`` per bucket of :data:`ITL_BOUNDS_MS` by the mean time between
    their tokens; there is one more bucket than bounds, and empty ones at the end are left out. Requests
    that gave no token are in no bucket of the former, those whose tokens all came at once in none of the
    latter.
    """

    tenant_id: str
    day: dt.date
    gateway: str
    sequence: int
    key_id: str
    project_id: str
    endpoint_id: str
    revision_id: str | None
    model: str
    slo_class: str
    region: str
    outcome: Outcome
    window_start: dt.datetime
    window_end: dt.datetime
    requests: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    input_tokens_squared: int
    output_tokens_squared: int
    ttft_ms: tuple[int, ...] = ()
    itl_ms: tuple[int, ...] = ()


class UsageBatch(Message, frozen=True):
    """One POST of segments, in order of sequence, all of the same ``gateway``."""

    gateway: str
    segments: tuple[UsageSegment, ...]


class Refused(Message, frozen=True):
    """A segment that was not taken, and why; sending it again will not help."""

    sequence: int
    reason: str


class UsageReceipt(Message, frozen=True):
    """The answer to a batch: every segment is inserted, a duplicate, or refused."""

    inserted: int
    duplicates: int
    refused: tuple[Refused, ...] = ()


class ReplicaReport(Message, frozen=True):
    """What a replica shows of its memory: its lines of :data:`REPORTED_METRICS`, as it wrote them."""

    replica_id: str
    metrics: str


class ReplicaReports(Message, frozen=True):
    """One POST of reports, each about a replica of the gateway's region and snapshot."""

    reports: tuple[ReplicaReport, ...]
