"""OpenTelemetry's spans of one request. Imported only where traces are made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

from gateway.contract import Outcome
from gateway.tracing import Ended

_SCOPE: Final = InstrumentationScope("berth.gateway")
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_OPERATIONS: Final = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}
_FAILED: Final = Status(StatusCode.ERROR)
_UNSET: Final = Status(StatusCode.UNSET)


class Spans:
    """Makes them, named and attributed by OpenTelemetry's conventions for HTTP and for generative models.

    They are made from marks after the request has ended, hence without OpenTelemetry's own tracer.
    """

    def __init__(self, *, gateway: str, region: str) -> None:
        self._resource = Resource.create(
            {
                "service.name": "berth-gateway",
                "service.instance.id": gateway,
                "cloud.region": region,
            }
        )

    def of(self, ended: Ended) -> Iterator[ReadableSpan]:
        """Give the request's span, and below it those of its admission and its engine, as far as it came."""
        record, trace = ended.record, ended.trace
        model = _model(ended)
        yield self._span(
            ended,
            f"POST {ended.route}",
            span_id=trace.span,
            parent=trace.parent,
            kind=SpanKind.SERVER,
            start=ended.started,
            status=_FAILED if record.status >= 500 else _UNSET,
            attributes={
                "http.request.method": "POST",
                "http.route": ended.route,
                "http.response.status_code": record.status,
                "berth.request_id": record.request_id,
                "berth.tenant_id": record.tenant_id,
                "berth.project_id": record.project_id,
                "berth.endpoint_id": record.endpoint_id,
                "berth.slo_class": record.slo_class,
                "berth.outcome": record.outcome.value,
                **({"error.type": record.code} if record.code else {}),
                **model,
            },
        )
        if ended.asked_at is None:
            return
        yield self._span(
            ended,
            "admission",
            span_id=trace.admission_span,
            parent=trace.span,
            kind=SpanKind.INTERNAL,
            start=ended.asked_at,
            end=ended.admitted_at,
            attributes={"berth.slo_class": record.slo_class, "berth.retries": record.retries},
        )
        if ended.admitted_at is None:
            return
        first = ended.first_token_at
        yield self._span(
            ended,
            f"{_operation(ended)} {ended.model}",
            span_id=trace.engine_span,
            parent=trace.span,
            kind=SpanKind.CLIENT,
            start=ended.admitted_at,
            status=_FAILED if record.outcome is Outcome.FAILED else _UNSET,
            events=[] if first is None else [Event("first token", timestamp=_moment(ended, first))],
            attributes={
                "berth.replica_id": ended.replica_id,
                "berth.revision_id": record.revision_id or "",
                **model,
            },
        )

    def _span(
        self,
        ended: Ended,
        name: str,
        *,
        span_id: int,
        parent: int,
        kind: SpanKind,
        start: float,
        end: float | None = None,
        status: Status = _UNSET,
        events: list[Event] | None = None,
        attributes: dict[str, AttributeValue],
    ) -> ReadableSpan:
        trace_id = ended.trace.trace_id
        remote = parent == ended.trace.parent
        return ReadableSpan(
            name,
            context=SpanContext(trace_id, span_id, is_remote=False, trace_flags=_SAMPLED),
            parent=SpanContext(trace_id, parent, is_remote=remote, trace_flags=_SAMPLED) if parent else None,
            resource=self._resource,
            attributes=attributes,
            events=events or [],
            kind=kind,
            status=status,
            start_time=_moment(ended, start),
            end_time=_moment(ended, ended.ended_at if end is None else end),
            instrumentation_scope=_SCOPE,
        )


def _operation(ended: Ended) -> str:
    return _OPERATIONS.get(ended.route, "generate_content")


def _model(ended: Ended) -> dict[str, AttributeValue]:
    """What the conventions for generative models want; nothing where the request named no model of its key's."""
    record = ended.record
    if not ended.model:
        return {}
    return {
        "gen_ai.operation.name": _operation(ended),
        "gen_ai.provider.name": "berth",
        "gen_ai.request.model": ended.model,
        "gen_ai.response.model": record.model,
        "gen_ai.usage.input_tokens": record.input_tokens,
        "gen_ai.usage.output_tokens": record.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": record.cached_tokens,
    }


def _moment(ended: Ended, mark: float) -> int:
    """Give nanoseconds since the epoch of a mark of ``time.perf_counter``."""
    return ended.trace.began_ns + int((mark - ended.started) * 1e9)
