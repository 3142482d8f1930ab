"""How endpoints stand at a gateway right now, told to the control plane every few seconds."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from gateway.contract.base import Message
from gateway.contract.usage import ITL_BOUNDS_MS, LATENCY_BOUNDS_MS

SIGNALS_PATH: Final = "/api/gateway/v1/signals"
MOST_SIGNALS: Final = 1_000  # in one message
SIGNAL_WINDOW_S: Final = 60.0  # what the counts of a signal cover
SIGNAL_STALE_S: Final = 60.0  # after which a signal says nothing any more
MOST_SIGNALLED_CLASSES: Final = 32  # in one signal
MOST_SIGNALLED_REVISIONS: Final = 16  # in one signal
MOST_BUCKETS: Final = 1 + max(len(LATENCY_BOUNDS_MS), len(ITL_BOUNDS_MS))

Number = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Tokens = Annotated[int, Meta(ge=0, le=2**53)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Queued = Annotated[dict[Annotated[str, Meta(max_length=64)], Number], Meta(max_length=MOST_SIGNALLED_CLASSES)]
TriedAgain = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Number], Meta(max_length=MOST_SIGNALLED_REVISIONS)
]
Buckets = Annotated[tuple[Number, ...], Meta(max_length=MOST_BUCKETS)]


class EndpointSignal(Message, frozen=True):
    """One endpoint at one gateway.

    ``in_flight`` are requests that a replica works on or that wait for one, ``queued`` those that wait, by service
    class, and ``oldest_wait_s`` how long the first of the endpoint's own class has waited. Everything else is of the
    requests that ended in the last :data:`SIGNAL_WINDOW_S` seconds, so that a message that is lost is made good by the
    next: ``shed`` were turned away because there was no room, ``refused`` for any other reason; ``kv_pressure`` counts
    answers in which an engine said that its cache is full. Histograms have the buckets of usage segments. ``shed`` and
    both histograms are, as ``oldest_wait_s``, of requests of the endpoint's own class: those that a key or a batch
    lowered may wait longer and say nothing of its targets. ``queue_s``, ``prefill_s`` and ``decode_s`` are sums:
    waiting for a place, from the place to the first token, and from the first token to the last; ``prefills`` counts
    the requests that had a first token. ``tried_again`` counts, while the endpoint has several revisions, the requests
    that each of them failed and that were then tried again: they are sums since it has several or the process began,
    for what a rollout adds up must not depend on when it looks.
    """

    endpoint_id: str
    in_flight: Number = 0
    queued: Queued = {}
    oldest_wait_s: Seconds = 0.0
    requests: Number = 0
    shed: Number = 0
    refused: Number = 0
    failed: Number = 0
    input_tokens: Tokens = 0
    output_tokens: Tokens = 0
    cached_tokens: Tokens = 0
    ttft_ms: Buckets = ()
    itl_ms: Buckets = ()
    queue_s: Seconds = 0.0
    prefill_s: Seconds = 0.0
    decode_s: Seconds = 0.0
    prefills: Number = 0
    kv_pressure: Number = 0
    tried_again: TriedAgain = {}


class EndpointSignals(Message, frozen=True):
    """One POST of signals: endpoints that had traffic, and those that have none any more once.

    ``gateway`` is the gateway's name, a slash, and the instance of its data folder, as in usage segments.
    """

    gateway: str
    signals: tuple[EndpointSignal, ...]
