"""Dispatch among full and failing replicas: shares hold while a revision is full, and nobody is refused for them."""

from __future__ import annotations

import collections
import random
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gateway import errors, routing
from gateway.contract import EngineProtocol, Replica, Route, Timeouts
from gateway.demand import Demand
from gateway.directory import Directory
from gateway.dispatch import Dispatcher, Exchange
from gateway.engines.base import EngineError, EngineRequest, EngineUnreachable, answered_error
from gateway.failures import explain
from gateway.metrics import Metrics
from gateway.replicas import ReplicaBook
from gateway.timing import Timing
from tests.gateway.world import World, key, replica

TIMEOUTS = Timeouts(attempts=4, backoff_s=0.0001, backoff_most_s=0.0001)
REQUEST = EngineRequest(prompt="", max_tokens=1)


class Stream:
    """An answer that nobody reads."""

    def close(self) -> None:
        pass


class Engines:
    """Answers for every replica but those that fail; logs who was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failing: set[str] = set()

    async def generate(self, *, replica: Replica, request: EngineRequest, timeouts: Timeouts) -> Any:
        self.asked.append(replica.replica_id)
        if replica.replica_id in self.failing:
            raise EngineUnreachable("it is away")
        return Stream()


class Room:
    """Admission with a list of full replicas: whoever finds no seat is refused after ``meanwhile``."""

    def __init__(self) -> None:
        self.full: set[str] = set()
        self.left_for: list[str] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def has_room(self, replica: Replica, outstanding: int) -> bool:
        return replica.replica_id not in self.full

    async def enter(self, demand: Demand, seat: Callable[[], bool]) -> None:
        if seat():
            return
        self.meanwhile()
        if not seat():
            raise errors.Overloaded("Nothing is free.", retry_after_s=1)

    def left(self, demand: Demand, replica: Replica) -> None:
        self.left_for.append(replica.replica_id)

    def observed(self, demand: Demand, replica: Replica, *, ttft_ms: float) -> None:
        pass

    def overloaded(self, replica: Replica) -> None:
        pass


class Bed:
    """A dispatcher over an endpoint of ``routes``."""

    def __init__(self, *routes: Route) -> None:
        self.engines, self.room, self.book = Engines(), Room(), ReplicaBook()
        self.metrics = Metrics()
        self.world = World()
        self.endpoint = msgspec.structs.replace(self.world.endpoint(""), routes=routes)
        self.dispatcher = Dispatcher(
            {EngineProtocol.TRITON_GENERATE: self.engines},  # type: ignore[dict-item]
            book=self.book,
            admission=self.room,  # type: ignore[arg-type]
            metrics=self.metrics,
            rng=random.Random(11),
        )

    def exchange(self, *, session: str = "", tenant: str = "t1", timeouts: Timeouts = TIMEOUTS) -> Exchange:
        demand = Demand(
            key=key("berth_x", "k1", tenant=tenant),
            endpoint=self.endpoint,
            slo_class=self.world.classes(timeouts)[0],
            prompt="hello",
            input_tokens=5,
            exact=True,
            max_tokens=5,
            session=session,
        )
        return self.dispatcher.exchange(
            demand,
            request_id="r",
            options=routing.options(self.endpoint),
            residency=None,
            deadline=time.monotonic() + 60,
            timing=Timing(),
        )

    async def go(self, **options: Any) -> str:
        """Serve one request; gives the replica that answered."""
        exchange = self.exchange(**options)
        try:
            await exchange.start(REQUEST)
        finally:
            exchange.close()
        assert exchange.target is not None
        return exchange.target.replica.replica_id

    def moved(self) -> float:
        return float(self.metrics.moved("e1")._value.get())


def route(revision_id: str, weight: int, *names: str) -> Route:
    members = tuple(replica("http://engine", replica_id=name) for name in names)
    return Route(revision_id=revision_id, weight=weight, replicas=members)


async def test_a_full_revision_keeps_its_share_of_those_who_wait() -> None:
    bed = Bed(route("old", 80, "a"), route("new", 20, "b"))
    bed.room.full = {"b"}
    bed.room.meanwhile = bed.room.full.clear  # room comes while they wait

    answered = collections.Counter()
    for _ in range(1_000):
        bed.room.full.add("b")
        answered[await bed.go()] += 1

    assert 140 < answered["b"] < 260
    assert bed.moved() == 0


async def test_nobody_is_refused_while_another_revision_has_room() -> None:
    bed = Bed(route("old", 50, "a"), route("new", 50, "b"))
    bed.room.full = {"b"}

    answered = collections.Counter([await bed.go() for _ in range(100)])

    assert answered == {"a": 100}
    assert 25 < bed.moved() < 75
    bed.room.full = {"a", "b"}
    with pytest.raises(errors.Overloaded):
        await bed.go()


async def test_a_revision_that_cannot_serve_gives_its_share_to_the_others() -> None:
    bed = Bed(route("old", 50, "a"), route("new", 50, "b"))
    bed.engines.failing = {"b"}

    for _ in range(60):
        assert await bed.go() == "a"

    # Its breaker is open by now: it is not drawn, so that nobody had to move.
    assert bed.engines.asked.count("b") < 10
    assert bed.moved() == 0


async def test_what_a_canary_failed_is_counted_although_clients_do_not_see_it() -> None:
    bed = Bed(route("old", 50, "a"), route("new", 50, "b"))
    bed.engines.failing = {"b"}

    for _ in range(60):
        assert await bed.go() == "a"

    assert bed.dispatcher.tried_again("e1") == {"new": bed.engines.asked.count("b")}
    assert bed.engines.asked.count("b") > 0


async def test_of_an_only_revision_the_requests_tell() -> None:
    bed = Bed(route("only", 1, "a", "b"))
    bed.engines.failing = {"b"}

    for _ in range(20):
        assert await bed.go() == "a"

    assert bed.dispatcher.tried_again("e1") == {}


async def test_a_session_waits_for_its_replica_and_leaves_rather_than_be_refused() -> None:
    bed = Bed(route("only", 1, "a", "b", "c"))
    home = await bed.go(session="s")
    assert {await bed.go(session="s") for _ in range(5)} == {home}
    bed.room.full = {home}
    bed.room.meanwhile = bed.room.full.clear

    assert await bed.go(session="s") == home

    bed.room.full, bed.room.meanwhile = {home}, lambda: None
    assert await bed.go(session="s") != home
    assert bed.moved() == 1


async def test_sessions_of_two_tenants_have_nothing_in_common() -> None:
    bed = Bed(route("only", 1, *"abcdefgh"))

    homes = [(await bed.go(session=f"s{i}"), await bed.go(session=f"s{i}", tenant="t2")) for i in range(30)]

    assert any(mine != theirs for mine, theirs in homes)


async def test_an_attempt_never_repeats_a_replica_while_another_is_left() -> None:
    bed = Bed(route("only", 1, "a", "b", "c"))
    bed.engines.failing = {"a", "b", "c"}

    with pytest.raises(errors.Unserved):
        await bed.go()

    assert sorted(bed.engines.asked[:3]) == ["a", "b", "c"]
    assert len(bed.engines.asked) == 4
    assert bed.book.outstanding == {}
    assert sorted(bed.room.left_for) == sorted(bed.engines.asked)


async def test_who_waits_sees_replicas_that_come_meanwhile() -> None:
    bed = Bed(route("only", 1, "a"))
    bed.room.full = {"a"}

    def scale_up() -> None:
        bed.world.more = {}
        changed = (route("only", 1, "a", "b"),)
        snapshot = bed.world.snapshot("", routes=changed)
        bed.dispatcher.use(Directory(snapshot, peppers={}))

    bed.room.meanwhile = scale_up

    assert await bed.go() == "b"


async def test_and_never_one_that_its_residency_forbids() -> None:
    bed = Bed(route("only", 1, "a"))
    bed.room.full = {"a"}
    abroad = replica("http://engine", replica_id="b", region="us-1", zones=("US",))

    def move_abroad() -> None:
        members = (Route(revision_id="only", weight=1, replicas=(abroad,)),)
        bed.dispatcher.use(Directory(bed.world.snapshot("", routes=members), peppers={}))

    bed.room.meanwhile = move_abroad

    with pytest.raises(errors.Overloaded):
        await bed.go()
    assert bed.engines.asked == []


async def test_a_probe_that_its_client_leaves_lets_another_be_it() -> None:
    bed = Bed(route("only", 1, "a"))
    bed.engines.failing = {"a"}
    for _ in range(3):
        with pytest.raises(errors.Unserved):
            await bed.go(timeouts=Timeouts(attempts=1))
    bed.engines.failing = set()
    clock = bed.book.clock
    bed.book.clock = lambda: clock() + 2
    probe = bed.exchange()
    assert probe._seat()
    with pytest.raises(errors.Unserved):
        await bed.go()

    probe.close()

    assert await bed.go() == "a"


def test_errors_of_engines_are_told_apart() -> None:
    kinds: list[tuple[EngineError, type[errors.ApiError], int]] = [
        (answered_error(503, ""), errors.Overloaded, 503),
        (answered_error(429, ""), errors.Overloaded, 503),
        (answered_error(500, "Exceeds maximum queue size"), errors.Overloaded, 503),
        (answered_error(200, "No free blocks left"), errors.Overloaded, 503),
        (answered_error(500, "boom"), errors.Unserved, 502),
        (EngineUnreachable("away"), errors.Unserved, 503),
    ]
    for error, kind, status in kinds:
        told = explain(error)
        assert type(told) is kind
        assert told.status == status
