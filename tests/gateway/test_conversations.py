"""Among several engines: conversations go back to their replica, canaries get their share, sessions stick."""

from __future__ import annotations

import asyncio
import collections

import msgspec

from gateway.contract import Timeouts
from tests.fakes.triton import Behaviour
from tests.gateway.conftest import Bench, eventually
from tests.gateway.farm import Farm, farm

LONG = {"context_tokens": 100_000}
QUICK = Timeouts(
    connect_s=1.0, first_token_s=5.0, between_tokens_s=5.0, total_s=20.0, attempts=2, backoff_s=0.001
)


def talk(name: str, turns: int) -> str:
    return "".join(f"turn {i} of {name}: " + "words and more words, " * 8 for i in range(turns))


async def test_a_conversation_goes_back_to_the_replica_that_holds_it(bench: Bench) -> None:
    async with farm(bench, "a", "b", "c") as engines:
        await engines.publish(routes=(engines.route("rev1", "a", "b", "c"),), **LONG)
        for turn in range(1, 7):
            await asyncio.gather(*(engines.ask(talk(f"talk {i}", turn)) for i in range(8)))

        homes = collections.defaultdict(set)
        for name, engine in engines.engines.items():
            for call in engine.calls:
                homes[call.payload["text_input"].split(":")[0]].add(name)
        assert len(homes) == 8
        assert all(len(home) == 1 for home in homes.values())
        assert all(count > 0 for count in engines.calls().values())


async def test_a_replica_that_is_much_more_loaded_loses_its_conversation(bench: Bench) -> None:
    async with farm(bench, "a", "b") as engines:
        await engines.publish(routes=(engines.route("rev1", "a", "b"),), **LONG)
        await engines.ask(talk("mine", 3))
        home, other = sorted(engines.engines, key=lambda name: -engines.calls()[name])
        engines.engines[home].behaviour = Behaviour(first_delay_s=3_600)
        waiting = [asyncio.create_task(engines.ask(talk("mine", 4))) for _ in range(12)]
        await eventually(lambda: sum(engines.calls().values()) == 13)

        # It is preferred while its load is less than four times the other's.
        assert engines.calls()[other] > 0
        assert engines.calls()[home] >= 3
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_canary_gets_its_share(bench: Bench) -> None:
    async with farm(bench, "old", "new") as engines:
        routes = (engines.route("rev1", "old", weight=80), engines.route("rev2", "new", weight=20))
        await engines.publish(routes=routes)
        for _ in range(10):
            await asyncio.gather(*(engines.ask("hello") for _ in range(30)))

        # 300 draws of 0.2: five standard deviations are 35.
        assert 25 <= engines.calls()["new"] <= 95
        assert sum(engines.calls().values()) == 300


async def test_a_session_keeps_its_revision_and_replica_while_they_last(bench: Bench) -> None:
    async with farm(bench, "a", "b", "c", "d") as engines:
        routes = (engines.route("rev1", "a", "b", weight=50), engines.route("rev2", "c", "d", weight=50))
        await engines.publish(routes=routes)
        homes = {}
        for session in ("s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8"):
            before = engines.calls()
            for _ in range(4):
                await engines.ask("hello", headers={"x-berth-session": session})
            grown = {name for name, count in engines.calls().items() if count != before[name]}
            assert len(grown) == 1
            homes[session] = grown.pop()
        assert len(set(homes.values())) > 1

        gone = homes["s1"]
        left = tuple(
            msgspec.structs.replace(
                route, replicas=tuple(each for each in route.replicas if each.replica_id != gone)
            )
            for route in routes
        )
        await engines.publish(routes=left)
        for session, home in homes.items():
            before = engines.calls()
            await engines.ask("hello", headers={"x-berth-session": session})
            now = {name for name, count in engines.calls().items() if count != before[name]}
            assert (now == {home}) is (home != gone)


async def test_a_draining_replica_ends_what_it_has_and_gets_no_more(bench: Bench) -> None:
    async with farm(bench, "a", "b") as engines:
        await engines.publish(routes=(engines.route("rev1", "a"),))
        engines.engines["a"].behaviour = Behaviour(tokens=5, first_delay_s=0.5)
        going_on = asyncio.create_task(engines.ask("hello"))
        await eventually(lambda: engines.calls()["a"] == 1)
        draining = msgspec.structs.replace(engines.replica("a"), draining=True)
        route = msgspec.structs.replace(engines.route("rev1", "b"), replicas=(draining, engines.replica("b")))
        await engines.publish(routes=(route,))

        answers = [await engines.ask("hello") for _ in range(6)]

        assert {answer.status for answer in answers} == {200}
        assert engines.calls() == {"a": 1, "b": 6}
        assert (await going_on).status == 200

        await engines.publish(routes=(msgspec.structs.replace(route, replicas=(draining,)),))
        assert (await engines.ask("hello")).code == "endpoint_not_ready"


