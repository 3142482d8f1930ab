"""The gateway as a process: settings, one per folder, draining, and kill -9 under load."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from gateway.config import ConfigurationError, read_config
from gateway.usage_log import summarize
from tests.fakes.triton import Behaviour
from tests.gateway.conftest import Bench, eventually
from tests.gateway.world import KEY

ROOT = Path(__file__).parents[2]
CHAT = {"model": "docs", "messages": [{"role": "user", "content": "hello there"}]}
GOOD = {
    "BERTH_GATEWAY_NAME": "gw-1",
    "BERTH_GATEWAY_REGION": "eu",
    "BERTH_GATEWAY_TOKEN": "t",
    "BERTH_CONTROL_PLANE_URL": "http://localhost:8000/",
    "BERTH_KEY_PEPPERS": "1:aa,2:bb",
}


class Process:
    """One ``python -m gateway``."""

    def __init__(self, bench: Bench, **environment: str) -> None:
        self._bench = bench
        self._environment = environment
        self.url = ""

    async def start(self) -> None:
        address = self._bench.folder / "address.json"
        address.unlink(missing_ok=True)
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", cwd=ROOT, stderr=asyncio.subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], **self._bench.environment(**self._environment)},
        )  # fmt: skip
        deadline = time.monotonic() + 30
        while True:
            assert self.process.returncode is None, "the gateway did not start"
            assert time.monotonic() < deadline
            with contextlib.suppress(OSError, ValueError, aiohttp.ClientError):
                self.url = json.loads(address.read_text())["url"]
                async with self._bench.http.get(f"{self.url}/readyz") as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.02)

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()


@pytest.fixture
async def process(idle: Bench) -> AsyncIterator[Process]:
    process = Process(idle)
    await process.start()
    yield process
    if process.process.returncode is None:
        await process.kill()


async def test_kill_9_under_load_loses_no_completed_request_and_doubles_none(
    idle: Bench, process: Process
) -> None:
    idle.triton.behaviour = Behaviour(tokens=6, delay_s=0.002)
    completed = asked = 0

    async def client() -> None:
        nonlocal completed, asked
        while True:
            asked += 1
            headers = {"authorization": f"Bearer {KEY}"}
            try:
                async with idle.http.post(
                    f"{process.url}/v1/chat/completions", json={**CHAT, "stream": True}, headers=headers
                ) as response:
                    body = await response.read()
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(0.02)
                continue
            completed += body.endswith(b"data: [DONE]\n\n")

    rng = random.Random(11)
    clients = [asyncio.create_task(client()) for _ in range(8)]
    for _ in range(3):
        seen = completed
        await eventually(lambda seen=seen: completed > seen + 20)
        await asyncio.sleep(rng.random() * 0.3)
        await process.kill()
        await process.start()
    seen = completed
    await eventually(lambda: completed > seen + 20)
    for task in clients:
        task.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    process.process.send_signal(signal.SIGTERM)
    assert await process.process.wait() == 0

    local = summarize(idle.folder)
    shipped = idle.control.requests()
    assert local["unacknowledged_segments"] == local["uncut"]["requests"] == 0
    assert sum(shipped.values()) == local["total"]["requests"]
    assert idle.control.output_tokens()["completed"] == 6 * shipped["completed"]
    # At each kill, and at the end, one request of each client may be recorded but not seen to end.
    assert completed <= shipped["completed"] <= completed + 4 * len(clients)
    identities = sorted(segment.sequence for segment in idle.control.segments.values())
    assert identities == list(range(1, len(identities) + 1))


async def test_sigterm_lets_streams_finish_and_ships_the_rest(idle: Bench, process: Process) -> None:
    idle.triton.behaviour = Behaviour(tokens=10, delay_s=0.05)
    async with idle.http.post(
        f"{process.url}/v1/chat/completions",
        json={**CHAT, "stream": True},
        headers={"authorization": f"Bearer {KEY}"},
    ) as response:
        process.process.send_signal(signal.SIGTERM)
        body = await response.read()

    assert await process.process.wait() == 0
    assert body.endswith(b"data: [DONE]\n\n")
    assert idle.control.requests() == {"completed": 1}
    assert not (idle.folder / "address.json").exists()


async def test_readiness_fails_first_then_the_port_closes_then_streams_end(idle: Bench) -> None:
    process = Process(idle, BERTH_GATEWAY_NOTICE_S="1.5", BERTH_GATEWAY_DRAIN_S="20")
    await process.start()
    idle.triton.next_behaviours = [Behaviour(tokens=16, delay_s=0.25), Behaviour(tokens=2)]
    chat = f"{process.url}/v1/chat/completions"
    headers = {"authorization": f"Bearer {KEY}"}
    try:
        async with idle.http.post(chat, json={**CHAT, "stream": True}, headers=headers) as streaming:
            await streaming.content.readany()
            process.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(15):
                while (await idle.http.get(f"{process.url}/readyz")).status != 503:
                    await asyncio.sleep(0.01)
            # Who has not heard of it yet is still served, on a connection that is not kept.
            async with (
                aiohttp.ClientSession() as late,
                late.post(chat, json=CHAT, headers=headers) as answer,
            ):
                assert answer.status == 200
                assert answer.headers["connection"] == "close"
            async with asyncio.timeout(15):
                while await _answers(process.url):
                    await asyncio.sleep(0.02)
            assert not idle.triton.calls[0].finished
            body = await streaming.read()
        assert await process.process.wait() == 0
    finally:
        if process.process.returncode is None:
            await process.kill()

    assert body.endswith(b"data: [DONE]\n\n")
    assert idle.control.requests() == {"completed": 2}
    assert summarize(idle.folder)["unacknowledged_segments"] == 0


async def test_what_cannot_be_shipped_stays_on_the_volume_for_the_successor(
    idle: Bench, process: Process
) -> None:
    idle.control.usage_status = 503
    headers = {"authorization": f"Bearer {KEY}"}
    async with idle.http.post(f"{process.url}/v1/chat/completions", json=CHAT, headers=headers) as answer:
        assert answer.status == 200
        await answer.read()
    process.process.send_signal(signal.SIGTERM)
    assert await process.process.wait() == 0
    assert summarize(idle.folder)["unacknowledged_segments"] == 1
    assert idle.control.segments == {}

    idle.control.usage_status = 200
    await process.start()
    await eventually(lambda: summarize(idle.folder)["unacknowledged_segments"] == 0)
    assert idle.control.requests() == {"completed": 1}
    assert [segment.sequence for segment in idle.control.segments.values()] == [1]


async def _answers(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as http, http.get(f"{url}/healthz") as answer:
            return answer.status == 200
    except aiohttp.ClientConnectorError:
        return False


async def test_draining_ends_and_what_is_broken_off_says_so(idle: Bench) -> None:
    await idle.ready(BERTH_GATEWAY_DRAIN_S="0.2")
    idle.triton.behaviour = Behaviour(tokens=10, hang_after=3)
    async with idle.post("/v1/chat/completions", {**CHAT, "stream": True}) as response:
        reading = asyncio.create_task(response.read())
        await idle.stop()
        body = (await reading).decode()

    last = json.loads(body.strip().split("\n\n")[-1].removeprefix("data: "))
    assert last["error"]["code"] == "stopping"
    assert idle.control.requests() == {"failed": 1}
    assert idle.control.output_tokens() == {"failed": 3}


async def test_two_processes_cannot_share_a_folder(idle: Bench, process: Process) -> None:
    second = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", cwd=ROOT, stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], **idle.environment()},
    )  # fmt: skip
    _, message = await second.communicate()

    assert second.returncode == 2
    assert str(process.process.pid) in message.decode()
    assert "BERTH_GATEWAY_NAME" in message.decode()


@pytest.mark.parametrize("name", list(GOOD))
def test_missing_settings_are_named(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        read_config({key: value for key, value in GOOD.items() if key != name})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BERTH_GATEWAY_NAME", "../up"),
        ("BERTH_CONTROL_PLANE_URL", "localhost:8000"),
        ("BERTH_GATEWAY_PORT", "http"),
        ("BERTH_GATEWAY_PORT", "70000"),
        ("BERTH_KEY_PEPPERS", "1:zz"),
        ("BERTH_KEY_PEPPERS", "aa"),
        ("BERTH_GATEWAY_SEGMENT_WINDOW_S", "0"),
        ("BERTH_GATEWAY_SEGMENT_WINDOW_S", "nan"),
        ("BERTH_GATEWAY_LOG_LEVEL", "LOUD"),
        ("BERTH_GATEWAY_FILES_KEYS", "1:aa"),
        ("BERTH_GATEWAY_FILES_KEYS", "-1:" + "aa" * 32),
        ("BERTH_GATEWAY_FILE_LIMIT_BYTES", "1"),
        ("BERTH_GATEWAY_OPEN_BATCHES", "0"),
    ],
)
def test_wrong_settings_are_named(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=name) as caught:
        read_config({**GOOD, name: value})
    if name in ("BERTH_KEY_PEPPERS", "BERTH_GATEWAY_FILES_KEYS"):
        assert value not in str(caught.value).replace("1:<hex digits>,2:<hex digits>", "")


def test_good_settings() -> None:
    config = read_config(GOOD)

    assert config.peppers == {1: b"\xaa", 2: b"\xbb"}
    assert config.control_plane_url == "http://localhost:8000"
    assert (config.host, config.port) == ("127.0.0.1", 0)
    assert config.folder == Path(".berth/gateway/gw-1").absolute()
    assert config.files.folder == config.folder / "files"
    assert config.files.keys == {}
