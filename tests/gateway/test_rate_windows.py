"""The counters of rate limits, on a clock of the test's own: in this process, and the same in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedded.datadir import DataDir
from embedded.redis import Redis
from gateway.contract import Endpoint, Key, Project, RateLimits, Snapshot, Tenant
from gateway.limits import shared
from gateway.limits.book import LimitBook
from gateway.limits.charges import Charge, Verdict
from gateway.limits.local import LocalCounters
from gateway.limits.window import SLOT_MS, WINDOW_S
from tests.gateway.world import KEY, World, key

LIMITS = {"a": 10, "b": 7, "c": 100}
STEP = st.tuples(
    st.integers(0, 9_000),  # milliseconds that pass
    st.dictionaries(st.sampled_from(sorted(LIMITS)), st.integers(1, 7), min_size=1),  # costs by counter
    st.integers(-7, 3),  # what is corrected of the request before it
)


class Clock:
    def __init__(self) -> None:
        self.ms = 1_764_000_000_000

    def __call__(self) -> float:
        return self.ms / 1000


class InRedis:
    """The script under a clock of the test's, with corrections sent along with the next request."""

    def __init__(self, connection: redis.Redis, clock: Clock) -> None:
        connection.flushdb()
        script = shared._SCRIPT.replace("redis.call('TIME')", "{ARGV[2], ARGV[3]}")
        assert script != shared._SCRIPT
        self._script = connection.register_script(script)
        self._clock = clock
        self._life = ""
        self._corrections: list[tuple[str, int, int]] = []

    def correct(self, slot: int, counter: str, amount: int) -> None:
        self._corrections.append((counter, slot, amount))

    def enter(self, charges: list[Charge]) -> Verdict:
        names = sorted({each.counter for each in charges} | {name for name, _, _ in self._corrections})
        keys = {name: index + 2 for index, name in enumerate(names)}
        message = msgspec.msgpack.encode(
            (
                self._life,
                [(keys[name], slot, amount) for name, slot, amount in self._corrections],
                [[(keys[each.counter], each.limit, each.cost) for each in charges]],
            )
        )
        self._corrections = []
        seconds, left_ms = divmod(self._clock.ms, 1000)
        answer = self._script(keys=["life", *names], args=[message, seconds, left_ms * 1000])
        self._life, now_ms, [found] = msgspec.msgpack.decode(answer)
        assert now_ms == self._clock.ms
        return shared._verdict(found, now_ms, self._life)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    running = Redis(DataDir(tmp_path_factory.mktemp("redis")))
    running.start()
    connection = redis.Redis.from_url(running.url())
    try:
        yield connection
    finally:
        connection.close()
        running.stop()


def charges_of(costs: dict[str, int]) -> list[Charge]:
    return [Charge(name, LIMITS[name], cost) for name, cost in sorted(costs.items())]


@settings(deadline=None)
@given(st.lists(STEP, max_size=60))
def test_no_60_seconds_hold_more_than_the_limit_and_nothing_else_is_refused(steps: list) -> None:
    clock = Clock()
    counters = LocalCounters(clock)
    held: list[tuple[int, dict[str, int]]] = []  # moment in milliseconds, what still counts of the request
    for pause, costs, correction in steps:
        if held:
            moment, before = held[-1]
            for name in before:
                amount = max(correction, -before[name])
                counters.correct(moment // SLOT_MS, name, amount)
                before[name] += amount
        clock.ms += pause
        verdict = counters.enter(charges_of(costs))
        for name, cost in costs.items():
            # One window that the limit is promised for, and the longest that a charge may count.
            short = sum(each.get(name, 0) for at, each in held if at > clock.ms - 60_000)
            long = sum(each.get(name, 0) for at, each in held if at > clock.ms - 60_500)
            if verdict.refused < 0 and correction <= 0:
                assert short + cost <= LIMITS[name]
            if name == sorted(costs)[verdict.refused] and verdict.refused >= 0:
                assert long + cost > LIMITS[name]
        if verdict.refused < 0:
            held.append((clock.ms, dict(costs)))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEP, max_size=40))
def test_redis_counts_as_this_process_does(server: redis.Redis, steps: list) -> None:
    clock = Clock()
    here, there = LocalCounters(clock), InRedis(server, clock)
    last: tuple[int, dict[str, int]] | None = None
    for pause, costs, correction in steps:
        if last is not None:
            for name in last[1]:
                for counters in (here, there):
                    counters.correct(last[0], name, correction)
        clock.ms += pause
        mine, theirs = here.enter(charges_of(costs)), there.enter(charges_of(costs))
        assert (mine.refused, mine.used, mine.slot) == (theirs.refused, theirs.used, theirs.slot)
        assert mine.wait_s == pytest.approx(theirs.wait_s, abs=2e-3)
        assert mine.resets_s == pytest.approx(theirs.resets_s, abs=2e-3)
        last = (mine.slot, costs) if mine.refused < 0 else None


