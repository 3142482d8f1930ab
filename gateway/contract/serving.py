"""What is called: service classes, endpoints with their replicas, and named routes to them."""

from __future__ import annotations

import datetime as dt
import enum
from typing import Final

from gateway.contract.base import Message
from gateway.contract.owners import RateLimits

#: The class of the lines of batches, unless that of their endpoint or key is lower.
BATCH_CLASS: Final = "batch"


class EngineProtocol(enum.StrEnum):
    """How an engine is spoken to; one adapter each in ``gateway.engines``."""

    TRITON_GENERATE = "triton-generate"
    OPENAI_HTTP = "openai-http"


#: Where the control plane gives a tokenizer, followed by a slash and its SHA-256 (hex).
TOKENIZERS_PATH: Final = "/api/gateway/v1/tokenizers"
MOST_TOKENIZER_BYTES: Final = 32 * 1024 * 1024


class SpecialTokens(enum.StrEnum):
    """What an engine does with a model's special tokens when it takes a prompt in."""

    NONE = "none"  # none are added, and those that the prompt spells are text like any other
    ONCE = "once"  # the model's are added unless the prompt begins with the first of them
    ALWAYS = "always"  # the model's are added


class OnOverload(enum.StrEnum):
    """What happens to a request that its endpoint has no room for."""

    REFUSE = "refuse"
    FALLBACK = "fallback"  # it goes to the endpoint's fallbacks, in order
    SHORTEN = "shorten"  # it is admitted with the class's ``degraded_context_tokens``


class Timeouts(Message, frozen=True):
    """Seconds a request may wait for each thing, and how it is tried again before the first byte.

    The pause before attempt n + 1 is drawn from 0 to ``backoff_s`` * 2**(n - 1), at most ``backoff_most_s``.
    """

    connect_s: float = 2.0
    first_token_s: float = 30.0
    between_tokens_s: float = 15.0
    total_s: float = 300.0
    attempts: int = 2
    backoff_s: float = 0.05
    backoff_most_s: float = 1.0


class SloClass(Message, frozen=True):
    """How the requests of one class are treated. ``priority`` 1 goes first.

    ``ttft_ms`` and ``itl_ms`` are the class's p95 targets, None for none. ``queue_s`` is the longest a request may
    wait for a replica. ``floor`` is the share of admissions that stays with this class while higher ones wait too.
    ``context_tokens`` caps a request with its answer.
    """

    name: str
    priority: int
    ttft_ms: float | None = None
    itl_ms: float | None = None
    timeouts: Timeouts = Timeouts()
    queue_s: float = 5.0
    floor: float = 0.0
    context_tokens: int | None = None
    on_overload: OnOverload = OnOverload.REFUSE
    degraded_context_tokens: int | None = None


class Replica(Message, frozen=True):
    """One running engine that may be given requests.

    ``metrics_url`` is where it shows its Prometheus text, empty where it shows none. ``concurrency`` is how many
    requests it works on at once by its plan, None where nobody said. A ``draining`` one gets no new requests.
    ``features`` are what its engine can do beyond text: "chat" (chats of its own), "tools", "parallel_tool_calls",
    "response_format", "logprobs", "logit_bias", "embeddings", "dimensions"; and what it knows of a request's origin:
    "cache_salt", "priority".
    """

    replica_id: str
    url: str
    protocol: EngineProtocol
    engine_model: str  # the name inside the engine, for Triton the model of its repository
    region: str
    zones: tuple[str, ...] = ()
    metrics_url: str = ""
    concurrency: int | None = None
    draining: bool = False
    features: tuple[str, ...] = ()


class RevisionTerms(Message, frozen=True):
    """What a revision takes that is not promoted yet; each member is as that of :class:`Endpoint`."""

    context_tokens: int
    max_output_tokens: int
    default_max_tokens: int
    chat_template: str
    tokenizer: str = ""


class Route(Message, frozen=True, omit_defaults=True):
    """The replicas of one revision and the weight of traffic it is to get (0 = none).

    ``terms`` hold instead of the endpoint's for keys that are bound to the revision; None where they are the same, and
    then left out of the message, so that a gateway of an older version reads it.
    """

    revision_id: str
    weight: int
    replicas: tuple[Replica, ...]
    terms: RevisionTerms | None = None


class TokenPrices(Message, frozen=True):
    """Decimal strings per one million tokens."""

    currency: str
    input: str
    output: str
    cached: str


class Endpoint(Message, frozen=True):
    """A model endpoint as its clients know it: ``name`` is what they send as ``model``.

    ``shared`` ones may be called by every tenant of the snapshot. ``fallbacks`` are ids of endpoints that take its
    requests where its class says so; they satisfy this endpoint's residency or are not used. ``tokenizer`` is the
    SHA-256 (hex) under which the control plane gives the model's ``tokenizer.json``, empty where it has none;
    ``special_tokens`` is how its engines count with it.
    ``prices`` are those of its own class, ``lower_prices`` those of each class that a request may be
    lowered to, by its name. ``wake_hold_s`` is how many seconds a request is held while it has no replica and comes by
    itself, where its client says nothing; 0 where it is refused. ``wake_refused`` is one word for why it sleeps and
    could not be woken when that was tried last, empty where nothing is known to stand in the way.
    """

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
    prices: TokenPrices | None = None
    rates: RateLimits = RateLimits()
    shared: bool = False
    fallbacks: tuple[str, ...] = ()
    tokenizer: str = ""
    lower_prices: dict[str, TokenPrices] = {}
    special_tokens: SpecialTokens = SpecialTokens.ONCE
    wake_hold_s: float = 0.0
    wake_refused: str = ""


class Elsewhere(Message, frozen=True):
    """An endpoint that this gateway's region may not serve, and the base URLs of gateways that may.

    ``shared`` ones are every tenant's, as those of the snapshot are.
    """

    tenant_id: str
    project_id: str
    name: str
    residency: str
    urls: tuple[str, ...] = ()
    shared: bool = False


class RouteTarget(Message, frozen=True):
    """Where a rule sends requests, and its share of them."""

    endpoint_id: str
    weight: int = 1


class RouteRule(Message, frozen=True):
    """Requests that match all that is given go to one of ``targets``, drawn by weight.

    Empty members match everything. Lengths are of the prompt, in tokens. ``header`` is the name of a request
    header, in lower case, whose value must be ``header_value``.
    """

    targets: tuple[RouteTarget, ...]
    slo_class: str = ""
    min_input_tokens: int = 0
    max_input_tokens: int | None = None
    key_ids: tuple[str, ...] = ()
    header: str = ""
    header_value: str = ""


class NamedRoute(Message, frozen=True):
    """A name that clients send as ``model`` and that stands for several endpoints: the first rule that matches."""

    route_id: str
    tenant_id: str
    project_id: str
    name: str
    created_at: dt.datetime
    rules: tuple[RouteRule, ...]
