"""More than an endpoint's replicas can do: who goes first, who waits, who is refused, and that it passes."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import openai
import pytest
from aiohttp import web

from gateway.contract import Route, SloClass, Timeouts
from tests.fakes.triton import Behaviour, FakeTriton
from tests.gateway.conftest import Bench, eventually
from tests.gateway.world import KEY, key, make_key, replica

BATCH_KEY = make_key("f")
PATH = "/v1/completions"
TIMEOUTS = Timeouts(first_token_s=60.0, between_tokens_s=60.0, total_s=120.0)
INTERACTIVE = SloClass(name="interactive", priority=1, queue_s=60.0, timeouts=TIMEOUTS)
BATCH = SloClass(name="batch", priority=3, queue_s=60.0, timeouts=TIMEOUTS)


def body(prompt: str) -> dict[str, Any]:
    return {"model": "docs", "prompt": prompt}


@pytest.fixture
async def busy(idle: Bench) -> AsyncIterator[Bench]:
    """One replica that works on one request at a time, and answers none until the test says so."""
    idle.world.keys = (*idle.world.keys, key(BATCH_KEY, "k5", slo_class="batch"))
    idle.world.more = {"classes": (INTERACTIVE, BATCH)}
    publish(idle, concurrency=1)
    idle.triton.behaviour = Behaviour(until=asyncio.Event())
    yield idle
    release(idle)


def publish(bench: Bench, *, concurrency: int, second: FakeTriton | None = None) -> None:
    urls = {"mine": bench.triton.url} | ({"new": second.url} if second else {})
    replicas = tuple(
        msgspec.structs.replace(replica(url, replica_id=name), concurrency=concurrency)
        for name, url in urls.items()
    )
    bench.publish(routes=(Route(revision_id="rev1", weight=1, replicas=replicas),))


def release(bench: Bench) -> None:
    assert bench.triton.behaviour.until is not None
    bench.triton.behaviour.until.set()


async def metric(bench: Bench, name: str, **labels: str) -> float:
    """Read one series of the gateway's metrics, 0 where it is not shown."""
    async with bench.http.get(f"{bench.url}/metrics") as response:
        text = await response.text()
    wanted = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    found = re.search(rf"^{name}{{{re.escape(wanted)}}} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def waiting(bench: Bench, slo_class: str, count: int) -> None:
    async with asyncio.timeout(15):
        while (
            await metric(bench, "berth_gateway_queue_requests", endpoint="e1", slo_class=slo_class) != count
        ):
            await asyncio.sleep(0.01)


class Client:
    """One request, sent at once."""

    def __init__(self, bench: Bench, prompt: str, *, key: str = KEY) -> None:
        self.status = 0
        self.document: dict[str, Any] = {}
        self.headers: Any = {}
        self._bench = bench
        self._prompt, self._key = prompt, key
        self.task = asyncio.create_task(self._send())

    async def _send(self) -> None:
        async with self._bench.post(PATH, body(self._prompt), key=self._key) as response:
            self.document = await response.json()
            self.status, self.headers = response.status, response.headers


async def fill(bench: Bench) -> Client:
    """Have the replica's only place taken."""
    client = Client(bench, "first")
    await eventually(lambda: len(bench.triton.calls) == 1)
    return client


async def test_interactive_goes_before_batch_that_came_earlier(busy: Bench) -> None:
    await busy.ready()
    clients = [await fill(busy), Client(busy, "batch", key=BATCH_KEY)]
    await waiting(busy, "batch", 1)
    clients.append(Client(busy, "interactive"))
    await waiting(busy, "interactive", 1)
    assert await metric(busy, "berth_gateway_queue_oldest_seconds", endpoint="e1") > 0

    release(busy)
    await asyncio.gather(*(client.task for client in clients))

    assert [call.payload["text_input"] for call in busy.triton.calls] == ["first", "interactive", "batch"]
    assert {client.status for client in clients} == {200}
    assert await metric(busy, "berth_gateway_concurrency_limit", replica="mine") == 1


async def test_batch_is_shed_first_and_told_why_in_openais_shape(busy: Bench) -> None:
    await busy.ready(BERTH_GATEWAY_QUEUE_LIMIT="2")
    first = await fill(busy)
    batch = [Client(busy, "batch", key=BATCH_KEY) for _ in range(2)]
    await waiting(busy, "batch", 2)

    urgent = [Client(busy, "interactive") for _ in range(2)]
    await asyncio.gather(*(client.task for client in batch))
    for client in batch:
        assert client.status == 429
        error = client.document["error"]
        assert (error["code"], error["type"], error["param"]) == ("overloaded", "rate_limit_error", None)
        assert re.match(
            r"Endpoint docs is overloaded: .* batch requests .*Try again in \d+ s", error["message"]
        )
        assert int(client.headers["retry-after"]) >= 1
        assert "x-should-retry" not in client.headers
    with pytest.raises(openai.RateLimitError):
        await busy.openai(BATCH_KEY).completions.create(model="docs", prompt="late batch")

    release(busy)
    await asyncio.gather(first.task, *(client.task for client in urgent))
    assert [client.status for client in (first, *urgent)] == [200, 200, 200]
    shed = await metric(busy, "berth_gateway_shed_total", endpoint="e1", slo_class="batch", reason="full")
    assert shed == 3
    assert busy.totals()["refused"] == {
        "requests": 3, "input_tokens": 0, "output_tokens": 0, "cached_tokens": 0,
    }  # fmt: skip
    assert len(busy.triton.calls) == 3


async def test_what_cannot_be_in_time_is_refused_while_the_rest_still_waits(busy: Bench) -> None:
    quick = msgspec.structs.replace(INTERACTIVE, queue_s=2.0)
    busy.world.more = {"classes": (quick, BATCH)}
    publish(busy, concurrency=1)
    await busy.ready()
    until, busy.triton.behaviour = busy.triton.behaviour.until, Behaviour(first_delay_s=0.02)
    # So many at once that it is known how fast they are served.
    known = [Client(busy, "known") for _ in range(24)]
    await asyncio.gather(*(client.task for client in known))

    busy.triton.behaviour = Behaviour(until=until)
    calls = len(busy.triton.calls)
    clients = [Client(busy, "more") for _ in range(150)]
    refused = lambda: [client for client in clients if client.status == 429]  # noqa: E731
    await eventually(lambda: len(refused()) >= 20)
    assert len(busy.triton.calls) <= calls + 1  # nobody was served meanwhile
    assert any(
        "would wait longer than the 2 s" in client.document["error"]["message"] for client in refused()
    )
    assert any(client.status == 0 for client in clients)

    release(busy)
    await asyncio.gather(*(client.task for client in clients))
    assert Counter(client.status for client in clients).keys() == {200, 429}


async def test_a_client_that_leaves_the_queue_leaves_one_record_and_its_place(busy: Bench) -> None:
    await busy.ready()
    first = await fill(busy)
    leaving = Client(busy, "leaving")
    await waiting(busy, "interactive", 1)
    staying = Client(busy, "staying")
    await waiting(busy, "interactive", 2)

    leaving.task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await leaving.task
    await waiting(busy, "interactive", 1)
    await eventually(lambda: "cancelled" in busy.totals())
    release(busy)
    await asyncio.gather(first.task, staying.task)

    assert (first.status, staying.status) == (200, 200)
    assert [call.payload["text_input"] for call in busy.triton.calls] == ["first", "staying"]
    assert {outcome: sums["requests"] for outcome, sums in busy.totals().items()} == {
        "completed": 2,
        "cancelled": 1,
    }
    assert await busy.http_status(PATH, body("again")) == 200


async def test_a_client_that_leaves_its_engine_gives_its_place_to_the_next(busy: Bench) -> None:
    await busy.ready()
    first = await fill(busy)
    second = Client(busy, "second")
    await waiting(busy, "interactive", 1)

    first.task.cancel()
    await eventually(lambda: len(busy.triton.calls) == 2)
    release(busy)
    await second.task

    assert second.status == 200


async def test_a_replica_that_a_snapshot_brings_takes_who_waits(busy: Bench) -> None:
    async with FakeTriton() as second:
        await busy.ready()
        first = await fill(busy)
        clients = [Client(busy, "waiting") for _ in range(3)]
        await waiting(busy, "interactive", 3)

        publish(busy, concurrency=1, second=second)
        await asyncio.gather(*(client.task for client in clients))

        assert {client.status for client in clients} == {200}
        assert len(second.calls) == 3
        release(busy)
        await first.task


async def test_all_is_well_again_after_an_overload(busy: Bench) -> None:
    hasty = msgspec.structs.replace(INTERACTIVE, queue_s=0.2)
    busy.world.more = {"classes": (hasty, BATCH)}
    publish(busy, concurrency=2)
    await busy.ready()
    crowd = [Client(busy, "crowd") for _ in range(40)]
    await eventually(lambda: sum(client.status == 429 for client in crowd) == 38)

    release(busy)
    await asyncio.gather(*(client.task for client in crowd))

    assert Counter(client.status for client in crowd) == {429: 38, 200: 2}
    assert [await busy.http_status(PATH, body("later")) for _ in range(5)] == [200] * 5
    assert await metric(busy, "berth_gateway_queue_oldest_seconds", endpoint="e1") == 0


async def test_engines_that_refuse_get_less(busy: Bench) -> None:
    publish(busy, concurrency=20)
    busy.triton.behaviour = Behaviour(status=503, error="Exceeds maximum queue size", until=asyncio.Event())
    await busy.ready()
    assert await metric(busy, "berth_gateway_concurrency_limit", replica="mine") == 20

    assert await busy.http_status(PATH, body("refused")) == 503

    assert await metric(busy, "berth_gateway_concurrency_limit", replica="mine") == 9


async def test_an_engine_short_of_kv_cache_gets_less(busy: Bench) -> None:
    async def show(request: web.Request) -> web.Response:
        label = "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type"
        return web.Response(text=f'{label}="used",model="m"}} 990\n{label}="max",model="m"}} 1000\n')

    application = web.Application()
    application.router.add_get("/metrics", show)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        shown = msgspec.structs.replace(
            replica(busy.triton.url, replica_id="mine"),
            concurrency=20,
            metrics_url=f"http://127.0.0.1:{runner.addresses[0][1]}/metrics",
        )
        busy.publish(routes=(Route(revision_id="rev1", weight=1, replicas=(shown,)),))
        await busy.ready()
        await eventually(lambda: bool(busy.control.reports))
        # It works on nothing, so that nothing can be too much.
        assert await metric(busy, "berth_gateway_concurrency_limit", replica="mine") == 20

        client = await fill(busy)
        async with asyncio.timeout(15):
            while await metric(busy, "berth_gateway_concurrency_limit", replica="mine") == 20:
                await asyncio.sleep(0.02)
        release(busy)
        await client.task
    finally:
        await runner.cleanup()
