"""Traces of requests, without anything of their content: three spans from the marks that a request leaves anyway.

A request pays for a few random bits and one append to a bounded queue. Spans are made of it in a thread, handed to
OpenTelemetry's exporter and lost where that fails. What goes into a span is written out below, and is ids, classes,
codes and counts: no prompt, no answer, no key, no header.
"""

from __future__ import annotations

import logging
import random
import re
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.metering.records import UsageRecord
from gateway.ticket import Ticket

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

_log = logging.getLogger(__name__)
TRACEPARENT: Final = "traceparent"
# Version 00 of https://www.w3.org/TR/trace-context/; later versions begin with the same fields.
_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_QUEUED: Final = 4_096
_BATCH: Final = 128
_PAUSE_S: Final = 1.0
_CLOSE_S: Final = 3.0


class Trace:
    """One request's place in a trace. ``parent`` is the caller's span, 0 for none."""

    __slots__ = ("admission_span", "began_ns", "engine_span", "parent", "sampled", "span", "trace_id")

    def __init__(self, trace_id: int, parent: int, *, sampled: bool) -> None:
        self.trace_id = trace_id
        self.parent = parent
        self.sampled = sampled
        self.span = random.getrandbits(64) or 1
        self.admission_span = random.getrandbits(64) or 1
        self.engine_span = random.getrandbits(64) or 1
        self.began_ns = time.time_ns()

    @property
    def traceparent(self) -> str:
        """What an engine is told, so that spans of its own belong to this trace."""
        return f"00-{self.trace_id:032x}-{self.engine_span:016x}-{'01' if self.sampled else '00'}"


class Ended(NamedTuple):
    """What is left of one request. Times are seconds of ``time.perf_counter``, None where it did not come to that."""

    trace: Trace
    record: UsageRecord
    route: str
    model: str  # as the client calls the endpoint, empty where it named none of its own
    replica_id: str
    started: float
    asked_at: float | None
    admitted_at: float | None
    first_token_at: float | None
    ended_at: float


class Tracer:
    """Decides which requests are traced, and exports their spans until it is closed.

    Who calls with a well-formed ``traceparent`` decides by its flag; of all others ``ratio`` are traced. ``url``
    takes OTLP over HTTP; whatever else there is to say about it is read from OpenTelemetry's own variables.
    """

    def __init__(self, *, url: str, ratio: float, gateway: str, region: str) -> None:
        # Imported only where they are used: without traces the gateway pays nothing for them.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        from gateway.spans import Spans

        # The exporter logs a page for each failure; the line below says as much.
        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
        self._ratio = ratio
        self._exporter: SpanExporter = OTLPSpanExporter(endpoint=url)
        self._spans = Spans(gateway=gateway, region=region)
        self._ended: deque[Ended] = deque()
        self._closing = threading.Event()
        self.dropped = 0  # requests whose spans were lost
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def begin(self, headers: Mapping[str, str]) -> Trace:
        """Give a request its place, as a child of what its headers name or as the root of a trace of its own."""
        given = headers.get(TRACEPARENT)
        if given is not None and (found := _TRACEPARENT.fullmatch(given.strip())):
            version_zero = given.startswith("00")
            trace_id, parent = int(found[1], 16), int(found[2], 16)
            if trace_id and parent and not (version_zero and found[4]):
                return Trace(trace_id, parent, sampled=bool(int(found[3], 16) & 1))
        sampled = random.random() < self._ratio  # noqa: S311
        return Trace(random.getrandbits(128) or 1, 0, sampled=sampled)

    def end(self, trace: Trace, ticket: Ticket, record: UsageRecord, *, route: str) -> None:
        """Queue the spans of a request whose record was written; where the queue is full they are dropped."""
        if not trace.sampled:
            return
        if len(self._ended) >= _QUEUED:
            self.dropped += 1
            return
        timing, endpoint, target = ticket.timing, ticket.endpoint, ticket.target
        self._ended.append(
            Ended(
                trace=trace,
                record=record,
                route=route,
                model=endpoint.name if endpoint else "",
                replica_id=target.replica.replica_id if target else "",
                started=timing.started,
                asked_at=timing.asked_at,
                admitted_at=timing.admitted_at,
                first_token_at=ticket.first_token_at,
                ended_at=time.perf_counter(),
            )
        )

    def close(self) -> None:
        """Export what is queued, for a few seconds at most. Blocks meanwhile."""
        self._closing.set()
        self._thread.join(_CLOSE_S)
        self._exporter.shutdown()

    def _run(self) -> None:
        # It looks now and then, because waking it for each request would cost the request more than its spans.
        closing = False
        while not closing:
            closing = self._closing.wait(_PAUSE_S)
            while self._ended:
                count = min(len(self._ended), _BATCH)
                self._export([self._ended.popleft() for _ in range(count)])

    def _export(self, batch: Sequence[Ended]) -> None:
        from opentelemetry.sdk.trace.export import SpanExportResult

        try:
            spans: list[ReadableSpan] = []
            for ended in batch:
                spans += self._spans.of(ended)
            exported = self._exporter.export(spans) is SpanExportResult.SUCCESS
        except Exception as error:  # noqa: BLE001 - whatever goes wrong, requests are served
            _log.warning("no spans of %d requests: %r", len(batch), error)
            exported = False
        if not exported:
            self.dropped += len(batch)
            _log.info("the spans of %d requests could not be exported", len(batch))
