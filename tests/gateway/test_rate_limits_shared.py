"""One limit, three gateway processes, one Redis: nothing spills, and a Redis that goes and comes costs little."""

from __future__ import annotations

import asyncio
import collections
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
import redis

from embedded.datadir import DataDir
from embedded.redis import Redis
from gateway.contract import RateLimits
from gateway.limits import SharedCounters
from gateway.limits.charges import Charge
from tests.fakes.triton import Behaviour
from tests.gateway.conftest import Bench, eventually
from tests.gateway.world import KEY

ROOT = Path(__file__).parents[2]
PROMPT = {"model": "docs", "prompt": "one two", "max_tokens": 5}
LIMIT = 90


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Redis]:
    running = Redis(DataDir(tmp_path / "redis"))
    running.start()
    try:
        yield running
    finally:
        running.stop()


class Fleet:
    """Three processes of the gateway ``gw-1``, as its pods would be."""

    def __init__(self, bench: Bench, server: Redis) -> None:
        self._bench = bench
        self._server = server
        self._processes: list[asyncio.subprocess.Process] = []
        self.urls: list[str] = []

    async def start(self) -> None:
        folders = [self._bench.data_dir / f"pod-{number}" for number in range(3)]
        for folder in folders:
            environment = self._bench.environment(
                BERTH_DATA_DIR=str(folder),
                BERTH_GATEWAY_REDIS_URL=self._server.url(3),
                # Busy machines must not make this a test of their scheduler.
                BERTH_GATEWAY_REDIS_CALL_S="5",
            )
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gateway", cwd=ROOT, stderr=asyncio.subprocess.DEVNULL,
                env={"PATH": os.environ["PATH"], **environment},
            )  # fmt: skip
            self._processes.append(process)
        addresses = [folder / "gateway" / "gw-1" / "address.json" for folder in folders]
        await eventually(lambda: all(address.exists() for address in addresses), timeout_s=60)
        self.urls = [json.loads(address.read_text())["url"] for address in addresses]

    async def counted(self, how: str) -> None:
        """Wait until all are ready and count limits in this way."""
        async with asyncio.timeout(60):
            for url in self.urls:
                while True:
                    async with self._bench.http.get(f"{url}/readyz") as response:
                        document = await response.json()
                    if response.status == 200 and document["limits"] == how:
                        break
                    await asyncio.sleep(0.02)

    async def ask(self, url: str) -> aiohttp.ClientResponse:
        headers = {"authorization": f"Bearer {KEY}"}
        async with self._bench.http.post(f"{url}/v1/completions", json=PROMPT, headers=headers) as response:
            await response.read()
            return response

    async def fire(self, count: int, *urls: str) -> collections.Counter[int]:
        """Send ``count`` requests at once, in turns to ``urls``; gives how many had which status."""
        asked = [self.ask(urls[number % len(urls)]) for number in range(count)]
        return collections.Counter(response.status for response in await asyncio.gather(*asked))

    async def kill(self) -> None:
        for process in self._processes:
            process.kill()
            await process.wait()


@pytest.fixture
async def fleet(idle: Bench, server: Redis) -> AsyncIterator[Fleet]:
    idle.triton.behaviour = Behaviour(tokens=3)
    fleet = Fleet(idle, server)
    try:
        yield fleet
    finally:
        await fleet.kill()


async def publish(bench: Bench, fleet: Fleet, **rates: int) -> None:
    bench.world.more = {"gateways": 3, "gateways_here": 3}
    bench.publish(rates=RateLimits(**rates))
    await fleet.start()
    await fleet.counted("shared")


async def test_exactly_the_limit_passes_of_three_times_as_many(idle: Bench, fleet: Fleet) -> None:
    await publish(idle, fleet, requests_per_minute=LIMIT)

    statuses = await fleet.fire(3 * LIMIT + 30, *fleet.urls)

    assert statuses == {200: LIMIT, 429: 2 * LIMIT + 30}
    assert len(idle.triton.calls) == LIMIT
    for url in fleet.urls:
        async with idle.http.get(f"{url}/metrics") as response:
            assert "berth_gateway_limits_shared 1.0" in await response.text()


async def test_tokens_that_were_not_used_are_given_back_to_all(idle: Bench, fleet: Fleet) -> None:
    await publish(idle, fleet, tokens_per_minute=150)

    async def passes(number: int) -> bool:
        return (await fleet.ask(fleet.urls[number % 3])).status == 200

    # Each may use 15 and uses 5: the 28th still finds 15 of 150, the 29th does not.
    for number in range(28):
        async with asyncio.timeout(15):
            while not await passes(number):
                await asyncio.sleep(0.02)
    await asyncio.sleep(0.3)
    assert not await passes(28)


@pytest.mark.parametrize("lost", [False, True], ids=["data kept", "data lost"])
async def test_redis_may_go_and_come_back(idle: Bench, fleet: Fleet, server: Redis, lost: bool) -> None:
    await publish(idle, fleet, requests_per_minute=LIMIT)
    first, second, third = fleet.urls

    # All through one gateway, the worst there is: it has let all through when the others fall back to their share.
    before = await fleet.fire(LIMIT + 10, first)
    if lost:
        with redis.Redis.from_url(server.url(3)) as connection:
            connection.flushall()
    server.stop()
    away = await fleet.fire(LIMIT, first, second, third)
    await fleet.counted("local")
    away += await fleet.fire(2 * LIMIT, first, second, third)
    server.start(same_port=True)
    await fleet.counted("shared")
    after = await fleet.fire(3 * LIMIT, first, second, third)

    assert before == {200: LIMIT, 429: 10}
    assert away == {200: 2 * LIMIT // 3, 429: 3 * LIMIT - 2 * LIMIT // 3}
    assert after == {429: 3 * LIMIT}


async def test_without_redis_each_keeps_to_its_share(idle: Bench, fleet: Fleet, server: Redis) -> None:
    server.stop()
    idle.world.more = {"gateways": 3, "gateways_here": 3}
    idle.publish(rates=RateLimits(requests_per_minute=LIMIT))
    await fleet.start()
    await fleet.counted("local")

    assert await fleet.fire(3 * LIMIT, *fleet.urls) == {200: LIMIT, 429: 2 * LIMIT}


async def test_who_leaves_before_redis_answers_is_not_counted(server: Redis) -> None:
    counters = SharedCounters(server.url(4), call_s=5)
    running = asyncio.create_task(counters.run())
    try:
        await eventually(lambda: counters.available)
        leaving = asyncio.create_task(counters.enter([Charge("berth:limits:key:k", 5, 4)]))
        await asyncio.sleep(0)
        leaving.cancel()

        async with asyncio.timeout(15):
            while (await counters.enter([Charge("berth:limits:key:k", 5, 5)])).refused >= 0:  # type: ignore[union-attr]
                await asyncio.sleep(0.02)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_redis_that_hangs_holds_a_request_up_for_one_call_only(server: Redis) -> None:
    counters = SharedCounters(server.url(4), call_s=0.05)
    running = asyncio.create_task(counters.run())
    try:
        await eventually(lambda: counters.available)
        with redis.Redis.from_url(server.url(4)) as connection:
            blocked = asyncio.create_task(
                asyncio.to_thread(connection.execute_command, "DEBUG", "SLEEP", "1")
            )
            async with asyncio.timeout(15):
                while await counters.enter([Charge("a", 10**9, 1)]) is not None:
                    await asyncio.sleep(0.005)
            assert not counters.available
            assert await counters.enter([Charge("a", 10**9, 1)]) is None
            await blocked
            await eventually(lambda: counters.available)
            assert not counters.doubted
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
