"""Batches run in what others leave: a replica of one place is given to whoever comes before they have it again."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from gateway.contract import Route
from tests.fakes.triton import Behaviour
from tests.gateway.batches.conftest import Desk, chat_line, jsonl
from tests.gateway.conftest import eventually
from tests.gateway.world import replica

LINES = 60


async def test_interactive_requests_pass_a_batch_where_there_is_one_place(desk: Desk) -> None:
    bench = desk.bench
    one_place = msgspec.structs.replace(replica(bench.triton.url), concurrency=1)
    bench.publish(routes=(Route(revision_id="rev1", weight=100, replicas=(one_place,)),))
    await bench.settled()
    bench.triton.behaviour = Behaviour(tokens=2, delay_s=0.02)
    calls = bench.triton.calls
    batch = await desk.submit(jsonl([chat_line(number, content="line") for number in range(LINES)]))
    await eventually(lambda: len(calls) >= 3)

    async def ask() -> int:
        """Ask as a person; gives how many lines were begun meanwhile."""
        before = lines_begun()
        body: dict[str, Any] = chat_line(0, content="person")["body"]
        assert await bench.http_status("/v1/chat/completions", body) == 200
        return lines_begun() - before

    def lines_begun() -> int:
        return sum("line" in call.payload["text_input"] for call in calls)

    waited = [await ask() for _ in range(10)]
    crowd = await asyncio.gather(*(ask() for _ in range(8)))
    assert lines_begun() < LINES  # the batch was there all the time
    done = await desk.until(batch.id, "completed")

    # A person waits for the line that has the place, and never for a second one.
    assert max(waited) <= 2
    assert max(crowd) <= 2
    assert len(await desk.lines(done.output_file_id)) == LINES
    assert done.error_file_id is None
    await eventually(lambda: bench.control.requests().get("completed") == LINES + 18)
