"""Batches outlive the process that runs them: each line has one result, and what is asked again is metered again."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from pathlib import Path
from typing import Any

import openai

from gateway.batches.batches import Claim
from gateway.batches.journal import Answer, Journal
from tests.fakes.triton import Behaviour
from tests.gateway.batches.conftest import FILES_KEY, Desk, chat_line, jsonl
from tests.gateway.conftest import Bench, eventually
from tests.gateway.test_process import Process
from tests.gateway.world import KEY

LINES = 120


def client_of(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key=KEY, base_url=f"{url}/v1", max_retries=0)


async def order(url: str, content: bytes) -> str:
    async with client_of(url) as client:
        file = await client.files.create(file=("in", content), purpose="batch")
        batch = await client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
    return batch.id


async def finished(url: str, batch_id: str) -> list[str]:
    """Wait for a batch to complete; give the custom ids of its output in order."""
    async with client_of(url) as client, asyncio.timeout(120):
        while (batch := await client.batches.retrieve(batch_id)).status != "completed":
            assert batch.status in ("validating", "in_progress", "finalizing")
            await asyncio.sleep(0.1)
        assert batch.error_file_id is None
        text = (await client.files.content(str(batch.output_file_id))).text
        return [line.partition('"custom_id":"')[2].partition('"')[0] for line in text.splitlines()]


async def test_kill_9_in_the_middle_leaves_one_result_of_every_line(idle: Bench) -> None:
    idle.triton.behaviour = Behaviour(tokens=4, delay_s=0.01)
    process = Process(idle, BERTH_GATEWAY_FILES_KEYS=FILES_KEY, BERTH_GATEWAY_BATCH_LINES="4")
    await process.start()
    kills = 4
    try:
        batch_id = await order(process.url, jsonl([chat_line(number) for number in range(LINES)]))
        rng = random.Random(5)
        for _ in range(kills):
            asked = len(idle.triton.calls)
            await eventually(lambda asked=asked: len(idle.triton.calls) >= asked + 10, timeout_s=60)
            await asyncio.sleep(rng.random() * 0.1)
            await process.kill()
            await process.start()
        ids = await finished(process.url, batch_id)
        process.process.send_signal(signal.SIGTERM)
        assert await process.process.wait() == 0
    finally:
        if process.process.returncode is None:
            await process.kill()

    assert ids == [f"line-{number}" for number in range(LINES)]
    # Lines whose answers were not stored yet were asked, and metered, again: at most those in flight at a kill.
    completed = idle.control.requests()["completed"]
    assert LINES <= completed <= LINES + kills * 4
    assert completed <= len(idle.triton.calls) <= LINES + kills * 4


async def test_sigterm_ends_after_the_lines_in_flight_and_repeats_none(idle: Bench) -> None:
    idle.triton.behaviour = Behaviour(tokens=4, delay_s=0.05)
    process = Process(idle, BERTH_GATEWAY_FILES_KEYS=FILES_KEY)
    await process.start()
    try:
        batch_id = await order(process.url, jsonl([chat_line(number) for number in range(30)]))
        await eventually(lambda: len(idle.triton.calls) >= 5, timeout_s=60)
        process.process.send_signal(signal.SIGTERM)
        assert await process.process.wait() == 0
        asked = len(idle.triton.calls)
        assert asked < 30
        assert all(call.finished for call in idle.triton.calls)
        await process.start()
        assert await finished(process.url, batch_id) == [f"line-{number}" for number in range(30)]
    finally:
        if process.process.returncode is None:
            await process.kill()
    assert len(idle.triton.calls) == 30


async def test_another_gateway_of_the_region_goes_on(idle: Bench, tmp_path_factory: Any) -> None:
    idle.triton.behaviour = Behaviour(tokens=4, delay_s=0.02)
    shared = {
        "BERTH_GATEWAY_FILES_KEYS": FILES_KEY,
        "BERTH_GATEWAY_FILES_DIR": str(tmp_path_factory.mktemp("shared")),
    }
    first = Process(idle, **shared)
    await first.start()
    idle.data_dir = tmp_path_factory.mktemp("second")
    try:
        batch_id = await order(first.url, jsonl([chat_line(number) for number in range(40)]))
        await idle.ready(**shared)
        await eventually(lambda: len(idle.triton.calls) >= 8, timeout_s=60)
        await first.kill()
        ids = await finished(idle.url, batch_id)
    finally:
        if first.process.returncode is None:
            await first.kill()

    assert ids == [f"line-{number}" for number in range(40)]
    assert 40 <= len(idle.triton.calls) <= 40 + 16


async def test_two_gateways_never_run_one_batch_at_once(desk: Desk) -> None:
    desk.bench.triton.behaviour = Behaviour(tokens=2, delay_s=0.1)
    batch = await desk.submit(jsonl([chat_line(number) for number in range(200)]))
    await eventually(lambda: len(desk.bench.triton.calls) >= 2)
    folder = next(desk.bench.folder.rglob(batch.id))

    assert Claim.take(folder) is None
    await desk.client().batches.cancel(batch.id)
    await desk.until(batch.id, "cancelled")
    await eventually(lambda: _free(folder))


def _free(folder: Path) -> bool:
    claim = Claim.take(folder)
    if claim is not None:
        claim.release()
    return claim is not None


def test_a_torn_answer_is_dropped_and_the_rest_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path, key=b"k" * 32, batch_id="b")
    journal.append([Answer(3, True, b"three"), Answer(1, False, b"one")])
    whole = path.stat().st_size
    journal.append([Answer(2, True, b"two")])
    journal.close()

    for size in range(whole, path.stat().st_size):
        torn = tmp_path / f"torn-{size}"
        torn.write_bytes(path.read_bytes()[:size])
        again = Journal(torn, key=b"k" * 32, batch_id="b")
        assert again.numbers() == [1, 3]
        assert (again.completed, again.failed) == (1, 1)
        again.append([Answer(2, True, b"again")])
        again.close()
        last = Journal(torn, key=b"k" * 32, batch_id="b")
        assert [last.read(number).content for number in last.numbers()] == [b"one", b"again", b"three"]
        last.close()


def test_answers_cannot_be_exchanged(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path, key=b"k" * 32, batch_id="b")
    journal.append([Answer(1, True, b"aaa"), Answer(2, True, b"bbb")])
    journal.close()
    content = path.read_bytes()
    half = len(content) // 2
    os.truncate(path, 0)
    path.write_bytes(content[half:] + content[:half])

    touched = Journal(path, key=b"k" * 32, batch_id="b")
    assert touched.numbers() == []
    touched.close()
