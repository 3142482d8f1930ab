"""A gateway between a fake engine and a fake control plane, all in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import openai
import pytest

from gateway.config import read_config
from gateway.contract import Snapshot
from gateway.server import GatewayServer
from gateway.usage_log import summarize
from tests.fakes.control_plane import TOKEN, FakeControlPlane
from tests.fakes.triton import FakeTriton
from tests.gateway.world import KEY, PEPPER, World


async def eventually(condition: Callable[[], bool], *, timeout_s: float = 15.0) -> None:
    """Wait until ``condition`` holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.01)


@dataclasses.dataclass
class Bench:
    """What most tests need at hand."""

    triton: FakeTriton
    control: FakeControlPlane
    world: World
    data_dir: Path
    http: aiohttp.ClientSession
    server: GatewayServer | None = None
    window_s: str = "0.1"
    clock: Callable[[], float] = time.time
    clients: list[openai.AsyncOpenAI] = dataclasses.field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.data_dir / "gateway" / "gw-1"

    @property
    def url(self) -> str:
        assert self.server is not None
        return self.server.url

    def environment(self, **more: str) -> dict[str, str]:
        return {
            "BERTH_GATEWAY_NAME": "gw-1",
            "BERTH_GATEWAY_REGION": "eu-de-1",
            "BERTH_GATEWAY_TOKEN": TOKEN,
            "BERTH_CONTROL_PLANE_URL": self.control.url,
            "BERTH_DATA_DIR": str(self.data_dir),
            "BERTH_KEY_PEPPERS": f"7:{PEPPER.hex()}",
            "BERTH_GATEWAY_SEGMENT_WINDOW_S": self.window_s,
            "BERTH_GATEWAY_DRAIN_S": "5",
            "BERTH_GATEWAY_REPORT_S": "0.1",
            "BERTH_GATEWAY_SIGNAL_S": "0.1",
            **more,
        }

    async def start(self, **more: str) -> GatewayServer:
        """Start the gateway and wait for a first snapshot, if there is one to be had."""
        self.server = GatewayServer(read_config(self.environment(**more)), clock=self.clock)
        await self.server.start()
        return self.server

    async def ready(self, **more: str) -> GatewayServer:
        server = await self.start(**more)
        async with asyncio.timeout(15):
            while (await self.http.get(f"{server.url}/readyz")).status != 200:
                await asyncio.sleep(0.01)
        return server

    async def stop(self) -> None:
        if self.server is not None:
            server, self.server = self.server, None
            await server.stop()

    def publish(self, **changes: object) -> None:
        """Change the endpoint of the world and publish it."""
        self.control.publish(self.world.snapshot(self.triton.url, **changes))

    async def settled(self) -> None:
        """Wait until the gateway has the snapshot that was published last."""
        assert isinstance(self.control.snapshot, Snapshot)
        version = self.control.snapshot.version
        async with asyncio.timeout(15):
            while await self._version() != version:
                await asyncio.sleep(0.01)

    async def _version(self) -> str:
        async with self.http.get(f"{self.url}/readyz") as response:
            document = await response.json()
        return str(document["snapshot_version"])

    def post(
        self, path: str, body: object = None, *, key: str | None = KEY, **options: object
    ) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        if body is not None:
            options["json"] = body
        return self.http.post(self.url + path, headers=headers, **options)  # type: ignore[arg-type]

    async def http_status(self, path: str, body: object) -> int:
        """Post, read everything, and give the status."""
        async with self.post(path, body) as response:
            await response.read()
            return response.status

    async def in_flight(self, count: int) -> None:
        """Wait until the gateway has ``count`` generating requests in progress."""
        async with asyncio.timeout(15):
            while True:
                async with self.http.get(f"{self.url}/metrics") as response:
                    if f"berth_gateway_in_flight {float(count)}" in await response.text():
                        return
                await asyncio.sleep(0.01)

    def openai(self, key: str = KEY) -> openai.AsyncOpenAI:
        client = openai.AsyncOpenAI(api_key=key, base_url=f"{self.url}/v1", max_retries=0)
        self.clients.append(client)
        return client

    def totals(self) -> dict[str, dict[str, int]]:
        """Give requests and tokens by outcome, from the local log and spool."""
        by_outcome: dict[str, dict[str, int]] = summarize(self.folder)["by_outcome"]
        return by_outcome


@pytest.fixture
async def idle(tmp_path: Path) -> AsyncIterator[Bench]:
    """Engine and control plane run; the gateway does not yet."""
    world = World()
    async with FakeTriton() as triton, aiohttp.ClientSession() as http:
        control = await FakeControlPlane(world.snapshot(triton.url)).start()
        bench = Bench(triton=triton, control=control, world=world, data_dir=tmp_path, http=http)
        try:
            yield bench
        finally:
            for client in bench.clients:
                await client.close()
            await bench.stop()
            await control.stop()


@pytest.fixture
async def bench(idle: Bench) -> Bench:
    """A gateway that is ready."""
    await idle.ready()
    return idle
