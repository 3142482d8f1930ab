"""Breakers open, half-open and close; outliers are ejected, never too many; recovered replicas start slowly."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract import Timeouts
from gateway.replicas import ReplicaBook
from gateway.routing import Breaker, RetryBudget, pause_s
from gateway.routing.breaker import FAILURES, LAST_S, MOST_S
from gateway.routing.outliers import Seen, outliers
from gateway.routing.retries import BESIDES, SHARE


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def opened(now: float = 100.0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES):
        breaker.failed(now, probe=False)
    return breaker


def test_it_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker()
    for _ in range(5):
        for _ in range(FAILURES - 1):
            assert not breaker.failed(1.0, probe=False)
        breaker.answered(probe=False)
        assert breaker.allows(1.0)

    for _ in range(FAILURES):
        breaker.failed(1.0, probe=False)

    assert not breaker.allows(1.0)


def test_half_open_lets_one_probe_through_and_its_answer_closes_it() -> None:
    breaker = opened(100.0)

    assert not breaker.allows(100.4)
    assert breaker.allows(100.6)
    assert breaker.begin()
    assert not breaker.allows(100.6)
    breaker.end(probe=True)
    assert breaker.allows(100.6)
    assert breaker.begin()
    assert not breaker.answered(probe=False)
    assert breaker.answered(probe=True)
    assert breaker.closed
    assert not breaker.begin()


def test_each_failed_probe_doubles_the_pause() -> None:
    breaker, now, pauses = opened(0.0), 0.0, []

    for _ in range(8):
        began = now
        while not breaker.allows(now):
            now += 0.1
        pauses.append(round(now - began, 1))
        breaker.begin()
        breaker.failed(now, probe=True)

    assert pauses == pytest.approx([0.5, 1, 2, 4, 8, MOST_S, MOST_S, MOST_S], abs=0.11)


def test_requests_from_before_tell_nothing_while_it_is_open() -> None:
    breaker = opened(100.0)

    for _ in range(10):
        assert not breaker.failed(100.1, probe=False)

    assert breaker.allows(100.6)


def test_the_last_replica_is_tried_sooner() -> None:
    breaker = opened(0.0)
    for _ in range(6):
        breaker.begin()
        breaker.failed(0.0, probe=True)

    assert not breaker.allows(LAST_S + 0.1)
    assert breaker.allows(LAST_S + 0.1, last=True)
    assert not breaker.allows(LAST_S - 0.1, last=True)


seen = st.builds(
    lambda requests, share, first: Seen(requests, round(requests * share), first),
    st.integers(0, 200), st.floats(0, 1), st.floats(0, 5),
)  # fmt: skip


@given(peers=st.dictionaries(st.text(max_size=3), seen, max_size=8), most=st.integers(-2, 8))
def test_never_more_than_allowed_are_outliers(peers: dict[str, Seen], most: int) -> None:
    found = outliers(peers, most=most)

    assert len(found) <= max(0, most)
    assert len(found) == len(set(found))
    assert set(found) <= {name for name, each in peers.items() if each.requests >= 10}


GOOD = Seen(100, 1, 0.2)


@pytest.mark.parametrize(
    ("peers", "found"),
    [
        ({"a": GOOD, "b": GOOD, "c": GOOD}, []),
        ({"a": GOOD, "b": Seen(100, 30, 0.2), "c": GOOD}, ["b"]),
        ({"a": GOOD, "b": GOOD, "c": Seen(100, 0, 0.9)}, ["c"]),
        ({"a": Seen(100, 0, 0.02), "b": Seen(100, 0, 0.02), "c": Seen(100, 0, 0.1)}, []),  # fast enough
        ({"a": Seen(100, 40, 0.2), "b": Seen(100, 45, 0.2), "c": Seen(100, 42, 0.2)}, []),  # all alike
        ({"a": GOOD, "b": Seen(9, 9, 0.2), "c": GOOD}, []),  # too few to say
        ({"a": Seen(100, 90, 0.2)}, []),
        ({"a": GOOD, "b": Seen(100, 40, 0.2), "c": Seen(100, 80, 0.2), "d": GOOD, "e": GOOD}, ["c", "b"]),
    ],
)
def test_outliers_are_those_that_do_worse_than_their_peers(peers: dict[str, Seen], found: list[str]) -> None:
    assert outliers(peers, most=2) == found


class World:
    """A book of replicas a, b, …, all of one endpoint."""

    def __init__(self, names: str) -> None:
        self.clock = Clock()
        self.book = ReplicaBook(clock=self.clock)
        self.names = list(names)
        self.book.keep(set(names))

    def request(self, name: str, *, ok: bool = True, first_token_s: float = 0.0) -> None:
        visit = self.book.begin(name, 10)
        self.clock.now += first_token_s
        if ok:
            self.book.answered(visit, first_token_s=first_token_s)
        else:
            self.book.failed(visit)
        self.book.end(visit)

    def judge(self) -> set[str]:
        """Give who is usable after a judgement."""
        self.clock.now += 2.1
        self.book.judge("e1", self.names)
        return {name for name in self.names if self.book.usable(name)}


def mixed(world: World, name: str) -> None:
    """Fail every other request, which no breaker minds."""
    for _ in range(10):
        world.request(name)
        world.request(name, ok=False)


def test_a_replica_that_fails_often_is_ejected_and_comes_back_slowly() -> None:
    world = World("abc")
    for name in "bc":
        for _ in range(20):
            world.request(name)
    mixed(world, "a")

    assert world.judge() == {"b", "c"}
    assert world.book.passable("a")
    world.clock.now += 10.1
    assert world.judge() == {"a", "b", "c"}
    assert world.book.warmth(world.names) == {"a": 0.1}
    world.clock.now += 5
    assert world.book.warmth(world.names)["a"] == pytest.approx(0.5, abs=0.01)
    world.clock.now += 5.1
    assert world.book.warmth(world.names) == {}


def test_a_relapse_is_out_for_longer() -> None:
    world = World("abc")
    for out_s in (10, 20, 30):
        for name in "bc":
            for _ in range(20):
                world.request(name)
        mixed(world, "a")
        assert world.judge() == {"b", "c"}
        world.clock.now += out_s - 2.5
        assert "a" not in world.judge()
        world.clock.now += 2.5
        assert "a" in world.judge()


@given(
    names=st.sampled_from(["a", "ab", "abc", "abcd", "abcdefg"]),
    events=st.lists(
        st.tuples(st.integers(0, 6), st.sampled_from(["good", "mixed", "slow", "judge", "wait"])), max_size=40
    ),
)
def test_half_of_an_endpoint_is_never_ejected_and_one_replica_always_stays(
    names: str, events: list[tuple[int, str]]
) -> None:
    world = World(names)
    for which, event in events:
        name = names[which % len(names)]
        match event:
            case "good":
                for _ in range(12):
                    world.request(name)
            case "mixed":
                mixed(world, name)
            case "slow":
                for _ in range(12):
                    world.request(name, first_token_s=0.5)
            case "wait":
                world.clock.now += 7
            case "judge":
                assert len(world.judge()) >= max(1, len(names) - len(names) // 2)


def test_a_broken_replica_is_tried_by_one_request_and_forgiven_when_that_is_answered() -> None:
    world = World("ab")
    for _ in range(FAILURES):
        world.request("a", ok=False)

    assert not world.book.usable("a")
    assert world.book.opened == 1
    world.clock.now += 0.6
    assert world.book.usable("a")
    probe = world.book.begin("a", 10)
    assert not world.book.usable("a")
    world.book.end(probe)  # its client left before it was answered
    assert world.book.usable("a")
    world.request("a")
    assert world.book.usable("a")
    assert world.book.warmth("a") == {"a": 0.1}


def test_new_replicas_start_slowly_unless_all_are_new() -> None:
    world = World("ab")

    assert world.book.warmth("ab") == {}
    world.book.keep({"a", "b", "c"})
    assert world.book.warmth("abc") == {"c": 0.1}


def test_a_replica_that_vanished_keeps_its_open_requests_and_nothing_else() -> None:
    world = World("ab")
    for _ in range(FAILURES):
        world.request("a", ok=False)
    visit = world.book.begin("a", 700)

    world.book.keep({"b"})

    assert world.book.outstanding == {"a": 1}
    assert world.book.tokens == {"a": 700}
    world.book.failed(visit)
    world.book.end(visit)
    world.book.end(visit)
    assert world.book.outstanding == world.book.tokens == {}
    assert world.book.usable("a")


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=200))
def test_retries_never_exceed_their_share(steps: list[tuple[float, bool]]) -> None:
    budget, now = RetryBudget(), 50.0
    requests: list[float] = []
    retries: list[float] = []
    for step, retry in steps:
        now += step
        if not retry:
            budget.request(now)
            requests.append(now)
        elif budget.take(now):
            retries.append(now)
        recent = sum(at > now - 11 for at in requests)
        assert sum(at > now - 9 for at in retries) <= BESIDES + SHARE * recent + 1


def test_a_few_retries_are_always_there_again() -> None:
    budget = RetryBudget()

    assert sum(budget.take(10.0) for _ in range(50)) == BESIDES
    assert not budget.take(15.0)
    assert budget.take(21.0)


def test_the_pause_is_drawn_from_a_bound_that_doubles() -> None:
    timeouts, rng = Timeouts(backoff_s=0.1, backoff_most_s=0.5), random.Random(1)

    most = [max(pause_s(timeouts, attempt, rng=rng) for _ in range(300)) for attempt in (1, 2, 3, 4)]
    least = min(pause_s(timeouts, 4, rng=rng) for _ in range(300))

    assert most == pytest.approx([0.1, 0.2, 0.4, 0.5], abs=0.02)
    assert least < 0.02
