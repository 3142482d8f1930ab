"""How endpoints stand at a gateway right now, told to the control plane every few seconds."""

from __future__ import annotations

from typing import Final

from gateway.contract.base import Message

SIGNALS_PATH: Final = "/api/gateway/v1/signals"
MOST_SIGNALS: Final = 1_000  # in one message
SIGNAL_WINDOW_S: Final = 60.0  # what the counts of a signal cover
SIGNAL_STALE_S: Final = 60.0  # after which a signal says nothing any more
MOST_SIGNALLED_CLASSES: Final = 32  # in one signal


class EndpointSignal(Message, frozen=True):
    """One endpoint at one gateway.

    ``in_flight`` are requests that a replica works on or that wait for one, ``queued`` those that wait, by service
    class, and ``oldest_wait_s`` how long the first of them has waited. Everything else is of the requests that
    ended in the last :data:`SIGNAL_WINDOW_S` seconds, so that a message that is lost is made good by the next:
    ``shed`` were turned away because there was no room, ``refused`` for any other reason; ``kv_pressure`` counts
    answers in which an engine said that its cache is full. Histograms are those of usage segments. ``queue_s``,
    ``prefill_s`` and ``decode_s`` are sums: waiting for a place, from the place to the first token, and from the
    first token to the last; ``prefills`` counts the requests that had a first token.
    """

    endpoint_id: str
    in_flight: int = 0
    queued: dict[str, int] = {}
    oldest_wait_s: float = 0.0
    requests: int = 0
    shed: int = 0
    refused: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    ttft_ms: tuple[int, ...] = ()
    itl_ms: tuple[int, ...] = ()
    queue_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    prefills: int = 0
    kv_pressure: int = 0


class EndpointSignals(Message, frozen=True):
    """One POST of signals: endpoints that had traffic, and those that have none any more once.

    ``gateway`` is the gateway's name, a slash, and the instance of its data folder, as in usage segments.
    """

    gateway: str
    signals: tuple[EndpointSignal, ...]