async def broken(engines: Farm) -> int:
    """Let replica a fail; give how often it was asked until it was left alone."""
    engines.engines["a"].behaviour = Behaviour(status=500, error="boom")
    for _ in range(40):
        assert (await engines.ask("hello")).status == 200
    return engines.calls()["a"]


async def test_a_broken_replica_is_left_alone_then_probed_and_taken_back(bench: Bench) -> None:
    async with farm(bench, "a", "b") as engines:
        await engines.publish(routes=(engines.route("rev1", "a", "b"),), timeouts=QUICK)

        asked = await broken(engines)

        # Three open it; each pause after that ends in one probe.
        assert 3 <= asked < 12
        async with asyncio.timeout(20):
            engines.engines["a"].behaviour = Behaviour()
            while engines.calls()["a"] < asked + 10:
                assert (await engines.ask("hello")).status == 200
                await asyncio.sleep(0.01)
        async with bench.http.get(f"{bench.url}/metrics") as response:
            shown = await response.text()
        assert "berth_gateway_circuits_opened_total 0.0" not in shown
        assert 'berth_gateway_retries_total{endpoint="e1"}' in shown


async def test_when_every_replica_is_broken_the_answer_comes_at_once_and_health_returns(bench: Bench) -> None:
    async with farm(bench, "a") as engines:
        await engines.publish(routes=(engines.route("rev1", "a"),), timeouts=QUICK)
        engines.engines["a"].behaviour = Behaviour(status=500, error="boom")
        answers = [await engines.ask("hello") for _ in range(6)]

        assert answers[0].code == "engine_error"
        assert answers[-1].code == "engine_unreachable"
        assert answers[-1].headers["retry-after"] == "1"
        assert engines.calls()["a"] <= 5
        engines.engines["a"].behaviour = Behaviour()
        async with asyncio.timeout(20):
            while (await engines.ask("hello")).status != 200:
                await asyncio.sleep(0.05)


async def test_a_full_engine_is_left_for_another_and_not_blamed(bench: Bench) -> None:
    async with farm(bench, "a", "b") as engines:
        await engines.publish(routes=(engines.route("rev1", "a", "b"),), timeouts=QUICK)
        engines.engines["a"].behaviour = Behaviour(status=500, error="No free blocks left.")

        answers = [await engines.ask("hello") for _ in range(20)]

        assert {answer.status for answer in answers} == {200}
        assert engines.calls()["b"] == 20
        async with bench.http.get(f"{bench.url}/metrics") as response:
            assert "berth_gateway_circuits_opened_total 0.0" in await response.text()


async def test_in_a_total_outage_retries_add_a_tenth_and_a_few(bench: Bench) -> None:
    patient = msgspec.structs.replace(QUICK, attempts=4)
    async with farm(bench, "a", "b") as engines:
        await engines.publish(routes=(engines.route("rev1", "a", "b"),), timeouts=patient)
        for engine in engines.engines.values():
            engine.behaviour = Behaviour(status=503, error="Exceeds maximum queue size")
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(10):
            await asyncio.gather(*(engines.ask("hello") for _ in range(20)))

        # The few are there again every ten seconds.
        windows = 1 + (loop.time() - began) // 9
        assert 200 < sum(engines.calls().values()) <= 200 + 20 + 10 * windows


async def test_what_an_engine_finds_wrong_is_not_tried_again(bench: Bench) -> None:
    async with farm(bench, "a", "b") as engines:
        await engines.publish(routes=(engines.route("rev1", "a", "b"),), timeouts=QUICK)
        for engine in engines.engines.values():
            engine.behaviour = Behaviour(status=400, error="a shape it does not like")

        for _ in range(8):
            assert (await engines.ask("hello")).code == "engine_error"

        assert sum(engines.calls().values()) == 8


async def test_a_timeout_is_not_tried_again_without_the_time_for_it(bench: Bench) -> None:
    tight = msgspec.structs.replace(QUICK, first_token_s=0.5, total_s=0.9)
    async with farm(bench, "a", "b") as engines:
        await engines.publish(routes=(engines.route("rev1", "a", "b"),), timeouts=tight)
        for engine in engines.engines.values():
            engine.behaviour = Behaviour(hang_after=0)

        answer = await engines.ask("hello")

        assert (answer.status, answer.code) == (504, "engine_timeout")
        assert sum(engines.calls().values()) == 1