@settings(deadline=None)
@given(st.lists(STEP, max_size=40), st.integers(1, 7))
def test_after_the_wait_that_was_told_there_is_room_and_not_before(steps: list, cost: int) -> None:
    clock = Clock()
    counters = LocalCounters(clock)
    for pause, costs, _ in steps:
        clock.ms += pause
        counters.enter(charges_of(costs))
    charge = [Charge("b", LIMITS["b"], cost)]
    verdict = counters.enter(charge)
    if verdict.refused < 0:
        return
    assert verdict.wait_s <= WINDOW_S + SLOT_MS / 1000
    clock.ms += round(verdict.wait_s * 1000) - 1
    assert counters.enter(charge).refused == 0
    clock.ms += 1
    assert counters.enter(charge).refused < 0


def test_one_refusal_counts_at_nobody() -> None:
    counters = LocalCounters(Clock())
    assert counters.enter([Charge("a", 5, 3), Charge("b", 2, 2)]).refused < 0

    refused = counters.enter([Charge("a", 5, 1), Charge("b", 2, 1)])

    assert refused.refused == 1
    assert refused.used == [3, 2]
    assert counters.enter([Charge("a", 5, 2)]).refused < 0


def test_a_counter_that_nobody_uses_is_forgotten() -> None:
    clock = Clock()
    counters = LocalCounters(clock)
    for number in range(50):
        counters.enter([Charge(f"key {number}", 5, 1)])
    clock.ms += 121_000
    counters.enter([Charge("another", 5, 1)])
    assert len(counters) == 1


def test_redis_forgets_by_itself_and_a_life_tells_that_it_forgot(server: redis.Redis) -> None:
    clock = Clock()
    there = InRedis(server, clock)
    first = there.enter([Charge("a", 5, 5)])
    assert 60 < server.ttl("a") <= 62

    server.flushdb()
    clock.ms += 1
    there.correct(first.slot, "a", -5)  # of what was lost: nothing of the new life is given back
    second = there.enter([Charge("a", 5, 4)])
    assert second.life != first.life
    assert second.used == [4]


def snapshot(*, gateways: int = 1, here: int = 1, number: int | None = 10) -> tuple[Snapshot, Key, Endpoint]:
    rates = RateLimits(requests_per_minute=number)
    caller = key(KEY, "k1", rates=rates)
    endpoint = World().endpoint("http://nowhere", rates=RateLimits(tokens_per_minute=1_000))
    made = Snapshot.build(
        gateway="gw-1",
        region="eu-de-1",
        keys=(caller,),
        endpoints=(endpoint,),
        classes=World().classes(),
        tenants=(Tenant(tenant_id="t1", name="Acme", rates=rates),),
        projects=(Project(project_id="p1", tenant_id="t1", name="Web"),),
        gateways=gateways,
        gateways_here=here,
    )
    return made, caller, endpoint


@settings(deadline=None)
@given(st.integers(1, 1_000), st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_the_shares_of_all_stay_within_the_limit(number: int, regions: list[int]) -> None:
    gateways = sum(regions)
    here, alone = [], []
    for count in regions:
        book = LimitBook()
        made, caller, endpoint = snapshot(gateways=gateways, here=count, number=number)
        book.use(made)
        limit = book.limits(caller, endpoint)[0]
        here.append(limit.here)
        alone.append(limit.alone)
    assert min(here + alone) >= 1
    # Below one a gateway no share would let anything through: there each lets one.
    assert sum(here) <= max(number, len(regions)) if number < gateways else sum(here) <= number
    assert sum(a * count for a, count in zip(alone, regions, strict=True)) <= max(number, gateways)


def test_every_owner_with_a_limit_is_met_and_those_without_cost_nothing() -> None:
    book = LimitBook()
    made, caller, endpoint = snapshot()
    book.use(made)
    met = [
        (each.owner.value, each.name, each.unit.value, each.number) for each in book.limits(caller, endpoint)
    ]
    assert met == [
        ("key", "key k1", "requests", 10),
        ("tenant", "Acme", "requests", 10),
        ("endpoint", "docs", "tokens", 1_000),
    ]
    plain = key(KEY, "k9", tenant="t2")
    assert book.limits(plain, World().endpoint("http://nowhere")) == ()
    later, caller, endpoint = snapshot(number=20)
    book.use(later)
    assert {each.number for each in book.limits(caller, endpoint)} == {20, 1_000}


def test_asking_a_redis_that_is_away_waits_for_nothing() -> None:
    async def ask() -> Verdict | None:
        return await shared.SharedCounters("redis://127.0.0.1:1/0", call_s=0.05).enter([Charge("a", 1, 1)])

    assert asyncio.run(ask()) is None
