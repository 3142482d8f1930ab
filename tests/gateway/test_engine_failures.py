"""Engines that refuse, hang, break off or are away."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from gateway.contract import Route, Timeouts
from tests.fakes.triton import Behaviour, FakeTriton
from tests.gateway.conftest import Bench, eventually
from tests.gateway.world import replica

CHAT: dict[str, Any] = {"model": "docs", "messages": [{"role": "user", "content": "hello there"}]}
QUICK = Timeouts(connect_s=0.5, first_token_s=0.3, between_tokens_s=0.3, total_s=5.0, attempts=2)
AWAY = "http://127.0.0.1:1"  # nothing listens on a port this low


async def refused(bench: Bench, body: dict[str, Any] = CHAT) -> tuple[int, dict[str, Any], Any]:
    async with bench.post("/v1/chat/completions", body) as response:
        return response.status, (await response.json())["error"], response.headers


async def test_a_prompt_beyond_the_context_is_the_clients_error(bench: Bench) -> None:
    bench.triton.behaviour = Behaviour(
        status=400, error="context_length_exceeded: 70 prompt tokens, the context holds 64"
    )

    status, error, headers = await refused(bench)

    assert status == 400
    assert error["code"] == "context_length_exceeded"
    assert error["message"] == "70 prompt tokens, the context holds 64"
    assert headers["x-should-retry"] == "false"
    assert len(bench.triton.calls) == 1
    assert bench.totals()["refused"]["requests"] == 1


async def test_another_attempt_answers_when_the_first_fails(bench: Bench) -> None:
    bench.triton.next_behaviours = [Behaviour(status=500, error="boom")]

    async with bench.post("/v1/chat/completions", CHAT) as response:
        assert response.status == 200

    assert len(bench.triton.calls) == 2
    assert bench.totals()["completed"]["requests"] == 1


async def test_a_replica_that_is_away_is_left_for_another(idle: Bench) -> None:
    async with FakeTriton() as second:
        routes = (
            Route(
                revision_id="rev1",
                weight=1,
                replicas=(replica(AWAY, replica_id="gone"), replica(second.url, replica_id="there")),
            ),
        )
        idle.publish(routes=routes)
        await idle.ready()

        for _ in range(8):
            async with idle.post("/v1/chat/completions", CHAT) as response:
                assert response.status == 200

    assert idle.totals()["completed"]["requests"] == 8


@pytest.mark.parametrize(
    ("behaviour", "status", "code"),
    [
        (Behaviour(status=500, error="secret prompt text"), 502, "engine_error"),
        (Behaviour(status=503, error="Exceeds maximum queue size"), 503, "engine_overloaded"),
        (Behaviour(error="boom", error_after=0), 502, "engine_error"),
        (Behaviour(hang_after=0), 504, "engine_timeout"),
        (Behaviour(first_delay_s=30), 504, "engine_timeout"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_failing_before_the_first_byte(
    bench: Bench, behaviour: Behaviour, status: int, code: str, stream: bool
) -> None:
    bench.publish(timeouts=QUICK)
    await bench.settled()
    bench.triton.behaviour = behaviour

    seen, error, _ = await refused(bench, {**CHAT, "stream": stream})

    assert (seen, error["code"]) == (status, code)
    assert "secret" not in error["message"]
    assert len(bench.triton.calls) == QUICK.attempts
    assert bench.totals()["failed"]["requests"] == 1


async def test_an_engine_that_is_away(bench: Bench) -> None:
    bench.publish(routes=(Route(revision_id="rev1", weight=1, replicas=(replica(AWAY),)),))
    await bench.settled()

    status, error, headers = await refused(bench)

    assert (status, error["code"]) == (503, "engine_unreachable")
    assert headers["retry-after"] == "1"
    assert bench.totals()["failed"]["requests"] == 1


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        (Behaviour(error="boom", error_after=3), "engine_error"),
        (Behaviour(drop_after=3), "engine_unreachable"),
        (Behaviour(hang_after=3), "engine_timeout"),
    ],
)
async def test_failing_after_the_first_byte(bench: Bench, behaviour: Behaviour, code: str) -> None:
    bench.publish(timeouts=QUICK)
    await bench.settled()
    behaviour.delay_s = 0.02
    bench.triton.behaviour = behaviour

    async with bench.post("/v1/chat/completions", {**CHAT, "stream": True}) as response:
        assert response.status == 200
        body = (await response.read()).decode()
    with pytest.raises(openai.APIError):
        async for _ in await bench.openai().chat.completions.create(**CHAT, stream=True):
            pass

    events = [line.removeprefix("data: ") for line in body.split("\n\n") if line]
    assert json.loads(events[-1])["error"]["code"] == code
    assert "[DONE]" not in body
    assert len(bench.triton.calls) == 2
    assert bench.totals()["failed"] == {
        "requests": 2, "input_tokens": 8, "output_tokens": 6, "cached_tokens": 0,
    }  # fmt: skip


async def test_whole_answers_never_come_in_part(bench: Bench) -> None:
    bench.triton.behaviour = Behaviour(error="boom", error_after=3, delay_s=0.02)

    status, error, _ = await refused(bench)

    assert (status, error["code"]) == (502, "engine_error")
    assert bench.totals()["failed"]["output_tokens"] == 3


def elsewhere(region: str, *zones: str) -> tuple[Route, ...]:
    there = replica("http://127.0.0.1:1", region=region, zones=zones)
    return (Route(revision_id="rev1", weight=1, replicas=(there,)),)


@pytest.mark.parametrize(
    "change",
    [
        {"state": "provisioning", "routes": ()},
        {"residency": "region:eu-de-1", "routes": elsewhere("eu-fi-1", "EU")},
        {"residency": "zone:EU", "routes": elsewhere("us-1", "US")},
        {"residency": "zone:EU", "routes": elsewhere("us-1")},
    ],
)
async def test_nothing_may_serve(bench: Bench, change: dict[str, Any]) -> None:
    bench.publish(**change)
    await bench.settled()

    status, error, headers = await refused(bench)

    assert (status, error["code"]) == (503, "endpoint_not_ready")
    assert change.get("state", "residency") in error["message"]
    assert int(headers["retry-after"]) > 0
    assert bench.triton.calls == []
    assert bench.totals()["refused"]["requests"] == 1


@pytest.mark.parametrize("state", ["unreachable", "degraded", "failed"])
async def test_an_endpoint_that_should_serve_and_does_not_has_failed(bench: Bench, state: str) -> None:
    bench.publish(state=state, routes=())
    await bench.settled()

    status, error, _ = await refused(bench)

    assert (status, error["code"]) == (503, "endpoint_not_ready")
    assert bench.totals()["failed"]["requests"] == 1
    assert "refused" not in bench.totals()


async def test_the_total_timeout_ends_a_stream(bench: Bench) -> None:
    bench.publish(timeouts=Timeouts(total_s=0.5))
    await bench.settled()
    bench.triton.behaviour = Behaviour(tokens=32, delay_s=0.1)

    async with bench.post("/v1/chat/completions", {**CHAT, "stream": True}) as response:
        body = (await response.read()).decode()

    assert json.loads(body.strip().split("\n\n")[-1].removeprefix("data: "))["error"]["code"] == (
        "request_timeout"
    )
    await eventually(lambda: bench.triton.calls[0].left_at is not None)
    assert bench.totals()["failed"]["requests"] == 1
