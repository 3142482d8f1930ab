"""Traces: three spans of each request, whole and in order, with nothing of what was said in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.fakes.otlp import FakeCollector, attributes
from tests.fakes.triton import Behaviour
from tests.gateway.conftest import Bench, eventually
from tests.gateway.world import KEY

SECRET = "xylophone-secret"
CHAT = {"model": "docs", "messages": [{"role": "user", "content": f"tell me of the {SECRET}"}]}
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
async def collector() -> AsyncIterator[FakeCollector]:
    async with FakeCollector() as collector:
        yield collector


@pytest.fixture
async def traced(idle: Bench, collector: FakeCollector) -> Bench:
    """A gateway that traces every request."""
    await idle.ready(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, BERTH_GATEWAY_TRACE_RATIO="1")
    return idle


async def ask(bench: Bench, body: dict[str, object] = CHAT, **headers: str) -> int:
    async with bench.http.post(
        f"{bench.url}/v1/chat/completions", json=body, headers={"authorization": f"Bearer {KEY}", **headers}
    ) as response:
        await response.read()
        return response.status


async def test_a_request_is_a_span_with_its_admission_and_its_engine_below(
    traced: Bench, collector: FakeCollector
) -> None:
    traced.triton.behaviour = Behaviour(tokens=3, delay_s=0.01, cached=2)

    assert await ask(traced) == 200
    await eventually(lambda: len(collector.spans) == 3)

    server, admission, engine = collector.named("POST"), collector.named("admission"), collector.named("chat")
    assert (server[0].name, engine[0].name) == ("POST /v1/chat/completions", "chat docs")
    assert (server[0].kind, engine[0].kind) == (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT)
    assert server[0].parent_span_id == b""
    assert admission[0].parent_span_id == engine[0].parent_span_id == server[0].span_id
    assert {span.trace_id for span in collector.spans} == {server[0].trace_id}
    first = engine[0].events[0].time_unix_nano
    assert (
        server[0].start_time_unix_nano
        <= admission[0].start_time_unix_nano
        <= admission[0].end_time_unix_nano
        == engine[0].start_time_unix_nano
        <= first
        <= engine[0].end_time_unix_nano
        <= server[0].end_time_unix_nano
    )
    told = attributes(server[0])
    assert told.pop("berth.request_id")
    assert told == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "berth.tenant_id": "t1",
        "berth.project_id": "p1",
        "berth.endpoint_id": "e1",
        "berth.slo_class": "interactive",
        "berth.outcome": "completed",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "berth",
        "gen_ai.request.model": "docs",
        "gen_ai.response.model": "tiny",
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 2,
    }
    assert attributes(engine[0])["berth.replica_id"] == "r1"
    assert collector.resources[0]["service.name"] == "berth-gateway"
    assert collector.resources[0]["cloud.region"] == "eu-de-1"


async def test_nothing_of_content_keys_or_headers_is_in_a_trace(
    traced: Bench, collector: FakeCollector
) -> None:
    await ask(
        traced, {**CHAT, "stream": True}, **{"x-anything": "header-secret", "tracestate": "state-secret"}
    )
    await ask(traced, {**CHAT, "model": "model-secret"})
    await ask(traced, {**CHAT, "unknown-secret": 1})
    traced.triton.next_behaviours = [Behaviour(error=f"cannot say {SECRET}", status=500)] * 2
    await ask(traced)
    await eventually(lambda: len(collector.named("POST")) == 4)

    content = b"".join(collector.raw)
    assert b"gen_ai.usage.input_tokens" in content
    for secret in (
        SECRET,
        "header-secret",
        "state-secret",
        "model-secret",
        "unknown-secret",
        KEY,
        KEY[6:20],
        "w0",
    ):
        assert secret.encode() not in content, secret


async def test_a_caller_s_trace_goes_on_to_the_engine(traced: Bench, collector: FakeCollector) -> None:
    assert await ask(traced, traceparent=f"00-{TRACE}-{PARENT}-01") == 200
    await eventually(lambda: len(collector.spans) == 3)

    (server,), (engine,) = collector.named("POST"), collector.named("chat")
    assert (server.trace_id.hex(), server.parent_span_id.hex()) == (TRACE, PARENT)
    assert traced.triton.calls[-1].headers["traceparent"] == f"00-{TRACE}-{engine.span_id.hex()}-01"
    assert "authorization" not in traced.triton.calls[-1].headers


@pytest.mark.parametrize(
    "given",
    [
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE}-{PARENT}",
        "nonsense",
    ],
)
async def test_a_malformed_parent_begins_a_trace_of_its_own(
    traced: Bench, collector: FakeCollector, given: str
) -> None:
    assert await ask(traced, traceparent=given) == 200
    await eventually(lambda: len(collector.spans) == 3)

    (server,) = collector.named("POST")
    assert server.parent_span_id == b""
    assert server.trace_id.hex() != TRACE


async def test_a_caller_that_is_not_sampled_is_not_traced(traced: Bench, collector: FakeCollector) -> None:
    assert await ask(traced, traceparent=f"00-{TRACE}-{PARENT}-00") == 200
    assert await ask(traced) == 200
    await eventually(lambda: len(collector.spans) == 3)

    assert collector.named("POST")[0].trace_id.hex() != TRACE
    assert traced.triton.calls[0].headers["traceparent"].endswith("-00")


async def test_failures_say_their_code(traced: Bench, collector: FakeCollector) -> None:
    traced.triton.next_behaviours = [Behaviour(error="broken", status=500)] * 2
    assert await ask(traced) == 502
    assert await ask(traced, {**CHAT, "model": "unknown"}) == 404
    await eventually(lambda: len(collector.spans) == 4)

    by_status = {attributes(span)["http.response.status_code"]: span for span in collector.named("POST")}
    assert attributes(by_status[502])["error.type"] == "engine_error"
    assert by_status[502].status.code == Status.STATUS_CODE_ERROR
    assert attributes(by_status[404])["error.type"] == "model_not_found"
    assert attributes(by_status[404])["berth.endpoint_id"] == ""
    assert by_status[404].status.code == Status.STATUS_CODE_UNSET
    (admission,) = collector.named("admission")
    assert attributes(admission)["berth.retries"] == 1


async def test_a_collector_that_fails_or_is_away_holds_up_nobody(
    traced: Bench, collector: FakeCollector
) -> None:
    collector.status = 400
    statuses = await asyncio.gather(*(ask(traced) for _ in range(20)))
    assert set(statuses) == {200}

    async def untraced() -> str:
        async with traced.http.get(f"{traced.url}/metrics") as response:
            text = await response.text()
        return next(
            line for line in text.splitlines() if line.startswith("berth_gateway_untraced_requests_total ")
        )

    async with asyncio.timeout(15):
        while await untraced() != "berth_gateway_untraced_requests_total 20.0":
            await asyncio.sleep(0.05)


async def test_what_is_queued_is_exported_before_the_end(traced: Bench, collector: FakeCollector) -> None:
    assert await ask(traced) == 200
    await traced.stop()
    assert len(collector.spans) == 3


async def test_without_a_collector_nothing_is_traced(bench: Bench, collector: FakeCollector) -> None:
    assert await ask(bench, traceparent=f"00-{TRACE}-{PARENT}-01") == 200
    assert "traceparent" not in bench.triton.calls[-1].headers
    assert not collector.spans


async def test_a_ratio_of_nothing_traces_nobody_unasked(idle: Bench, collector: FakeCollector) -> None:
    await idle.ready(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, BERTH_GATEWAY_TRACE_RATIO="0")
    for _ in range(5):
        assert await ask(idle) == 200
    assert await ask(idle, traceparent=f"00-{TRACE}-{PARENT}-01") == 200
    await eventually(lambda: len(collector.spans) == 3)
    assert collector.named("POST")[0].trace_id.hex() == TRACE
    assert len(collector.named("POST")) == 1
