"""The official client, as applications use it: its retries, exceptions, timeouts and cancellation."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Any

import httpx
import openai
import pytest

from gateway.contract import Timeouts
from gateway.demand import Demand
from gateway.replies import Usage
from tests.fakes.triton import Behaviour
from tests.gateway.conftest import Bench, eventually
from tests.gateway.engines import serving
from tests.gateway.world import KEY, UNKNOWN_KEY

CHAT: dict[str, Any] = {"model": "docs", "messages": [{"role": "user", "content": "hello there"}]}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
QUICK = Timeouts(connect_s=0.5, first_token_s=0.5, between_tokens_s=0.5, total_s=2.0, attempts=1)


def patient(bench: Bench, **options: Any) -> openai.AsyncOpenAI:
    """A client with the retries and timeouts that it has by default."""
    client = openai.AsyncOpenAI(api_key=KEY, base_url=f"{bench.url}/v1", **options)
    bench.clients.append(client)
    return client


class Counting:
    """A gate that lets everything in and keeps what it saw."""

    def __init__(self) -> None:
        self.demands: list[Demand] = []
        self.settled: list[Usage] = []

    @property
    def headers(self) -> Mapping[str, str]:
        return {"x-ratelimit-remaining-requests": "7"}

    async def enter(self, demand: Demand) -> Counting:
        self.demands.append(demand)
        return self

    def settle(self, usage: Usage) -> Mapping[str, str]:
        self.settled.append(usage)
        return {}

    def withdraw(self) -> None:
        raise AssertionError("nothing was to be undone")


def stand_at(bench: Bench, gate: Any) -> None:
    """Put ``gate`` before all that the gateway serves."""
    assert bench.server is not None
    inference = bench.server._inference
    inference._desk = inference._desk._replace(gates=(gate,))


async def test_a_chat_with_usage_streamed(bench: Bench) -> None:
    stream = await patient(bench).chat.completions.create(
        **CHAT, stream=True, stream_options={"include_usage": True}, n=2
    )
    chunks = [chunk async for chunk in stream]

    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (4, 10)


async def test_its_own_stream_helper_puts_tool_calls_together(bench: Bench) -> None:
    parts: list[dict[str, Any]] = [
        {"index": 0, "id": "call-a", "function": {"name": "weather", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"city": '}},
        {"index": 0, "function": {"arguments": '"Bonn"}'}},
    ]
    async with serving(bench) as engine:
        engine.behaviour.tokens = 3
        engine.behaviour.tool_calls = parts
        engine.behaviour.finish_reason = "tool_calls"
        async with patient(bench).chat.completions.stream(**CHAT, tools=[TOOL]) as stream:
            async for _ in stream:
                pass
            answer = await stream.get_final_completion()

    assert answer.choices[0].message.tool_calls is not None
    function = answer.choices[0].message.tool_calls[0].function
    assert (function.name, function.arguments) == ("weather", '{"city": "Bonn"}')


async def test_a_batch_of_embeddings(bench: Bench) -> None:
    async with serving(bench):
        answer = await patient(bench).embeddings.create(model="docs", input=["a", "bb"])

    assert [row.embedding for row in answer.data] == [[1.0] * 3, [2.0] * 3]


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        ({"temperature": 9}, openai.BadRequestError, None),
        ({"tools": [TOOL]}, openai.BadRequestError, "unsupported_parameter"),
        ({"extra_body": {"lora_path": "/x"}}, openai.BadRequestError, "unknown_parameter"),
        ({"model": "absent"}, openai.NotFoundError, "model_not_found"),
    ],
)
async def test_refusals_have_their_own_exceptions_and_arrive_once(
    bench: Bench, body: dict[str, Any], kind: type[openai.APIStatusError], code: str | None
) -> None:
    with pytest.raises(kind) as caught:
        await patient(bench).chat.completions.create(**{**CHAT, **body})

    assert caught.value.code == code
    assert caught.value.request_id is not None
    assert bench.totals()["refused"]["requests"] == 1


async def test_a_wrong_key(bench: Bench) -> None:
    with pytest.raises(openai.AuthenticationError):
        await patient(bench).with_options(api_key=UNKNOWN_KEY).models.list()


async def test_a_failing_engine_is_an_internal_error(bench: Bench) -> None:
    bench.triton.behaviour = Behaviour(status=500, error="boom")

    with pytest.raises(openai.InternalServerError) as caught:
        await patient(bench, max_retries=0).chat.completions.create(**CHAT)

    assert caught.value.status_code == 502


async def test_an_error_in_a_stream_is_raised(bench: Bench) -> None:
    bench.triton.behaviour = Behaviour(error="boom", error_after=2, delay_s=0.02)
    texts = []

    async def read() -> None:
        async for chunk in await patient(bench).chat.completions.create(**CHAT, stream=True):
            texts.append(chunk.choices[0].delta.content)

    with pytest.raises(openai.APIError) as caught:
        await read()

    assert "".join(filter(None, texts)) == "w0 w1 "
    assert caught.value.code == "engine_error"
    assert bench.totals()["failed"]["requests"] == 1


async def test_what_may_pass_later_is_tried_again_by_itself(bench: Bench) -> None:
    bench.publish(timeouts=QUICK)
    await bench.settled()
    bench.triton.next_behaviours = [Behaviour(status=503, error="Exceeds maximum queue size")]

    answer = await patient(bench).chat.completions.create(**CHAT)

    assert answer.choices[0].message.content == "w0 w1 w2 w3 w4 "
    totals = bench.totals()
    assert (totals["failed"]["requests"], totals["completed"]["requests"]) == (1, 1)


async def test_gates_are_told_the_most_that_a_request_may_use(bench: Bench) -> None:
    gate = Counting()
    async with serving(bench, context_tokens=5_000):
        stand_at(bench, gate)
        client = patient(bench)
        raw = await client.chat.completions.with_raw_response.create(**CHAT, n=3, max_tokens=5)
        await client.chat.completions.create(**CHAT, tools=[TOOL], max_tokens=5)
        await client.embeddings.create(model="docs", input=["one two", "three"])

    several, tools, embedding = gate.demands
    assert raw.headers["x-ratelimit-remaining-requests"] == "7"
    assert (several.choices, several.max_tokens, several.needs) == (3, 5, frozenset())
    assert several.most_tokens == several.input_tokens + 15
    assert tools.needs == {"chat", "tools"}
    assert not tools.exact
    # All text that the engine may make a prompt of, and room for what its template adds.
    assert tools.input_tokens > 512 + len("weather") + len("hello there")
    assert (embedding.max_tokens, embedding.most_tokens) == (0, embedding.input_tokens)
    assert embedding.input_tokens >= len("one two") + len("three")
    assert [(usage.input_tokens, usage.output_tokens) for usage in gate.settled] == [(4, 15), (3, 5), (3, 0)]


async def test_a_client_that_waits_no_longer(bench: Bench) -> None:
    bench.triton.behaviour = Behaviour(first_delay_s=60)

    with pytest.raises(openai.APITimeoutError):
        await patient(bench, max_retries=0, timeout=0.3).chat.completions.create(**CHAT)

    await eventually(lambda: bench.totals().get("cancelled", {}).get("requests") == 1)
    await eventually(lambda: bench.triton.calls[0].left_at is not None)


async def test_a_gateway_that_waits_no_longer(bench: Bench) -> None:
    bench.publish(timeouts=QUICK)
    await bench.settled()
    bench.triton.behaviour = Behaviour(first_delay_s=60)

    with pytest.raises(openai.InternalServerError) as caught:
        await patient(bench, max_retries=0).chat.completions.create(**CHAT)

    assert (caught.value.status_code, caught.value.code) == (504, "engine_timeout")


async def test_closing_a_stream_in_the_middle_stops_the_engine(bench: Bench) -> None:
    bench.triton.behaviour = Behaviour(tokens=32, delay_s=0.05)
    stream = await patient(bench).chat.completions.create(**CHAT, stream=True, max_tokens=32)
    async for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    left_at = time.monotonic()
    await stream.close()

    await eventually(lambda: bench.triton.calls[0].left_at is not None)
    assert bench.triton.calls[0].left_at is not None
    assert bench.triton.calls[0].left_at > left_at
    await eventually(lambda: "cancelled" in bench.totals())
    assert 1 <= bench.totals()["cancelled"]["output_tokens"] <= bench.triton.calls[0].sent < 32


async def test_cancelling_the_task_stops_the_engine(bench: Bench) -> None:
    bench.triton.behaviour = Behaviour(first_delay_s=60)
    task = asyncio.create_task(patient(bench).chat.completions.create(**CHAT))
    await eventually(lambda: bool(bench.triton.calls))

    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task

    await eventually(lambda: bench.triton.calls[0].left_at is not None)
    await eventually(lambda: bench.totals().get("cancelled", {}).get("requests") == 1)


async def test_a_gateway_that_is_away_is_tried_again(bench: Bench) -> None:
    url = bench.url
    await bench.stop()
    client = openai.AsyncOpenAI(api_key=KEY, base_url=f"{url}/v1", timeout=httpx.Timeout(1.0), max_retries=1)
    bench.clients.append(client)

    with pytest.raises(openai.APIConnectionError):
        await client.chat.completions.create(**CHAT)
