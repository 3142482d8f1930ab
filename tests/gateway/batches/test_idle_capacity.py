"""Batches run in what others leave: a replica of one place is given to whoever comes before they have it again."""

from __future__ import annotations

import asyncio

import msgspec

from gateway.contract import Route
from tests.fakes.triton import Behaviour
from tests.gateway.batches.conftest import Desk, chat_line, jsonl
from tests.gateway.conftest import eventually
from tests.gateway.world import replica

LINES = 20
PEOPLE = 8


async def test_people_pass_a_batch_where_there_is_one_place(desk: Desk) -> None:
    bench = desk.bench
    one_place = msgspec.structs.replace(replica(bench.triton.url, replica_id="one"), concurrency=1)
    bench.publish(routes=(Route(revision_id="rev1", weight=100, replicas=(one_place,)),))
    await bench.settled()
    bench.triton.behaviour = Behaviour(tokens=2, delay_s=0.1)
    calls = bench.triton.calls
    most_at_once = 0

    async def watch() -> None:
        nonlocal most_at_once
        while True:
            working = sum(not call.finished and call.left_at is None for call in calls)
            most_at_once = max(most_at_once, working)
            await asyncio.sleep(0.005)

    watching = asyncio.create_task(watch())
    batch = await desk.submit(jsonl([chat_line(number, content="line") for number in range(LINES)]))
    await eventually(lambda: len(calls) >= 3)
    person = chat_line(0, content="person")["body"]
    people = await asyncio.gather(*(bench.http_status("/v1/chat/completions", person) for _ in range(PEOPLE)))
    asked = ["person" in call.payload["text_input"] for call in calls]
    assert people == [200] * PEOPLE
    assert asked.count(False) < LINES  # the batch was there all the time
    done = await desk.until(batch.id, "completed")
    watching.cancel()

    first, last = asked.index(True), len(asked) - 1 - asked[::-1].index(True)
    # Whoever comes waits for the line that has the place, and for none after it.
    assert asked[first:last].count(False) <= 1
    # The engine's last byte is read before its own end of the call is seen: for a moment there seem to be two.
    assert most_at_once <= 2
    assert len(await desk.lines(done.output_file_id)) == LINES
    assert done.error_file_id is None
    await eventually(lambda: bench.control.requests().get("completed") == LINES + PEOPLE)
