"""Several choices of one answer, from engines that give several and from those that give one at a time."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import openai
import pytest

from gateway.contract import Timeouts
from tests.fakes import triton
from tests.fakes.trtllm_serve import Behaviour
from tests.gateway.conftest import Bench, eventually
from tests.gateway.engines import serving

CHAT: dict[str, Any] = {"model": "docs", "messages": [{"role": "user", "content": "hello there"}]}


async def test_an_engine_that_gives_one_is_asked_several_times(bench: Bench) -> None:
    bench.triton.behaviour = triton.Behaviour(tokens=4, cached=2)

    answer = await bench.openai().chat.completions.create(**CHAT, n=3, seed=2**63 - 1)

    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert {choice.message.content for choice in answer.choices} == {"w0 w1 w2 w3 "}
    assert {choice.finish_reason for choice in answer.choices} == {"stop"}
    assert sorted(call.payload["seed"] for call in bench.triton.calls) == [2**63 - 1, 2**63, 2**63 + 1]
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (4, 12)
    assert bench.totals() == {
        "completed": {"requests": 1, "input_tokens": 4, "output_tokens": 12, "cached_tokens": 2}
    }


async def test_each_choice_has_its_own_end(bench: Bench) -> None:
    bench.triton.next_behaviours = [
        triton.Behaviour(tokens=2),
        triton.Behaviour(tokens=9, finish_reason=None),
    ]

    answer = await bench.openai().completions.create(model="docs", prompt="a b", n=2, best_of=2, max_tokens=4)

    assert {(choice.text, choice.finish_reason) for choice in answer.choices} == {
        ("w0 w1 ", "stop"),
        ("w0 w1 w2 w3 ", "length"),
    }


@pytest.mark.parametrize("native", [False, True])
async def test_streamed_choices_are_told_apart(bench: Bench, native: bool) -> None:
    async with contextlib.AsyncExitStack() as stack:
        if native:
            engine = await stack.enter_async_context(serving(bench))
            engine.behaviour = Behaviour(tokens=3, cached=1)
        else:
            bench.triton.behaviour = triton.Behaviour(tokens=3, cached=1)
        stream = await bench.openai().chat.completions.create(
            **CHAT,  # type: ignore[call-overload]
            n=2,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]

    pieces = [choice for chunk in chunks for choice in chunk.choices]
    for index in (0, 1):
        mine = [piece for piece in pieces if piece.index == index]
        assert mine[0].delta.role == "assistant"
        assert "".join(piece.delta.content or "" for piece in mine) == "w0 w1 w2 "
        assert [piece.finish_reason for piece in mine if piece.finish_reason] == ["stop"]
    assert chunks[-1].usage.completion_tokens == 6
    assert bench.totals() == {
        "completed": {"requests": 1, "input_tokens": 4, "output_tokens": 6, "cached_tokens": 1}
    }


async def test_an_engine_that_gives_several_is_asked_once(bench: Bench) -> None:
    async with serving(bench) as engine:
        engine.behaviour = Behaviour(tokens=3)
        answer = await bench.openai().completions.create(model="docs", prompt="a b", n=4, seed=7)

        assert [choice.text for choice in answer.choices] == ["w0 w1 w2 "] * 4
        assert [call.payload["n"] for call in engine.calls] == [4]
        assert answer.usage is not None
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2, 12)


async def test_it_is_asked_several_times_where_nothing_is_left_to_chance(bench: Bench) -> None:
    async with serving(bench) as engine:
        answer = await bench.openai().completions.create(model="docs", prompt="a b", n=2, temperature=0)

        assert len(answer.choices) == 2
        assert len(engine.calls) == 2
        assert all("n" not in call.payload for call in engine.calls)
        assert bench.totals()["completed"]["output_tokens"] == 10
        assert bench.totals()["completed"]["input_tokens"] == 2


async def test_usage_in_the_last_event_alone_covers_all_choices(bench: Bench) -> None:
    async with serving(bench) as engine:
        engine.behaviour = Behaviour(tokens=3, continuous=False)
        await bench.openai().completions.create(model="docs", prompt="a b", n=2)

    assert bench.totals()["completed"]["output_tokens"] == 6


@pytest.mark.parametrize("stream", [False, True])
async def test_leaving_closes_every_choice(bench: Bench, stream: bool) -> None:
    bench.triton.behaviour = triton.Behaviour(tokens=16, hang_after=3)
    task = asyncio.create_task(bench.http_status("/v1/chat/completions", {**CHAT, "n": 3, "stream": stream}))
    await eventually(lambda: [call.sent for call in bench.triton.calls] == [3, 3, 3])
    await asyncio.sleep(0.1)

    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task

    await eventually(lambda: all(call.left_at is not None for call in bench.triton.calls))
    await eventually(lambda: "cancelled" in bench.totals())
    assert bench.totals() == {
        "cancelled": {"requests": 1, "input_tokens": 4, "output_tokens": 9, "cached_tokens": 0}
    }


async def test_a_choice_that_fails_ends_the_others_and_all_tokens_count(bench: Bench) -> None:
    bench.triton.next_behaviours = [
        triton.Behaviour(tokens=16, error="boom", error_after=2),
        triton.Behaviour(tokens=16, hang_after=4),
    ]

    with pytest.raises(openai.InternalServerError):
        await bench.openai().chat.completions.create(**CHAT, n=2)

    assert bench.totals()["failed"]["requests"] == 1
    assert 2 <= bench.totals()["failed"]["output_tokens"] <= 6
    await eventually(lambda: all(call.left_at or call.sent == 2 for call in bench.triton.calls))


async def test_a_choice_that_cannot_start_lets_the_others_go(bench: Bench) -> None:
    bench.publish(timeouts=Timeouts(first_token_s=5.0, attempts=1))
    await bench.settled()
    bench.triton.next_behaviours = [
        triton.Behaviour(tokens=16, hang_after=1),
        triton.Behaviour(status=500, error="boom"),
    ]

    with pytest.raises(openai.InternalServerError):
        await bench.openai().chat.completions.create(**CHAT, n=2)

    await eventually(lambda: any(call.left_at for call in bench.triton.calls))
    assert bench.totals()["failed"]["requests"] == 1
