"""Routes to fake engines that know this or that."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import msgspec

from gateway.contract import EngineProtocol, Replica, Route, Timeouts
from tests.fakes.trtllm_serve import FakeTrtllmServe
from tests.gateway.conftest import Bench
from tests.gateway.world import TIMEOUTS, replica

ALL = (
    "chat", "tools", "parallel_tool_calls", "response_format", "logprobs", "logit_bias", "embeddings", "dimensions",
    "cache_salt", "priority",
)  # fmt: skip


def serve_replica(url: str, *, features: tuple[str, ...] = ALL, replica_id: str = "r1") -> Replica:
    """Make a replica of ``trtllm-serve``."""
    return msgspec.structs.replace(
        replica(url, replica_id=replica_id),
        protocol=EngineProtocol.OPENAI_HTTP,
        engine_model="llama",
        features=features,
    )


def route(*replicas: Replica) -> tuple[Route, ...]:
    """Make the routes to one revision of ``replicas``."""
    return (Route(revision_id="rev1", weight=100, replicas=replicas),)


@contextlib.asynccontextmanager
async def serving(
    bench: Bench, *, features: tuple[str, ...] = ALL, timeouts: Timeouts = TIMEOUTS, **changes: object
) -> AsyncIterator[FakeTrtllmServe]:
    """Route the bench's endpoint to a ``trtllm-serve`` that knows ``features``."""
    async with FakeTrtllmServe() as engine:
        bench.publish(
            routes=route(serve_replica(engine.url, features=features)), timeouts=timeouts, **changes
        )
        await bench.settled()
        yield engine
