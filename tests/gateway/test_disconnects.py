"""A client that leaves: one usage record with exact tokens, and an engine that is let go at once."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from gateway.contract import Timeouts
from tests.fakes.triton import Behaviour
from tests.gateway.conftest import Bench, eventually

CHAT = {"model": "docs", "messages": [{"role": "user", "content": "hello there"}], "max_tokens": 32}


async def leave(task: asyncio.Task[object]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "behaviour", [Behaviour(first_delay_s=60), Behaviour(hang_after=0)], ids=["before-headers", "hang"]
)
async def test_leaving_before_the_first_piece(bench: Bench, behaviour: Behaviour, stream: bool) -> None:
    bench.triton.behaviour = behaviour
    task = asyncio.create_task(bench.http_status("/v1/chat/completions", {**CHAT, "stream": stream}))
    await eventually(lambda: bool(bench.triton.calls))

    left_at = time.monotonic()
    await leave(task)

    await eventually(lambda: bench.triton.calls[0].left_at is not None)
    assert bench.triton.calls[0].left_at - left_at < 1.0
    await eventually(lambda: "cancelled" in bench.totals())
    assert bench.totals() == {
        "cancelled": {"requests": 1, "input_tokens": 0, "output_tokens": 0, "cached_tokens": 0}
    }


@pytest.mark.parametrize("stream", [False, True])
async def test_leaving_in_the_middle(bench: Bench, stream: bool) -> None:
    bench.triton.behaviour = Behaviour(tokens=32, hang_after=5)
    task = asyncio.create_task(bench.http_status("/v1/chat/completions", {**CHAT, "stream": stream}))
    await eventually(lambda: bool(bench.triton.calls) and bench.triton.calls[0].sent == 5)
    # What the engine sent has reached the gateway once it had a moment to read it.
    await asyncio.sleep(0.1)

    left_at = time.monotonic()
    await leave(task)

    await eventually(lambda: bench.triton.calls[0].left_at is not None)
    assert bench.triton.calls[0].left_at - left_at < 1.0
    await eventually(lambda: "cancelled" in bench.totals())
    assert bench.totals() == {
        "cancelled": {"requests": 1, "input_tokens": 4, "output_tokens": 5, "cached_tokens": 0}
    }


async def test_leaving_after_the_end(bench: Bench) -> None:
    async with bench.post("/v1/chat/completions", {**CHAT, "stream": True}) as response:
        await response.read()
        response.close()

    await eventually(lambda: "completed" in bench.totals())
    assert bench.totals() == {
        "completed": {"requests": 1, "input_tokens": 4, "output_tokens": 5, "cached_tokens": 0}
    }
    assert bench.triton.calls[0].finished


async def test_leaving_while_sending_the_body(bench: Bench) -> None:
    sending = asyncio.Event()

    async def body():
        yield b'{"model":'
        sending.set()
        await asyncio.sleep(60)

    async def send() -> None:
        async with bench.post("/v1/chat/completions", data=body()):
            pass

    task = asyncio.create_task(send())
    await sending.wait()
    await bench.in_flight(1)
    await leave(task)

    await eventually(lambda: bench.totals().get("cancelled", {}).get("requests") == 1)
    await bench.in_flight(0)


async def test_a_client_that_stops_reading_is_cut_off_by_the_total_timeout(bench: Bench) -> None:
    bench.publish(timeouts=Timeouts(total_s=3.0), max_output_tokens=60_000, context_tokens=60_000)
    await bench.settled()
    bench.triton.behaviour = Behaviour(tokens=60_000, burst=True)

    async with bench.post("/v1/chat/completions", {**CHAT, "stream": True, "max_tokens": 60_000}) as response:
        await eventually(lambda: "failed" in bench.totals())
        assert response.status == 200

    assert bench.totals()["failed"]["requests"] == 1
    assert 0 < bench.totals()["failed"]["output_tokens"] < 60_000


async def test_many_leave_at_random_moments(bench: Bench) -> None:
    bench.triton.behaviour = Behaviour(tokens=20, delay_s=0.005)
    tasks = [
        asyncio.create_task(bench.http_status("/v1/chat/completions", {**CHAT, "stream": index % 2 == 0}))
        for index in range(40)
    ]
    for index, task in enumerate(tasks):
        if index % 4:
            asyncio.get_running_loop().call_later(0.004 * index, task.cancel)
    await asyncio.gather(*tasks, return_exceptions=True)

    await bench.in_flight(0)
    await eventually(lambda: all(call.finished or call.left_at for call in bench.triton.calls))
    totals = bench.totals()
    # A client may leave before its request reached the gateway, or before the gateway asked the engine.
    requests = {outcome: sums["requests"] for outcome, sums in totals.items()}
    assert len(bench.triton.calls) <= sum(requests.values()) <= len(tasks)
    assert set(requests) == {"completed", "cancelled"}
    assert requests["completed"] >= 10
    assert totals["completed"]["output_tokens"] == 20 * requests["completed"]
    # An engine may have said all before its client's leaving is seen: such a request is a cancelled one.
    counted = totals["completed"]["output_tokens"] + totals["cancelled"]["output_tokens"]
    assert counted <= sum(call.sent for call in bench.triton.calls)
