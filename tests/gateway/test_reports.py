"""What the gateway tells of its region's replicas: the lines asked for, read politely, passed on unread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from aiohttp import web

from gateway.contract import MOST_REPORTED_BYTES, Replica, Route
from tests.fakes.control_plane import TOKEN
from tests.gateway.conftest import Bench, eventually
from tests.gateway.world import replica

TEXT = """\
# HELP nv_gpu_memory_used_bytes GPU used memory, in bytes
# TYPE nv_gpu_memory_used_bytes gauge
nv_gpu_memory_used_bytes{gpu_uuid="GPU-1"} 70000000000
nv_inference_request_success{model="m",version="1"} 12
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="used",model="m",version="1"} 40
trtllm_kv_cache_utilization{model_name="m"} 0.5
trtllm_e2e_request_latency_seconds_sum{model_name="m"} 3
"""
KEPT = """\
nv_gpu_memory_used_bytes{gpu_uuid="GPU-1"} 70000000000
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="used",model="m",version="1"} 40
trtllm_kv_cache_utilization{model_name="m"} 0.5
"""


class Engine:
    """Shows metrics, and counts who asks."""

    def __init__(self) -> None:
        self.text = TEXT
        self.hang = self.redirect = False
        self.asked = self.at_once = self.most_at_once = 0
        self.authorizations: set[str | None] = set()

    async def __aenter__(self) -> Engine:
        application = web.Application()
        application.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(
            application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/metrics"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        self.authorizations.add(request.headers.get("authorization"))
        self.asked += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.redirect:
                raise web.HTTPFound("/metrics")
            await asyncio.sleep(3_600 if self.hang else 0)
            return web.Response(text=self.text)
        finally:
            self.at_once -= 1


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine() as engine:
        yield engine


def shown(engine: Engine, replica_id: str = "r1", **more: object) -> Replica:
    made = replica("http://127.0.0.1:1", replica_id=replica_id, **more)  # type: ignore[arg-type]
    return msgspec.structs.replace(made, metrics_url=engine.url)


def publish(bench: Bench, *replicas: Replica) -> None:
    bench.publish(routes=(Route(revision_id="rev1", weight=1, replicas=replicas),))


async def test_only_the_lines_asked_for_are_passed_on(bench: Bench, engine: Engine) -> None:
    silent = replica("http://127.0.0.1:1", replica_id="silent")
    elsewhere = shown(engine, "elsewhere", region="eu-fi-1")
    publish(bench, shown(engine), silent, elsewhere)

    await eventually(lambda: bool(bench.control.reports))

    assert bench.control.reports[0] == {"r1": KEPT}
    assert bench.control.tokens == {f"Bearer {TOKEN}"}
    assert engine.authorizations == {None}


async def test_an_engine_that_hangs_is_asked_once_and_holds_up_nobody_for_long(
    bench: Bench, engine: Engine
) -> None:
    async with Engine() as slow:
        slow.hang = True
        publish(bench, shown(slow, "slow"), shown(engine, "quick"))

        await eventually(lambda: len(bench.control.reports) >= 2)

    assert slow.most_at_once == 1
    assert all(set(report) == {"quick"} for report in bench.control.reports)


@pytest.mark.parametrize("fault", ["nothing-asked-for", "too-much", "redirect", "away"])
async def test_nothing_is_reported_of_a_replica_that_shows_nothing(
    bench: Bench, engine: Engine, fault: str
) -> None:
    async with Engine() as faulty:
        if fault == "nothing-asked-for":
            faulty.text = "up 1\n"
        elif fault == "too-much":
            faulty.text = "nv_gpu_memory_used_bytes 1\n" + "x" * 1024 * 1024
        faulty.redirect = fault == "redirect"
        target = shown(faulty, "faulty")
        if fault == "away":
            target = msgspec.structs.replace(target, metrics_url="http://127.0.0.1:1/metrics")
        publish(bench, target, shown(engine))

        await eventually(lambda: len(bench.control.reports) >= 2)

    assert all(set(report) == {"r1"} for report in bench.control.reports)


async def test_a_report_is_cut_at_a_line(bench: Bench, engine: Engine) -> None:
    engine.text = "".join(f'nv_gpu_memory_used_bytes{{gpu_uuid="GPU-{n}"}} {n}\n' for n in range(1_000))
    publish(bench, shown(engine))

    await eventually(lambda: bool(bench.control.reports))

    report = bench.control.reports[0]["r1"]
    assert engine.text.startswith(report)
    assert report.endswith("\n")
    assert MOST_REPORTED_BYTES - 60 < len(report) <= MOST_REPORTED_BYTES
