"""Endpoints scaled to zero: the control plane is told, and the client is held or told to come back."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.contract import OnOverload, Timeouts
from tests.gateway.conftest import Bench, eventually
from tests.gateway.farm import Answer, Farm, farm

HOLD = {"X-Scale-Up-Timeout": "60"}


async def asleep(engines: Farm, state: str = "scaled-to-zero", **changes: object) -> None:
    await engines.publish(routes=(), state=state, **changes)


async def held(engines: Farm, headers: dict[str, str] = HOLD) -> asyncio.Task[Answer]:
    task = asyncio.create_task(engines.ask("hi", headers=headers))
    await engines.bench.in_flight(1)
    return task


async def test_the_client_is_told_to_come_back_and_the_endpoint_is_woken_once(bench: Bench) -> None:
    async with farm(bench, "a") as engines:
        await asleep(engines)

        answers = await asyncio.gather(*(engines.ask("hi") for _ in range(20)))

        assert {(answer.status, answer.code) for answer in answers} == {(503, "endpoint_not_ready")}
        assert all(int(answer.headers["retry-after"]) > 0 for answer in answers)
        assert "X-Scale-Up-Timeout" in answers[0].message
        await eventually(lambda: bool(bench.control.wakes))
        assert bench.control.wakes == [("e1",)]


async def test_who_asks_for_it_is_held_until_a_replica_is_there(bench: Bench) -> None:
    async with farm(bench, "a") as engines:
        await asleep(engines)
        task = await held(engines)
        await eventually(lambda: bench.control.wakes == [("e1",)])
        await asleep(engines, "provisioning")
        assert not task.done()

        await engines.publish(routes=(engines.route("rev1", "a"),), state="ready")

        answer = await task
        assert answer.status == 200
        assert engines.calls() == {"a": 1}
        assert bench.totals() == {
            "completed": {"requests": 1, "input_tokens": 1, "output_tokens": 5, "cached_tokens": 0}
        }


async def test_an_endpoint_that_says_so_holds_requests_that_ask_for_nothing(bench: Bench) -> None:
    async with farm(bench, "a") as engines:
        await asleep(engines, wake_hold_s=60.0)
        asked = [asyncio.create_task(engines.ask("hi")) for _ in range(5)]
        await bench.in_flight(5)
        await eventually(lambda: bench.control.wakes == [("e1",)])

        # Who is held is told of as in progress: that alone brings replicas, should the word have been lost.
        await asleep(engines, "provisioning", wake_hold_s=60.0)
        late = asyncio.create_task(engines.ask("hi"))
        await bench.in_flight(6)
        await engines.publish(routes=(engines.route("rev1", "a"),), state="ready")

        assert [(await task).status for task in (*asked, late)] == [200] * 6
        assert engines.calls() == {"a": 6}


async def test_a_client_may_ask_not_to_be_held(bench: Bench) -> None:
    async with farm(bench, "a") as engines:
        await asleep(engines, wake_hold_s=60.0)

        answer = await engines.ask("hi", headers={"X-Scale-Up-Timeout": "0"})

        assert (answer.status, answer.code) == (503, "endpoint_not_ready")


async def test_one_that_cannot_be_woken_says_so_at_once_and_is_tried_again(bench: Bench) -> None:
    async with farm(bench, "a") as engines:
        await asleep(engines, wake_refused="OverQuota")

        answer = await engines.ask("hi")

        assert (answer.status, answer.code) == (503, "endpoint_not_ready")
        assert "could not be woken (OverQuota)" in answer.message
        await eventually(lambda: bench.control.wakes == [("e1",)])


async def test_who_is_held_learns_that_it_cannot_be_woken(bench: Bench) -> None:
    async with farm(bench, "a") as engines:
        await asleep(engines, wake_hold_s=60.0)
        task = asyncio.create_task(engines.ask("hi"))
        await bench.in_flight(1)

        await asleep(engines, wake_refused="OverBudget")

        assert "could not be woken (OverBudget)" in (await task).message


async def test_who_asks_to_be_held_is_although_it_could_not_be_woken_before(bench: Bench) -> None:
    async with farm(bench, "a") as engines:
        await asleep(engines, wake_refused="OverQuota")
        task = await held(engines)
        await engines.publish(routes=(engines.route("rev1", "a"),), state="ready")
        assert (await task).status == 200


async def test_a_fallback_that_is_awake_answers_instead_of_holding(bench: Bench) -> None:
    async with farm(bench, "b") as engines:
        bench.world.more["classes"] = bench.world.classes(on_overload=OnOverload.FALLBACK)
        bench.world.others = (engines.endpoint("second", engines.replica("b")),)
        await asleep(engines, fallbacks=("second",), wake_hold_s=60.0)

        assert (await engines.ask("hi")).headers["x-berth-fallback"] == "second"
        await eventually(lambda: bench.control.wakes == [("e1",)])


async def test_one_that_is_provisioned_is_waited_for_too_and_not_woken(bench: Bench) -> None:
    async with farm(bench, "a") as engines:
        await asleep(engines, "provisioning")
        assert (await engines.ask("hi")).status == 503
        task = await held(engines)

        await engines.publish(routes=(engines.route("rev1", "a"),), state="ready")

        assert (await task).status == 200
        assert bench.control.wakes == []


async def test_holding_ends_after_the_time_that_was_asked_for(bench: Bench) -> None:
    async with farm(bench, "a") as engines:
        await asleep(engines)
        began = time.monotonic()

        answer = await engines.ask("hi", headers={"X-Scale-Up-Timeout": "0.3"})

        assert (answer.status, answer.code) == (503, "endpoint_not_ready")
        assert time.monotonic() - began >= 0.3


async def test_holding_ends_within_the_requests_own_time(bench: Bench) -> None:
    async with farm(bench, "a") as engines:
        await asleep(engines, timeouts=Timeouts(total_s=1.0))

        assert (await engines.ask("hi", headers=HOLD)).code == "endpoint_not_ready"


@pytest.mark.parametrize("state", ["failed", "paused"])
async def test_what_will_not_come_is_not_waited_for(bench: Bench, state: str) -> None:
    async with farm(bench, "a") as engines:
        await asleep(engines, state)
        assert state in (await engines.ask("hi", headers=HOLD)).message

        await asleep(engines)
        task = await held(engines)
        await asleep(engines, state)

        assert state in (await task).message


async def test_an_endpoint_or_a_key_that_goes_meanwhile_ends_it(bench: Bench) -> None:
    async with farm(bench, "a") as engines:
        await asleep(engines)
        task = await held(engines)
        await asleep(engines, endpoint_id="another", name="other")
        assert (await task).code == "model_not_found"

        await asleep(engines)
        task = await held(engines)
        bench.world.keys = bench.world.keys[1:]
        await engines.publish(routes=(engines.route("rev1", "a"),), state="ready")

        assert ((await task).status, (await task).code) == (401, "invalid_api_key")
        assert engines.calls() == {"a": 0}


@pytest.mark.parametrize("text", ["soon", "-1", "nan", ""])
async def test_a_time_that_is_none_is_refused(bench: Bench, text: str) -> None:
    async with farm(bench, "a") as engines:
        await asleep(engines)

        answer = await engines.ask("hi", headers={"X-Scale-Up-Timeout": text})

        assert answer.status == 400
        assert "X-Scale-Up-Timeout" in answer.message


async def test_a_stopping_gateway_holds_nobody(bench: Bench) -> None:
    async with farm(bench, "a") as engines:
        await asleep(engines)
        task = await held(engines)

        stopping = asyncio.create_task(bench.stop())

        answer = await task
        await stopping
        assert (answer.status, answer.code) == (503, "stopping")


async def test_a_fallback_that_sleeps_is_woken_and_one_that_is_awake_answers(bench: Bench) -> None:
    async with farm(bench, "b") as engines:
        bench.world.more["classes"] = bench.world.classes(on_overload=OnOverload.FALLBACK)
        bench.world.others = (
            engines.endpoint("second", state="scaled-to-zero"),
            engines.endpoint("third", engines.replica("b")),
        )
        await asleep(engines, fallbacks=("second", "third"))

        assert (await engines.ask("hi")).headers["x-berth-fallback"] == "third"

        await eventually(lambda: {name for wake in bench.control.wakes for name in wake} == {"e1", "second"})


async def test_a_control_plane_that_is_away_is_told_when_it_is_back(bench: Bench) -> None:
    async with farm(bench, "a") as engines:
        await asleep(engines)
        await bench.control.stop()

        assert (await engines.ask("hi")).code == "endpoint_not_ready"

        await bench.control.start()
        await eventually(lambda: bench.control.wakes == [("e1",)], timeout_s=30)
