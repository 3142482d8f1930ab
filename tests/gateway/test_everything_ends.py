"""Everything at once: whatever happens to a thousand requests, nothing stays held and every token is in one record."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from redis import Redis as RedisClient

from embedded.datadir import DataDir
from embedded.redis import Redis
from gateway.budgets.accounts import read_charge_key
from gateway.contract import (
    Budget,
    BudgetPeriod,
    BudgetUnit,
    NamedRoute,
    OnOverload,
    Outcome,
    Owner,
    Project,
    RateLimits,
    Replica,
    Route,
    RouteRule,
    RouteTarget,
    Snapshot,
    Tenant,
    Timeouts,
    TokenPrices,
    from_units,
)
from gateway.limits.window import WINDOW_S, Window
from gateway.metering.log import Position, log_files, read_log
from gateway.metering.records import UsageRecord
from tests.fakes import triton, trtllm_serve
from tests.fakes.triton import FakeTriton
from tests.fakes.trtllm_serve import FakeTrtllmServe
from tests.gateway.batches.conftest import FILES_KEY, jsonl
from tests.gateway.conftest import Bench, eventually
from tests.gateway.engines import serve_replica
from tests.gateway.world import CREATED, KEY, OTHER_PROJECT_KEY, OTHER_TENANT_KEY, World, key, replica

KEYS = {KEY: "k1", OTHER_PROJECT_KEY: "k2", OTHER_TENANT_KEY: "k3"}
TIMEOUTS = Timeouts(connect_s=2.0, first_token_s=0.6, between_tokens_s=0.6, total_s=3.0, attempts=2)
PRICES = TokenPrices(currency="EUR", input="1.5", output="3", cached="0.25")
BATCH_PRICES = TokenPrices(currency="EUR", input="0.75", output="1.5", cached="0.125")
REQUESTS = 500
CLIENTS = 32
LINES = 12
TRITONS = ("r1", "r2", "r3", "r4")


@dataclasses.dataclass
class Sent:
    """One request as its client saw it. ``request_id`` is empty where nothing came back."""

    number: int
    choices: int
    request_id: str = ""
    status: int = 0
    whole: bool = False  # its answer was read to the end


class Storm:
    """Everything that may happen, drawn by ``seed``."""

    def __init__(
        self, bench: Bench, tritons: dict[str, FakeTriton], serve: FakeTrtllmServe, seed: int
    ) -> None:
        self.bench = bench
        self.tritons = tritons
        self.serve = serve
        self.rng = random.Random(seed)
        self.sent: list[Sent] = []

    def snapshot(self) -> Snapshot:
        """Make a snapshot in which replicas, weights, limits and endpoints change from one to the next."""
        rng, world = self.rng, self.bench.world

        def engine(name: str) -> Replica:
            concurrency = rng.choice((1, 2, 4))
            made = replica(self.tritons[name].url, replica_id=name)
            return msgspec.structs.replace(made, concurrency=concurrency, draining=rng.random() < 0.15)

        def route(revision: str, *names: str) -> Route:
            return Route(
                revision_id=revision, weight=rng.choice((0, 10, 90)), replicas=tuple(map(engine, names))
            )

        priced = {"prices": PRICES, "lower_prices": {"batch": BATCH_PRICES}, "context_tokens": 400}
        fallbacks = world.endpoint(
            "", endpoint_id="e3", name="small", routes=(route("rev3", "r3"),), **priced
        )
        last = world.endpoint(
            "", endpoint_id="e4", name="last", slo_class="standard", routes=(route("rev4", "r4"),), **priced
        )
        common = world.endpoint(
            "",
            endpoint_id="e5",
            tenant_id="platform",
            project_id="p0",
            name="common",
            shared=True,
            slo_class="standard",
            residency="global",
            routes=(Route("rev5", 100, (serve_replica(self.serve.url, replica_id="r5"),)),),
            rates=RateLimits(tokens_per_minute=rng.choice((None, 20_000))),
            **priced,
        )
        docs = {
            "routes": (route("rev1", "r1", "r2"), Route("rev2", 50, (engine("r2"), engine("r4")))),
            "fallbacks": ("e3", "e4"),
            **priced,
        }
        world.others = (
            msgspec.structs.replace(fallbacks, context_tokens=rng.choice((70, 400))),
            last,
            common,
        )
        if rng.random() < 0.1:
            docs |= {"state": "scaled-to-zero", "routes": ()}
        world.more["classes"] = tuple(
            msgspec.structs.replace(each, queue_s=0.4, timeouts=TIMEOUTS, **policy)
            for each, policy in zip(
                world.classes(),
                (
                    {"on_overload": OnOverload.FALLBACK},
                    {"on_overload": OnOverload.SHORTEN, "degraded_context_tokens": 120},
                    {},
                ),
                strict=True,
            )
        )
        return world.snapshot(self.tritons["r1"].url, **docs)

    def misbehave(self) -> None:
        """Draw how the next calls of engines go."""
        rng = self.rng
        for engine in self.tritons.values():
            engine.behaviour = triton.Behaviour(
                tokens=rng.randint(1, 12),
                delay_s=rng.choice((0.0, 0.0, 0.01, 0.05)),
                first_delay_s=rng.choice((0.0, 0.0, 0.05, 0.3)),
                cached=rng.choice((0, 2)),
                burst=rng.random() < 0.2,
            )
            if rng.random() < 0.5:
                engine.next_behaviours = [
                    rng.choice(
                        (
                            triton.Behaviour(status=500, error="boom"),
                            triton.Behaviour(status=503, error="queue is full"),
                            triton.Behaviour(status=400, error="context_length_exceeded: 9 of 8"),
                            triton.Behaviour(drop_after=rng.randint(0, 3)),
                            triton.Behaviour(hang_after=rng.randint(0, 3)),
                            triton.Behaviour(error="boom", error_after=rng.randint(1, 3)),
                        )
                    )
                    for _ in range(rng.randint(1, 4))
                ]
        self.serve.behaviour = trtllm_serve.Behaviour(
            tokens=rng.randint(1, 12), delay_s=rng.choice((0.0, 0.01, 0.05)), cached=rng.choice((0, 1))
        )
        if rng.random() < 0.5:
            self.serve.next_behaviours = [
                rng.choice(
                    (
                        trtllm_serve.Behaviour(status=500, error="boom"),
                        trtllm_serve.Behaviour(status=400, error="the prompt exceeds max_seq_len"),
                        trtllm_serve.Behaviour(drop_after=1),
                        trtllm_serve.Behaviour(hang_after=rng.randint(0, 2)),
                        trtllm_serve.Behaviour(end_after=2),
                    )
                )
            ]

    async def change(self) -> None:
        """Change snapshot and engines until cancelled."""
        while True:
            await asyncio.sleep(0.15)
            self.misbehave()
            self.bench.control.publish(self.snapshot())

    async def client(self, http: aiohttp.ClientSession) -> None:
        """Send one request after the other; leave some of them before they have ended."""
        rng = self.rng
        while len(self.sent) < REQUESTS:
            sent = Sent(len(self.sent), rng.choice((1, 1, 1, 2, 3)))
            self.sent.append(sent)
            stay_s = rng.choice((None, None, None, 0.0, rng.uniform(0.0, 0.1), rng.uniform(0.0, 1.0)))
            with contextlib.suppress(TimeoutError, aiohttp.ClientError):
                async with asyncio.timeout(stay_s):
                    await self.ask(http, sent)

    async def ask(self, http: aiohttp.ClientSession, sent: Sent) -> None:
        rng = self.rng
        text = rng.choice(list(KEYS))
        model = rng.choice({"k1": ("docs", "docs", "docs", "auto", "last")}.get(
            KEYS[text], ("common",)
        ))  # fmt: skip
        path, body = "/v1/completions", {"model": model, "n": sent.choices}
        body["max_tokens"] = rng.choice((1, 5, 20, 30))
        prompt = f"number {sent.number} " + "word " * rng.randint(1, 12)
        if model == "common" and rng.random() < 0.3:
            path, body = "/v1/embeddings", {"model": model, "input": [prompt, "another text"]}
            sent.choices = 1
        elif rng.random() < 0.5:
            path, body["messages"] = "/v1/chat/completions", [{"role": "user", "content": prompt}]
        else:
            body["prompt"] = prompt
        if path != "/v1/embeddings":
            body |= {"stream": rng.random() < 0.5, "temperature": rng.choice((0, 1))}
        headers = {"authorization": f"Bearer {text}"}
        if rng.random() < 0.2:
            headers["x-scale-up-timeout"] = "0.3"
        if rng.random() < 0.3:
            headers["x-berth-session"] = f"s{rng.randint(1, 4)}"
        async with http.post(self.bench.url + path, json=body, headers=headers) as response:
            sent.request_id, sent.status = response.headers["x-request-id"], response.status
            await response.read()
        sent.whole = True

    def engine_tokens(self) -> Counter[int]:
        """Count what engines sent by the number that is in the prompt."""
        counts: Counter[int] = Counter()
        for call in (*(call for engine in self.tritons.values() for call in engine.calls), *self.serve.calls):
            words = json.dumps(call.payload).split("number ", 1)
            if len(words) == 2:
                counts[int(words[1].split(" ", 1)[0])] += call.sent
        return counts


def budget(name: str, owner: Owner, owner_id: str, limit: str, unit: BudgetUnit) -> Budget:
    return Budget(
        budget_id=name,
        tenant_id="t2" if owner_id in ("t2", "k3") else "t1",
        owner=owner,
        owner_id=owner_id,
        name=name,
        unit=unit,
        limit=limit,
        period=BudgetPeriod.MONTH,
        time_zone="Europe/Berlin",
        currency="EUR" if unit is BudgetUnit.MONEY else "",
        alert_percents=(50,),
    )


BUDGETS = (
    budget("b-project", Owner.PROJECT, "p1", "40000", BudgetUnit.TOKENS),
    budget("b-tenant", Owner.TENANT, "t1", "0.5", BudgetUnit.MONEY),
    budget("b-key", Owner.KEY, "k3", "9000", BudgetUnit.TOKENS),
    budget("b-other", Owner.TENANT, "t2", "0.002", BudgetUnit.MONEY),
)


def world() -> World:
    keys = (
        key(KEY, "k1", rates=RateLimits(requests_per_minute=1_000, tokens_per_minute=60_000)),
        key(
            OTHER_PROJECT_KEY,
            "k2",
            project="p2",
            slo_class="batch",
            rates=RateLimits(tokens_per_minute=6_000),
        ),
        key(OTHER_TENANT_KEY, "k3", tenant="t2", project="p9", context_tokens=300),
    )
    rules = (
        RouteRule(targets=(RouteTarget("e3"),), max_input_tokens=60),
        RouteRule(targets=(RouteTarget("e1", 2), RouteTarget("e5", 1))),
    )
    return World(
        keys=keys,
        more={
            "budgets": BUDGETS,
            "tenants": (
                Tenant(tenant_id="t1", name="Acme", rates=RateLimits(tokens_per_minute=80_000)),
                Tenant(tenant_id="t2", name="Other", share=2.0),
            ),
            "projects": (Project(project_id="p1", tenant_id="t1", name="search"),),
            "named_routes": (NamedRoute("n1", "t1", "p1", "auto", CREATED, rules),),
        },
    )


async def order_batch(bench: Bench) -> str:
    lines = [
        {
            "custom_id": f"line-{number}",
            "method": "POST",
            "url": "/v1/completions",
            "body": {"model": "docs", "prompt": "a line of a batch", "max_tokens": 5},
        }
        for number in range(LINES)
    ]
    client = bench.openai()
    file = await client.files.create(file=("input.jsonl", jsonl(lines)), purpose="batch")
    batch = await client.batches.create(
        input_file_id=file.id, endpoint="/v1/completions", completion_window="24h"
    )
    return batch.id


def records_of(bench: Bench) -> list[UsageRecord]:
    folder = bench.folder / "log"
    assert min(log_files(folder)) == 1
    return [record for found, _ in read_log(folder, Position(), active=None) for record in found]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    running = Redis(DataDir(tmp_path / "redis"))
    running.start()
    try:
        yield running
    finally:
        running.stop()


@pytest.mark.parametrize("seed", [1, 11])
async def test_nothing_stays_held_and_every_token_is_in_one_record(
    idle: Bench, redis: Redis, seed: int
) -> None:
    idle.world = world()
    began = time.monotonic()
    idle.control.ledger.budgets = {each.budget_id: each for each in BUDGETS}
    async with contextlib.AsyncExitStack() as stack:
        tritons = {name: await stack.enter_async_context(FakeTriton()) for name in TRITONS}
        serve = await stack.enter_async_context(FakeTrtllmServe())
        storm = Storm(idle, tritons, serve, seed)
        idle.control.publish(storm.snapshot())
        server = await idle.ready(
            BERTH_GATEWAY_FILES_KEYS=FILES_KEY,
            BERTH_GATEWAY_REDIS_URL=redis.url(3),
            BERTH_GATEWAY_REDIS_CALL_S="5",
        )
        await eventually(lambda: server._rates.is_shared)
        batch_id = await order_batch(idle)
        changing = asyncio.create_task(storm.change())
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as http:
            await asyncio.gather(*(storm.client(http) for _ in range(CLIENTS)))
        changing.cancel()
        for engine in tritons.values():
            engine.behaviour, engine.next_behaviours = triton.Behaviour(), []
        serve.behaviour, serve.next_behaviours = trtllm_serve.Behaviour(), []
        calm = {"context_tokens": 400, "prices": PRICES, "lower_prices": {"batch": BATCH_PRICES}}
        idle.control.publish(idle.world.snapshot(tritons["r1"].url, **calm))
        client = idle.openai()
        async with asyncio.timeout(60):
            while (await client.batches.retrieve(batch_id)).status != "completed":
                await asyncio.sleep(0.2)
        await idle.in_flight(0)

        # Nothing is held, waits, or is counted as in progress.
        await eventually(lambda: not server._book.outstanding and not server._book.tokens)
        assert server._admission._waiting == 0
        assert all(not queue.waiting for queue in server._admission._queues.values())
        assert {
            name: each.value for name, each in server._metrics.tallies.in_flight.items() if each.value
        } == {}
        for account in server._leases._accounts.values():
            assert (account.held, account.waiting, len(account.queue)) == (0, 0, 0)

        # One record each, as the client was told.
        records = records_of(idle)
        by_id = {record.request_id: record for record in records}
        assert len(by_id) == len(records)
        lines = [record for record in records if record.slo_class == "batch" and record.key_id == "k1"]
        assert sum(record.status not in (429, 503) for record in lines) == LINES
        told = [sent for sent in storm.sent if sent.request_id]
        assert len(told) <= len(records) - len(lines) <= REQUESTS
        sent_tokens = storm.engine_tokens()
        outcomes = Counter(record.outcome for record in records)
        assert set(outcomes) == set(Outcome), outcomes
        for sent in told:
            record = by_id[sent.request_id]
            if sent.whole and sent.status != 200:
                assert record.status == sent.status
                assert record.outcome in (Outcome.REFUSED, Outcome.FAILED)
            # An attempt that was given up may have sent something that nobody was there for any more.
            if record.outcome is Outcome.COMPLETED and sent.choices == 1 and not record.retries:
                assert record.output_tokens == sent_tokens[sent.number]
            assert record.output_tokens <= sent_tokens[sent.number]

        # What was charged is what was used, and the ledger knows it.
        used: Counter[str] = Counter()
        charged: Counter[str] = Counter()
        for record in records:
            tokens = record.input_tokens + record.output_tokens
            for owner in (record.key_id, record.project_id, record.tenant_id):
                used[owner] += tokens
            money = _money(record)
            used[f"{record.tenant_id} money"] += money
            for window, units in record.charges.items():
                charged[read_charge_key(window)[0]] += int(units)
        assert charged == +Counter({
            "b-project": used["p1"], "b-tenant": used["t1 money"], "b-key": used["k3"],
            "b-other": used["t2 money"],
        })  # fmt: skip
        ledger = idle.control.ledger
        for each in BUDGETS:
            exactly = Decimal(from_units(charged[each.budget_id], each.unit))
            await eventually(
                lambda name=each.budget_id, sum=exactly: ledger.settled(name) == sum and not ledger.held(name)
            )
            assert exactly <= Decimal(each.limit)

        # Limits count what was used as well, and nothing besides.
        windows: dict[str, Window] = server._rates._local._windows
        for owner in ("k1", "k2", "t1"):
            kind = "tenant" if owner == "t1" else "key"
            counter = f"berth:limits:{kind}:{owner}:tokens"
            shared = await _shared_total(redis, counter, most=used[owner])
            assert windows[counter].total <= used[owner]
            if time.monotonic() < began + WINDOW_S:
                assert shared == windows[counter].total == used[owner]


async def _shared_total(redis: Redis, counter: str, *, most: int) -> int:
    """Give what Redis counts, once it has been told of all corrections."""
    with RedisClient.from_url(redis.url(3)) as client:
        await eventually(lambda: int(client.hget(counter, "total")) <= most)
        return int(client.hget(counter, "total"))


def _money(record: UsageRecord) -> int:
    prices = BATCH_PRICES if record.slo_class == "batch" else PRICES
    fresh = record.input_tokens - record.cached_tokens
    sums: Any = (
        Decimal(prices.input) * fresh
        + Decimal(prices.cached) * record.cached_tokens
        + Decimal(prices.output) * record.output_tokens
    )
    return int(sums * 10**10)
