"""How endpoints stand: what runs now and what ended within a minute, told when it is news and while it holds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import aiohttp
import msgspec
import pytest

from gateway.admission import QueueState
from gateway.contract import ITL_BOUNDS_MS, LATENCY_BOUNDS_MS, EndpointSignal, Outcome, SloClass
from gateway.metering.records import UsageRecord
from gateway.signals import Signaller
from gateway.tallies import Tallies
from tests.fakes.triton import Behaviour
from tests.gateway.conftest import Bench, eventually

CHAT = {"model": "docs", "messages": [{"role": "user", "content": "hello there"}]}


async def test_what_runs_and_what_ended_is_told(bench: Bench) -> None:
    bench.triton.next_behaviours = [Behaviour(tokens=4, delay_s=0.02), Behaviour(tokens=3, hang_after=0)]
    assert await bench.http_status("/v1/chat/completions", CHAT) == 200
    hanging = asyncio.create_task(bench.http_status("/v1/chat/completions", CHAT))

    await eventually(lambda: any(s.in_flight == 1 and s.requests == 1 for s in bench.control.signals))
    hanging.cancel()
    await eventually(lambda: bench.control.signals[-1].in_flight == 0)

    ended = next(s for s in bench.control.signals if s.in_flight == 1 and s.requests == 1)
    assert ended.endpoint_id == "e1"
    assert (ended.output_tokens, ended.prefills, sum(ended.ttft_ms), sum(ended.itl_ms)) == (4, 1, 1, 1)
    assert ended.decode_s >= 0.06
    assert ended.prefill_s > 0
    (signaller,) = bench.control.signallers
    assert signaller.startswith("gw-1/")


async def test_a_quiet_gateway_says_nothing(bench: Bench) -> None:
    polls = len(bench.control.polls)
    bench.publish(default_max_tokens=3)
    await eventually(lambda: len(bench.control.polls) > polls + 1)
    await eventually(lambda: bool(bench.control.reports) or len(bench.control.polls) > 1)
    assert bench.control.signals == []


async def test_without_metrics_nothing_is_counted_and_nothing_told(idle: Bench) -> None:
    await idle.ready(BERTH_GATEWAY_METRICS="off")
    assert await idle.http_status("/v1/chat/completions", CHAT) == 200
    async with idle.http.get(f"{idle.url}/metrics") as response:
        text = await response.text()

    assert 'berth_gateway_requests_total{endpoint="e1"' not in text
    assert "berth_gateway_control_plane_contact_age_seconds " in text
    await eventually(lambda: idle.control.requests() == {"completed": 1})
    assert idle.control.signals == []


STANDARD = SloClass(name="standard", priority=2)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def record(**changes: object) -> UsageRecord:
    values = {
        "request_id": "r",
        "ended_at": 0.0,
        "tenant_id": "t1",
        "project_id": "p1",
        "key_id": "k1",
        "region": "eu",
        "outcome": Outcome.COMPLETED,
        "endpoint_id": "e1",
        "slo_class": "interactive",
        "input_tokens": 10,
        "output_tokens": 2,
        "own_ms": 0.5,
        "queue_ms": 250.0,
        "ttft_ms": 1_250.5,
        "prefill_ms": 1_000.0,
        "decode_ms": 30.0,
        "itl_ms": 30.0,
    }
    return UsageRecord(**{**values, **changes})  # type: ignore[arg-type]


REFUSED = {
    "outcome": Outcome.REFUSED,
    "ttft_ms": None,
    "prefill_ms": None,
    "decode_ms": None,
    "itl_ms": None,
    "input_tokens": 0,
    "output_tokens": 0,
}


def queue(
    waiting: dict[str, int], *, oldest: dict[int, float] | None = None, pressure: int = 0
) -> QueueState:
    return QueueState(
        waiting=waiting, oldest_s=oldest or {}, shed={}, limits={}, pressure=pressure, admitted_per_s=None
    )


class Told:
    """A signaller whose news are taken by hand."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.clock = Clock()
        self.tallies = Tallies()
        self.queues: dict[str, QueueState] = {}
        self.tried_again: dict[str, dict[str, int]] = {}
        self.classes: dict[str, SloClass] = {}
        self.signaller = Signaller(
            tallies=self.tallies,
            queues=self._now_queued,
            tried_again=lambda endpoint_id: self.tried_again.get(endpoint_id, {}),
            class_of=lambda endpoint_id: self.classes.get(endpoint_id),
            identity="gw-1/0",
            session=session,
            control_plane_url="http://control",
            interval_s=5.0,
            clock=self.clock,
        )

    def _now_queued(self) -> Mapping[str, QueueState]:
        return self.queues

    def after(self, seconds: float) -> dict[str, EndpointSignal]:
        """Give what is told so much later, and take it as told."""
        self.clock.now += seconds
        news = {signal.endpoint_id: signal for signal in self.signaller.news()}
        self.signaller.told(news.values())
        return news


@pytest.fixture
async def signals():
    async with aiohttp.ClientSession() as session:
        yield Told(session)


