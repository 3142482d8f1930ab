"""Engines that speak OpenAI-style HTTP: what they are asked, exact counts, and every way to fail."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from gateway.contract import EngineProtocol, Route, Timeouts
from tests.fakes.trtllm_serve import Behaviour, FakeTrtllmServe
from tests.gateway.conftest import Bench, eventually
from tests.gateway.world import replica

CHAT: dict[str, Any] = {"model": "docs", "messages": [{"role": "user", "content": "hello there"}]}
QUICK = Timeouts(connect_s=0.5, first_token_s=0.3, between_tokens_s=0.3, total_s=5.0, attempts=2)


def route(url: str) -> tuple[Route, ...]:
    engine = msgspec.structs.replace(replica(url), protocol=EngineProtocol.OPENAI_HTTP, engine_model="llama")
    return (Route(revision_id="rev1", weight=100, replicas=(engine,)),)


@pytest.fixture
async def serve(bench: Bench) -> AsyncIterator[FakeTrtllmServe]:
    """The engine that the endpoint of the bench is routed to."""
    async with FakeTrtllmServe() as serve:
        bench.publish(routes=route(serve.url), timeouts=QUICK)
        await bench.settled()
        yield serve


async def ask(bench: Bench, **more: object) -> tuple[int, dict[str, Any]]:
    async with bench.post("/v1/chat/completions", {**CHAT, **more}) as response:
        return response.status, await response.json()


async def test_a_chat_is_rendered_here_and_completed_there(bench: Bench, serve: FakeTrtllmServe) -> None:
    serve.behaviour = Behaviour(cached=2)

    status, document = await ask(
        bench, temperature=0.5, top_p=0.9, seed=-1, stop=["END"], frequency_penalty=0.1, presence_penalty=0.2
    )

    assert status == 200
    assert document["choices"][0]["message"]["content"] == "w0 w1 w2 w3 w4 "
    assert document["choices"][0]["finish_reason"] == "stop"
    assert document["usage"] == {
        "prompt_tokens": 4, "completion_tokens": 5, "total_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 2},
    }  # fmt: skip
    (call,) = serve.calls
    assert call.path == "/v1/completions"
    assert call.payload == {
        "model": "llama",
        "prompt": "<user> hello there\n<assistant>",
        "max_tokens": 31,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "temperature": 0.5, "top_p": 0.9, "seed": 2**64 - 1, "stop": ["END"],
        "frequency_penalty": 0.1, "presence_penalty": 0.2,
    }  # fmt: skip


async def test_the_limit_is_the_reason_to_end(bench: Bench, serve: FakeTrtllmServe) -> None:
    _, document = await ask(bench, max_tokens=3)

    assert document["choices"][0]["finish_reason"] == "length"
    assert document["usage"]["completion_tokens"] == 3


async def test_a_stream(bench: Bench, serve: FakeTrtllmServe) -> None:
    stream = await bench.openai().chat.completions.create(
        **CHAT, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]

    assert (
        "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        == "w0 w1 w2 w3 w4 "
    )
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 5


async def test_usage_in_the_last_chunk_alone_is_the_truth(bench: Bench, serve: FakeTrtllmServe) -> None:
    serve.behaviour = Behaviour(continuous=False, cached=1)

    await ask(bench)

    assert bench.totals()["completed"] == {
        "requests": 1, "input_tokens": 4, "output_tokens": 5, "cached_tokens": 1,
    }  # fmt: skip


async def test_a_path_in_the_replicas_url_is_never_followed(bench: Bench, serve: FakeTrtllmServe) -> None:
    bench.publish(routes=route(serve.url + "/release_memory?x=1"))
    await bench.settled()

    status, _ = await ask(bench)

    assert status == 200
    assert {call.path for call in serve.calls} == {"/v1/completions"}


async def test_leaving_stops_the_engine_and_counts_what_came(bench: Bench, serve: FakeTrtllmServe) -> None:
    bench.publish(routes=route(serve.url))
    await bench.settled()
    serve.behaviour = Behaviour(tokens=16, hang_after=3)
    task = asyncio.create_task(bench.http_status("/v1/chat/completions", {**CHAT, "stream": True}))
    await eventually(lambda: bool(serve.calls) and serve.calls[0].sent == 3)
    await bench.in_flight(1)
    # What the engine sent has reached the gateway once it had a moment to read it.
    await asyncio.sleep(0.1)

    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task

    await eventually(lambda: serve.calls[0].left_at is not None)
    await eventually(lambda: "cancelled" in bench.totals())
    assert bench.totals()["cancelled"] == {
        "requests": 1, "input_tokens": 4, "output_tokens": 3, "cached_tokens": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("behaviour", "status", "code", "attempts"),
    [
        (Behaviour(status=400, error="secret prompt text"), 502, "engine_error", 1),
        (Behaviour(status=500, error="secret prompt text"), 502, "engine_error", 2),
        (Behaviour(status=500, error="No free blocks left."), 503, "engine_overloaded", 2),
        (Behaviour(status=503, error="secret prompt text"), 503, "engine_overloaded", 2),
        (Behaviour(error="secret", error_after=0), 502, "engine_error", 2),
        (Behaviour(end_after=0), 502, "engine_error", 2),
        (Behaviour(drop_after=0), 503, "engine_unreachable", 2),
        (Behaviour(hang_after=0), 504, "engine_timeout", 2),
        (
            Behaviour(status=400, error="prompt length (70) should not exceed max_seq_len (64)"),
            400, "context_length_exceeded", 1,
        ),
    ],
)  # fmt: skip
async def test_failing_before_the_first_byte(
    bench: Bench, serve: FakeTrtllmServe, behaviour: Behaviour, status: int, code: str, attempts: int
) -> None:
    serve.behaviour = behaviour

    seen, document = await ask(bench, stream=True)

    assert (seen, document["error"]["code"]) == (status, code)
    assert "secret" not in document["error"]["message"]
    assert len(serve.calls) == attempts


@pytest.mark.parametrize(
    ("behaviour", "code", "tokens"),
    [
        (Behaviour(error="secret", error_after=3), "engine_error", 3),
        (Behaviour(end_after=3), "engine_error", 3),
        (Behaviour(drop_after=3), "engine_unreachable", 3),
        (Behaviour(hang_after=3), "engine_timeout", 3),
        (Behaviour(finish_reason="timeout"), "engine_error", 5),
    ],
)
async def test_failing_after_the_first_byte(
    bench: Bench, serve: FakeTrtllmServe, behaviour: Behaviour, code: str, tokens: int
) -> None:
    behaviour.delay_s = 0.02
    serve.behaviour = behaviour

    async with bench.post("/v1/chat/completions", {**CHAT, "stream": True}) as response:
        assert response.status == 200
        body = (await response.read()).decode()

    error = json.loads(body.strip().split("\n\n")[-1].removeprefix("data: "))["error"]
    assert error["code"] == code
    assert "secret" not in body
    assert len(serve.calls) == 1
    assert bench.totals()["failed"]["output_tokens"] == tokens


async def test_another_attempt_answers_when_the_first_fails(bench: Bench, serve: FakeTrtllmServe) -> None:
    serve.next_behaviours = [Behaviour(status=500, error="boom")]

    status, _ = await ask(bench)

    assert status == 200
    assert len(serve.calls) == 2
