"""A client that leaves at every place of an answer, from every kind of engine.

In each cell: one usage record, the tokens that the engine sent until then, and an engine that is let go within
200 ms of the client's leaving. Each cell is run three times and the median taken, because a busy machine may hold
up one of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from tests.fakes import triton, trtllm_serve
from tests.gateway.conftest import Bench, eventually
from tests.gateway.engines import serving

RUNS = 3
LET_GO_S = 0.2
TOKENS = 6
CHAT: dict[str, Any] = {
    "model": "docs", "messages": [{"role": "user", "content": "hello there"}], "max_tokens": 32,
}  # fmt: skip
TOOLS = [{"type": "function", "function": {"name": "weather"}}]
#: What a request asks for beside text, and the engine that is asked.
KINDS: dict[str, tuple[type, dict[str, Any]]] = {
    "triton": (triton.Behaviour, {}),
    "triton-n": (triton.Behaviour, {"n": 2}),
    "completions": (trtllm_serve.Behaviour, {}),
    "completions-n": (trtllm_serve.Behaviour, {"n": 2}),
    "completions-stop": (trtllm_serve.Behaviour, {"stop": ["w5 x"]}),
    "chat-tools": (trtllm_serve.Behaviour, {"tools": TOOLS}),
}
#: How the engine behaves, and the tokens of each choice that it sent when the client leaves.
PLACES: dict[str, tuple[dict[str, Any], int]] = {
    "before-the-head": ({"hang_after": 0}, 0),
    "before-the-first-piece": ({"hang_after": 0, "early_head": True}, 0),
    "after-the-first-piece": ({"hang_after": 1}, 1),
    "in-the-middle": ({"hang_after": 3}, 3),
    "while-it-is-slow": ({"hang_after": 4, "delay_s": 0.02}, 4),
    "before-the-usage": ({"hang_at_end": True}, TOKENS),
}


class Engine:
    """The fake that answers, whichever it is."""

    def __init__(self, fake: triton.FakeTriton | trtllm_serve.FakeTrtllmServe, kind: str) -> None:
        self._fake = fake
        self.behaviour, self.asks = KINDS[kind]

    @property
    def calls(self) -> Sequence[triton.Call | trtllm_serve.Call]:
        return self._fake.calls

    def behave(self, **behaviour: Any) -> None:
        self._fake.behaviour = self.behaviour(tokens=TOKENS, **behaviour)

    def behave_first(self, **behaviour: Any) -> None:
        self._fake.next_behaviours.append(self.behaviour(**behaviour))

    def sent(self) -> int:
        return sum(call.sent for call in self.calls)


@pytest.fixture(params=list(KINDS))
async def engine(request: pytest.FixtureRequest, bench: Bench) -> AsyncIterator[Engine]:
    kind = request.param
    if KINDS[kind][0] is triton.Behaviour:
        yield Engine(bench.triton, kind)
        return
    async with serving(bench) as fake:
        yield Engine(fake, kind)


async def turns() -> None:
    """Give what was sent the turns of the event loop that it takes to arrive."""
    for _ in range(10):
        await asyncio.sleep(0.01)


async def leave(task: asyncio.Task[object]) -> float:
    left_at = time.monotonic()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return left_at


async def run(bench: Bench, engine: Engine, body: dict[str, Any], there: Callable[[], bool]) -> float:
    """Ask, and leave once ``there``; give the seconds until the engine saw it."""
    before = len(engine.calls)
    task = asyncio.create_task(bench.http_status("/v1/chat/completions", body))
    await eventually(lambda: len(engine.calls) > before and there())
    await turns()

    left_at = await leave(task)

    mine = engine.calls[before:]
    await eventually(lambda: all(call.left_at is not None for call in mine))
    return max(call.left_at - left_at for call in mine if call.left_at is not None)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("place", list(PLACES))
async def test_leaving(bench: Bench, engine: Engine, place: str, stream: bool) -> None:
    behaviour, tokens = PLACES[place]
    engine.behave(**behaviour)
    choices = engine.asks.get("n", 1)
    let_go = []

    for number in range(1, RUNS + 1):
        seconds = await run(
            bench,
            engine,
            {**CHAT, **engine.asks, "stream": stream},
            lambda number=number: engine.sent() == number * tokens * choices,  # type: ignore[misc]
        )
        let_go.append(seconds)

    await eventually(lambda: bench.totals().get("cancelled", {}).get("requests") == RUNS)
    totals = bench.totals()
    assert set(totals) == {"cancelled"}
    assert totals["cancelled"]["output_tokens"] == RUNS * tokens * choices == engine.sent()
    # The engine tells of the input with its first piece, and once for all choices; the fakes count words.
    assert totals["cancelled"]["input_tokens"] == (
        RUNS * (3 if "tools" in engine.asks else 4) if tokens else 0
    )
    assert statistics.median(let_go) < LET_GO_S
    await bench.in_flight(0)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_leaving_after_another_attempt(bench: Bench, engine: Engine, stream: bool) -> None:
    engine.behave(hang_after=2)
    for _ in range(2 if engine.asks.get("n") and engine.behaviour is triton.Behaviour else 1):
        engine.behave_first(status=500, error="boom")
    choices = engine.asks.get("n", 1)

    task = asyncio.create_task(
        bench.http_status("/v1/chat/completions", {**CHAT, **engine.asks, "stream": stream})
    )
    await eventually(lambda: engine.sent() == 2 * choices)
    await turns()
    await leave(task)

    await eventually(lambda: "cancelled" in bench.totals())
    assert set(bench.totals()) == {"cancelled"}
    assert bench.totals()["cancelled"]["requests"] == 1
    assert bench.totals()["cancelled"]["output_tokens"] == 2 * choices


async def test_leaving_after_the_end(bench: Bench, engine: Engine) -> None:
    engine.behave()
    choices = engine.asks.get("n", 1)
    for stream in (False, True):
        async with bench.post("/v1/chat/completions", {**CHAT, **engine.asks, "stream": stream}) as response:
            await response.read()
            response.close()

    await eventually(lambda: bench.totals().get("completed", {}).get("requests") == 2)
    assert set(bench.totals()) == {"completed"}
    assert bench.totals()["completed"]["output_tokens"] == 2 * TOKENS * choices == engine.sent()
    assert all(call.finished for call in engine.calls)


async def test_leaving_with_the_last_text_in_hand(bench: Bench, engine: Engine) -> None:
    """The client has seen all text, and goes before the events that end the stream."""
    engine.behave(hang_at_end=True)
    choices = engine.asks.get("n", 1)
    body = {**CHAT, **engine.asks, "stream": True}
    texts = 0
    async with bench.post("/v1/chat/completions", body) as response:
        async for row in response.content:
            if row.startswith(b"data: {"):
                texts += any(choice["delta"].get("content") for choice in json.loads(row[6:])["choices"])
            # The last text may be held back: it begins like a stop text.
            if texts == TOKENS * choices - ("stop" in engine.asks):
                break
        response.close()

    await eventually(lambda: "cancelled" in bench.totals())
    assert bench.totals()["cancelled"]["requests"] == 1
    assert bench.totals()["cancelled"]["output_tokens"] == TOKENS * choices
    await eventually(lambda: all(call.left_at is not None for call in engine.calls))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("failure", "tokens"),
    [({"drop_after": 3}, 3), ({"error": "boom", "error_after": 3}, 3)],
    ids=["breaks-off", "says-so"],
)
async def test_an_engine_that_fails_while_the_client_stays(
    bench: Bench, engine: Engine, failure: dict[str, Any], tokens: int, stream: bool
) -> None:
    engine.behave(**failure, delay_s=0.02)
    choices = engine.asks.get("n", 1)

    await bench.http_status("/v1/chat/completions", {**CHAT, **engine.asks, "stream": stream})

    assert set(bench.totals()) == {"failed"}
    assert bench.totals()["failed"]["requests"] == 1
    # A choice that is let go because another failed may have been a token short.
    assert tokens * choices - (choices - 1) <= bench.totals()["failed"]["output_tokens"] <= tokens * choices
    await bench.in_flight(0)
