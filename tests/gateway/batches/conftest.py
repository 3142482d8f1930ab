"""A gateway whose files are on, and what tests of batches ask of it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai.types import Batch

from tests.gateway.conftest import Bench
from tests.gateway.world import KEY

FILES_KEY = "3:" + "c4" * 32
ENDED = ("completed", "failed", "expired", "cancelled")


class Clock:
    """The time of day, which a test may move on."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


def chat_line(number: int, *, content: str = "hello there", **body: Any) -> dict[str, Any]:
    """Make one line of a batch."""
    messages = [{"role": "user", "content": content}]
    return {
        "custom_id": f"line-{number}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "docs", "messages": messages, **body},
    }


def jsonl(lines: list[Any]) -> bytes:
    """Write lines as an upload has them."""
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


@dataclasses.dataclass
class Desk:
    """A bench with files on, and its official client."""

    bench: Bench
    clock: Clock

    def client(self, key: str = KEY) -> openai.AsyncOpenAI:
        return self.bench.openai(key)

    async def restart(self, **more: str) -> None:
        await self.bench.stop()
        await self.bench.ready(BERTH_GATEWAY_FILES_KEYS=FILES_KEY, **more)

    async def upload(self, content: bytes, *, key: str = KEY, name: str = "input.jsonl") -> str:
        file = await self.client(key).files.create(file=(name, content), purpose="batch")
        return file.id

    async def submit(self, content: bytes, *, key: str = KEY, **order: Any) -> Batch:
        """Upload an input and order a batch of it."""
        return await self.client(key).batches.create(
            **{
                "input_file_id": await self.upload(content, key=key),
                "endpoint": "/v1/chat/completions",
                "completion_window": "24h",
                **order,
            }
        )

    async def until(self, batch_id: str, *states: str, key: str = KEY) -> Batch:
        """Wait until a batch is in one of ``states``."""
        client = self.client(key)
        async with asyncio.timeout(60):
            while True:
                batch = await client.batches.retrieve(batch_id)
                if batch.status in states:
                    return batch
                assert batch.status not in ENDED, batch
                await asyncio.sleep(0.05)

    async def lines(self, file_id: str | None) -> list[dict[str, Any]]:
        """Download a file and read its lines."""
        assert file_id is not None
        content = await self.client().files.content(file_id)
        return [json.loads(line) for line in content.text.splitlines()]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def desk(idle: Bench, clock: Clock) -> AsyncIterator[Desk]:
    idle.clock = clock
    await idle.ready(BERTH_GATEWAY_FILES_KEYS=FILES_KEY)
    return Desk(idle, clock)
