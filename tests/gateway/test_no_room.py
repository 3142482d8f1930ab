"""An endpoint without room: its class falls back to others, shortens the context, or refuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import errors, routing
from gateway.contract import OnOverload, Timeouts
from gateway.demand import Demand
from gateway.replies import Usage
from tests.fakes.triton import Behaviour
from tests.gateway.conftest import Bench
from tests.gateway.farm import Farm, farm
from tests.gateway.world import World, replica

QUICK = Timeouts(
    connect_s=1.0, first_token_s=5.0, between_tokens_s=5.0, total_s=20.0, attempts=1, backoff_s=0.001
)
FULL = Behaviour(status=503, error="Exceeds maximum queue size")


async def lay(
    engines: Farm,
    *,
    policy: OnOverload = OnOverload.FALLBACK,
    degraded: int | None = None,
    second: dict[str, Any] | None = None,
    third: dict[str, Any] | None = None,
    **first: Any,
) -> None:
    """Publish endpoint docs on engine a, with fallbacks second on b and third on c."""
    world = engines.bench.world
    world.more["classes"] = world.classes(QUICK, on_overload=policy, degraded_context_tokens=degraded)
    replicas = {
        name: engines.replica(letter, **place)
        for name, letter, place in (
            ("second", "b", (second or {}).pop("place", {})),
            ("third", "c", (third or {}).pop("place", {})),
        )
    }
    world.others = (
        engines.endpoint("second", replicas["second"], **(second or {})),
        engines.endpoint("third", replicas["third"], **(third or {})),
    )
    changes = {"routes": (engines.route("rev1", "a"),), "fallbacks": ("second", "third"), **first}
    await engines.publish(**changes)


def records(bench: Bench) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for file in sorted((bench.folder / "log").glob("*.jsonl"))
        for line in file.read_text().splitlines()
    ]


@pytest.mark.parametrize(
    "trouble",
    [
        FULL,
        Behaviour(status=500, error="boom"),
        Behaviour(error="boom", error_after=0),
        Behaviour(drop_after=0),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_fallback_answers_when_the_engine_cannot(
    bench: Bench, trouble: Behaviour, stream: bool
) -> None:
    async with farm(bench, "a", "b", "c") as engines:
        await lay(engines, second={"chat_template": "second: {{ messages[0].content }}"})
        engines.engines["a"].behaviour = trouble
        chat = {"model": "docs", "messages": [{"role": "user", "content": "hi"}], "stream": stream}

        async with bench.post("/v1/chat/completions", chat) as response:
            body = await response.text()

        assert response.status == 200
        assert response.headers["x-berth-fallback"] == "second"
        assert '"model":"docs"' in body
        assert engines.engines["b"].calls[0].payload["text_input"] == "second: hi"
        assert engines.calls()["c"] == 0
        (record,) = records(bench)
        assert (record["endpoint_id"], record["revision_id"]) == ("second", "rev-second")
        assert record["outcome"] == "completed"


async def test_an_endpoint_that_is_not_ready_falls_back_too(bench: Bench) -> None:
    async with farm(bench, "a", "b", "c") as engines:
        await lay(engines, routes=(), state="provisioning")

        assert (await engines.ask("hi")).headers["x-berth-fallback"] == "second"


async def test_fallbacks_are_tried_in_order_and_the_first_refusal_is_told(bench: Bench) -> None:
    async with farm(bench, "a", "b", "c") as engines:
        await lay(engines)
        engines.engines["a"].behaviour = FULL
        engines.engines["b"].behaviour = Behaviour(status=500, error="boom")

        assert (await engines.ask("hi")).headers["x-berth-fallback"] == "third"

        engines.engines["c"].behaviour = Behaviour(status=500, error="boom")
        refused = await engines.ask("hi")

        assert (refused.status, refused.code) == (503, "engine_overloaded")
        assert "x-berth-fallback" not in refused.headers
        assert [(each["endpoint_id"], each["outcome"]) for each in records(bench)] == [
            ("third", "completed"), ("e1", "failed"),
        ]  # fmt: skip
        assert records(bench)[1]["revision_id"] == "rev1"


US = {"region": "us-1", "zones": ("US",)}


@pytest.mark.parametrize(
    "second",
    [
        {"residency": "global", "place": US},  # lawful there, not for the endpoint it stands in for
        {"residency": "zone:US"},  # stands in the EU, which its own residency does not allow
        {"residency": "nonsense"},
        {"tenant_id": "t9", "project_id": "p99", "slo_class": "standard"},  # another tenant's
    ],
)
async def test_a_fallback_that_may_not_serve_is_never_asked(bench: Bench, second: dict[str, Any]) -> None:
    async with farm(bench, "a", "b", "c") as engines:
        await lay(engines, second=second, fallbacks=("second", "no such endpoint"))
        engines.engines["a"].behaviour = FULL

        answer = await engines.ask("hi")

        assert (answer.status, answer.code) == (503, "engine_overloaded")
        assert engines.calls()["b"] == 0


places = st.sampled_from(["eu-de-1", "us-1"])
zones = st.sampled_from([(), ("EU",), ("US",), ("EU", "US")])
demands = st.sampled_from(["global", "zone:EU", "zone:US", "region:eu-de-1", "region:us-1", "", "zone:"])


@given(members=st.lists(st.tuples(places, zones), min_size=1, max_size=5), own=demands, origin=demands)
def test_no_estate_lets_a_fallback_break_either_residency(
    members: list[tuple[str, tuple[str, ...]]], own: str, origin: str
) -> None:
    replicas = tuple(
        replica("http://engine", replica_id=f"r{i}", region=region, zones=belongs)
        for i, (region, belongs) in enumerate(members)
    )
    fallback = msgspec.structs.replace(World().endpoint(""), residency=own)
    fallback = msgspec.structs.replace(
        fallback, routes=(msgspec.structs.replace(fallback.routes[0], replicas=replicas),)
    )

    for option in routing.options(fallback, residency=origin):
        for each in option.replicas:
            for demand in (own, origin):
                kind, _, place = demand.partition(":")
                assert demand == "global" or place in {"region": (each.region,), "zone": each.zones}[kind]


async def test_a_fallback_with_a_smaller_context_is_passed_over(bench: Bench) -> None:
    async with farm(bench, "a", "b", "c") as engines:
        await lay(engines, second={"context_tokens": 8, "max_output_tokens": 8})
        engines.engines["a"].behaviour = FULL

        assert (await engines.ask("hi", max_tokens=20)).headers["x-berth-fallback"] == "third"
        assert engines.calls()["b"] == 0


class Purse:
    """A gate that logs what passes, and refuses the endpoints named."""

    def __init__(self, *refuses: str) -> None:
        self.refuses = refuses
        self.log: list[str] = []

    async def enter(self, demand: Demand) -> Hold:
        name = demand.endpoint.name
        self.log.append(f"enter {name} {demand.max_tokens}")
        if name in self.refuses:
            # Even a refusal that looks as if the endpoint were at fault.
            raise errors.not_ready("No budget is left.", code="budget_exhausted", retry_after_s=1)
        return Hold(self, name)


class Hold:
    def __init__(self, purse: Purse, name: str) -> None:
        self.purse = purse
        self.name = name
        self.headers: Mapping[str, str] = {"x-purse": name}

    def settle(self, usage: Usage) -> Mapping[str, str]:
        self.purse.log.append(f"settle {self.name}")
        return {}

    def withdraw(self) -> None:
        self.purse.log.append(f"withdraw {self.name}")


def guard(bench: Bench, purse: Purse) -> None:
    assert bench.server is not None
    inference = bench.server._inference
    inference._desk = inference._desk._replace(gates=(purse,))


async def test_gates_are_entered_anew_for_each_endpoint(bench: Bench) -> None:
    async with farm(bench, "a", "b", "c") as engines:
        await lay(engines)
        engines.engines["a"].behaviour = FULL
        purse = Purse("second")
        guard(bench, purse)

        answer = await engines.ask("hi")

        assert answer.headers["x-berth-fallback"] == "third"
        assert answer.headers["x-purse"] == "third"
        assert purse.log == [
            "enter docs 32", "withdraw docs", "enter second 32", "enter third 32", "settle third",
        ]  # fmt: skip


async def test_what_a_gate_refuses_never_falls_back(bench: Bench) -> None:
    async with farm(bench, "a", "b", "c") as engines:
        await lay(engines)
        purse = Purse("docs")
        guard(bench, purse)

        answer = await engines.ask("hi")

        assert answer.code == "budget_exhausted"
        assert purse.log == ["enter docs 32"]
        assert set(engines.calls().values()) == {0}


async def test_refuse_means_refuse(bench: Bench) -> None:
    async with farm(bench, "a", "b", "c") as engines:
        await lay(engines, policy=OnOverload.REFUSE)
        engines.engines["a"].behaviour = FULL

        answer = await engines.ask("hi")

        assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "engine_overloaded", "1")
        assert engines.calls() == {"a": 1, "b": 0, "c": 0}


async def test_a_shorter_answer_is_given_where_there_is_little_room(bench: Bench) -> None:
    async with farm(bench, "a", "b", "c") as engines:
        await lay(engines, policy=OnOverload.SHORTEN, degraded=10)
        engines.engines["a"].next_behaviours = [FULL]

        answer = await engines.ask("ten bytes!", max_tokens=30)  # taken for four tokens

        assert answer.status == 200
        assert answer.headers["x-berth-shortened"] == "6"
        assert [call.payload["max_tokens"] for call in engines.engines["a"].calls] == [30, 6]
        assert (await engines.ask("hi")).headers.get("x-berth-shortened") is None


async def test_while_others_wait_answers_are_short_from_the_start(bench: Bench) -> None:
    async with farm(bench, "a", "b", "c") as engines:
        one = msgspec.structs.replace(engines.replica("a"), concurrency=1)
        route = msgspec.structs.replace(engines.route("rev1", "a"), replicas=(one,))
        await lay(engines, policy=OnOverload.SHORTEN, degraded=10, routes=(route,))
        engines.engines["a"].next_behaviours = [Behaviour(first_delay_s=1.0)]
        tasks = [asyncio.create_task(engines.ask("hi", max_tokens=30))]
        await bench.in_flight(1)
        async with asyncio.timeout(15):
            while not engines.calls()["a"]:
                await asyncio.sleep(0.01)
        for count in (2, 3):
            tasks.append(asyncio.create_task(engines.ask("hi", max_tokens=30)))
            await bench.in_flight(count)

        answers = await asyncio.gather(*tasks)

        assert [answer.status for answer in answers] == [200] * 3
        assert [answer.headers.get("x-berth-shortened") for answer in answers] == [None, None, "8"]
        assert [call.payload["max_tokens"] for call in engines.engines["a"].calls] == [30, 30, 8]


async def test_a_prompt_beyond_the_shorter_context_is_refused_with_the_reason(bench: Bench) -> None:
    async with farm(bench, "a", "b", "c") as engines:
        await lay(engines, policy=OnOverload.SHORTEN, degraded=5)
        engines.engines["a"].behaviour = FULL

        answer = await engines.ask("a prompt of more than five tokens")

        assert (answer.status, answer.code) == (429, "overloaded")
        assert "up to 5 tokens" in answer.message
        assert engines.calls()["a"] == 1


async def test_what_is_short_already_is_not_asked_twice(bench: Bench) -> None:
    async with farm(bench, "a", "b", "c") as engines:
        await lay(engines, policy=OnOverload.SHORTEN, degraded=40)
        engines.engines["a"].behaviour = FULL

        assert (await engines.ask("hi", max_tokens=4)).code == "engine_overloaded"
        assert engines.calls()["a"] == 1


async def test_a_broken_engine_is_no_reason_to_shorten(bench: Bench) -> None:
    async with farm(bench, "a", "b", "c") as engines:
        await lay(engines, policy=OnOverload.SHORTEN, degraded=10)
        engines.engines["a"].behaviour = Behaviour(status=500, error="boom")

        assert (await engines.ask("hi", max_tokens=30)).code == "engine_error"
        assert engines.calls()["a"] == 1


async def test_a_client_that_leaves_while_a_fallback_works_stops_it(bench: Bench) -> None:
    async with farm(bench, "a", "b", "c") as engines:
        await lay(engines)
        engines.engines["a"].behaviour = FULL
        engines.engines["b"].behaviour = Behaviour(first_delay_s=3_600)
        asked = asyncio.create_task(engines.ask("hi"))
        async with asyncio.timeout(15):
            while not engines.calls()["b"]:
                await asyncio.sleep(0.01)

        asked.cancel()

        async with asyncio.timeout(15):
            while engines.engines["b"].calls[0].left_at is None:
                await asyncio.sleep(0.01)
        await bench.in_flight(0)
        (record,) = records(bench)
        assert (record["endpoint_id"], record["outcome"]) == ("second", "cancelled")