async def test_the_counts_are_of_the_last_minute(signals: Told) -> None:
    signals.tallies.add(record())
    signals.tallies.add(record(slo_class="batch"))
    signals.tallies.add(record(**REFUSED, code="overloaded"))
    signals.tallies.add(record(**REFUSED, code="rate_limit_exceeded"))

    first = signals.after(5)["e1"]
    assert (first.requests, first.shed, first.refused, first.failed) == (4, 1, 1, 0)
    assert (first.input_tokens, first.output_tokens, first.prefills) == (20, 4, 2)
    assert (first.queue_s, first.prefill_s, first.decode_s) == (1.0, 2.0, 0.06)
    assert first.ttft_ms[LATENCY_BOUNDS_MS.index(1_500)] == sum(first.ttft_ms) == 2
    assert first.itl_ms[ITL_BOUNDS_MS.index(30)] == sum(first.itl_ms) == 2

    signals.tallies.add(record())
    assert signals.after(30)["e1"].requests == 5
    assert signals.after(31)["e1"].requests == 1, "the first four ended more than a minute ago"
    assert signals.after(30)["e1"] == EndpointSignal(endpoint_id="e1"), "silence after a last word"
    assert signals.after(5) == signals.after(100) == {}


async def test_what_holds_is_told_again_before_it_is_stale(signals: Told) -> None:
    signals.tallies.level("e1").inc()
    assert signals.after(5)["e1"].in_flight == 1
    assert signals.after(5) == {}
    assert signals.after(5) == {}
    assert signals.after(15)["e1"].in_flight == 1


async def test_what_waits_is_told_by_class(signals: Told) -> None:
    signals.queues["e2"] = queue({"batch": 3, "standard": 1}, oldest={1: 2.345, 2: 1.0})
    told = signals.after(5)["e2"]
    assert (told.queued, told.oldest_wait_s) == ({"batch": 3, "standard": 1}, 2.3)

    del signals.queues["e2"]
    assert signals.after(5)["e2"] == EndpointSignal(endpoint_id="e2")
    assert signals.after(5) == {}


async def test_lower_classes_are_not_held_against_an_endpoint(signals: Told) -> None:
    signals.classes["e1"] = STANDARD
    signals.tallies.add(record(slo_class="standard", ttft_ms=400.0))
    signals.tallies.add(record(slo_class="batch", ttft_ms=55_000.0, itl_ms=900.0))
    signals.tallies.add(record(**REFUSED, slo_class="batch", code="overloaded"))
    signals.queues["e1"] = queue({"batch": 30}, oldest={STANDARD.priority + 10: 50.0})

    told = signals.after(5)["e1"]
    assert (told.requests, told.output_tokens, told.queued) == (3, 4, {"batch": 30})
    assert (told.oldest_wait_s, told.shed, sum(told.ttft_ms), sum(told.itl_ms)) == (0.0, 0, 1, 1)
    assert len(told.ttft_ms) <= LATENCY_BOUNDS_MS.index(500) + 1, "its own was quick"

    signals.queues["e1"] = queue({"standard": 1}, oldest={STANDARD.priority: 3.0})
    assert signals.after(5)["e1"].oldest_wait_s == 3.0


async def test_of_a_class_that_an_endpoint_gets_only_what_comes_counts(signals: Told) -> None:
    signals.classes["e1"] = STANDARD
    signals.tallies.add(record(slo_class="standard"))
    signals.tallies.add(record(slo_class="batch"))
    assert sum(signals.after(5)["e1"].ttft_ms) == 1
    signals.classes["e1"] = msgspec.structs.replace(STANDARD, name="batch", priority=STANDARD.priority + 10)
    assert sum(signals.after(5)["e1"].ttft_ms) == 0
    signals.tallies.add(record(slo_class="batch"))
    assert sum(signals.after(5)["e1"].ttft_ms) == 1


async def test_full_caches_are_counted_within_the_minute(signals: Told) -> None:
    signals.tallies.add(record())
    signals.queues["e1"] = queue({}, pressure=2)
    assert signals.after(5)["e1"].kv_pressure == 2
    signals.queues["e1"] = queue({}, pressure=3)
    assert signals.after(30)["e1"].kv_pressure == 3
    assert signals.after(31)["e1"].kv_pressure == 1


async def test_what_revisions_failed_is_told_as_sums_while_there_are_several(signals: Told) -> None:
    signals.tallies.add(record())
    signals.tried_again["e1"] = {"r2": 3}
    assert signals.after(5)["e1"].tried_again == {"r2": 3}
    signals.tried_again["e1"] = {"r2": 4}
    assert signals.after(200)["e1"].tried_again == {"r2": 4}
    signals.tried_again.clear()
    assert signals.after(30)["e1"] == EndpointSignal(endpoint_id="e1")


async def test_a_message_that_is_lost_is_made_good_by_the_next(signals: Told) -> None:
    signals.tallies.add(record())
    assert {signal.requests for signal in signals.signaller.news()} == {1}
    signals.tallies.add(record())
    assert signals.after(5)["e1"].requests == 2


async def test_endpoints_that_are_gone_are_forgotten(signals: Told) -> None:
    signals.tallies.add(record())
    signals.tallies.add(record(endpoint_id=""))
    signals.tallies.level("e2").inc()
    assert set(signals.after(5)) == {"e1", "e2"}

    signals.tallies.keep(frozenset())
    signals.tallies.add(record(endpoint_id="e3"))
    told = signals.after(5)
    assert set(told) == {"e1", "e3"}
    assert told["e1"] == EndpointSignal(endpoint_id="e1")
    assert set(signals.after(61)) == {"e2", "e3"}
    assert signals.tallies.in_flight["e2"].value == 1, "a request still runs there"
