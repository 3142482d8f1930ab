"""The decision by itself: what brings replicas up and down, and that it never flaps."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusters.endpoints.autoscaling.deciding import (
    LOOK_S,
    Decision,
    Memory,
    Policy,
    Signals,
    Standing,
    Why,
    decide,
)

NOW = dt.datetime(2026, 11, 28, 12, tzinfo=dt.UTC)
POLICY = Policy(floor=1, ceiling=8, at_once=8, queue_s=5.0, ttft_ms=500)
SLEEPY = dataclasses.replace(POLICY, floor=0, idle_s=600.0)
LONG_AGO = NOW - dt.timedelta(hours=1)


NOTHING, NO_MEMORY = Signals(), Memory()


def judge(
    signals=NOTHING, *, replicas=2, ready=None, since=LONG_AGO, policy=POLICY, memory=NO_MEMORY
) -> Decision:
    standing = Standing(replicas=replicas, ready=replicas if ready is None else ready, since=since)
    return decide(signals, standing, policy, memory, now=NOW)


def ago(seconds: float) -> dt.datetime:
    return NOW - dt.timedelta(seconds=seconds)


def test_load_above_the_high_water_mark_brings_as_many_as_it_takes_at_once():
    decision = judge(Signals(in_flight=40))
    assert (decision.replicas, decision.why) == (7, Why.LOAD)  # 40 / (0.8 * 8)
    assert "40 requests" in decision.reason
    assert "2 replicas work on 16" in decision.reason


def test_nothing_is_wanted_beyond_the_ceiling_and_that_is_said():
    assert judge(Signals(in_flight=400)).replicas == 8
    full = judge(Signals(in_flight=400), replicas=8)
    assert (full.replicas, full.why) == (8, Why.CEILING)
    assert "ceiling of 8" in full.reason


@pytest.mark.parametrize(
    ("signals", "why", "words"),
    [
        (Signals(in_flight=9, oldest_wait_s=0.9), Why.WAITING, "waits 0.9 s; 0.5 s are right"),
        (Signals(in_flight=9, shed=4), Why.WAITING, "4 requests found no room"),
        (Signals(in_flight=9, requests=100, timed=100, slow=11), Why.SLO, "11 of the last minute's 100"),
        (Signals(in_flight=9, kv_pressure=3), Why.MEMORY, "3 times"),
    ],
)
def test_what_else_brings_one_more(signals, why, words):
    decision = judge(signals)
    assert (decision.replicas, decision.why) == (3, why)
    assert words in decision.reason


def test_a_share_that_the_target_allows_or_too_few_requests_say_nothing():
    assert judge(Signals(in_flight=9, requests=100, timed=100, slow=9)).replicas == 2
    assert judge(Signals(in_flight=9, requests=19, timed=19, slow=19)).replicas == 2


def test_slow_answers_bring_no_more_where_each_request_has_a_replica_to_itself():
    assert judge(Signals(in_flight=2, requests=100, timed=100, slow=100)).replicas == 2


def test_the_minute_before_a_change_brings_no_second_one():
    burning = Signals(in_flight=9, requests=100, timed=100, slow=50)
    assert judge(burning, since=ago(30)).replicas == 2
    assert judge(burning, since=ago(90)).replicas == 3


def test_while_replicas_start_only_load_brings_more():
    assert judge(Signals(in_flight=10, oldest_wait_s=4.0), ready=1).replicas == 2
    assert judge(Signals(in_flight=26, oldest_wait_s=4.0), ready=1).replicas == 5


def test_a_quiet_while_gives_one_back_and_the_next_takes_another_while():
    quiet = Signals(in_flight=2, requests=10)
    before = judge(quiet, replicas=3, memory=Memory(quiet_since=ago(299)))
    assert (before.replicas, before.look_again_s) == (3, 1.0)
    after = judge(quiet, replicas=3, memory=Memory(quiet_since=ago(301)))
    assert (after.replicas, after.why) == (2, Why.QUIET)
    assert after.memory.quiet_since == NOW
    assert judge(quiet, replicas=2, memory=after.memory).replicas == 2


def test_one_busy_look_begins_the_quiet_while_anew():
    busy = judge(Signals(in_flight=20), replicas=4, memory=Memory(quiet_since=ago(290)))
    assert (busy.replicas, busy.memory.quiet_since) == (4, None)


def test_nothing_is_given_back_that_would_miss_targets_again():
    burning = Signals(in_flight=9, requests=100, timed=100, slow=50)
    up = judge(burning, replicas=2)
    assert up.memory.burnt == 4.5
    calm = Signals(in_flight=9, requests=100, timed=100)
    assert judge(calm, replicas=3, memory=up.memory).memory.quiet_since is None  # 4.5 each at 2
    assert (
        judge(dataclasses.replace(calm, in_flight=7), replicas=3, memory=up.memory).memory.quiet_since == NOW
    )
    later = dataclasses.replace(up.memory, burnt_at=ago(3700))
    assert judge(dataclasses.replace(calm, in_flight=8), replicas=3, memory=later).memory.quiet_since == NOW


def test_idle_ones_go_to_zero_where_that_is_allowed_and_only_then():
    idle = Memory(idle_since=ago(601))
    asleep = judge(policy=SLEEPY, memory=idle)
    assert (asleep.replicas, asleep.why, asleep.reason) == (0, Why.IDLE, "No request for 10 minutes.")
    assert judge(policy=POLICY, memory=idle).replicas == 2
    assert judge(Signals(in_flight=1), policy=SLEEPY, memory=idle).replicas == 2
    assert judge(Signals(requests=1), policy=SLEEPY, memory=idle).replicas == 2


def test_a_request_wakes_it_at_once():
    assert judge(replicas=0, policy=SLEEPY).look_again_s is None
    woken = judge(Signals(wanted=True), replicas=0, policy=SLEEPY)
    assert (woken.replicas, woken.why) == (1, Why.WANTED)
    assert judge(Signals(in_flight=20), replicas=0, policy=SLEEPY).replicas == 4
    assert judge(Signals(wanted=True, heard=False), replicas=0, policy=SLEEPY).replicas == 1


def test_it_comes_up_to_a_floor_that_rose_and_down_to_a_ceiling_that_fell():
    assert judge(replicas=1, policy=dataclasses.replace(POLICY, floor=3)).replicas == 3
    assert judge(replicas=0, policy=dataclasses.replace(POLICY, floor=3)).replicas == 3
    fell = judge(replicas=6, policy=dataclasses.replace(POLICY, ceiling=4))
    assert (fell.replicas, fell.why) == (4, Why.CEILING)


def test_an_endpoint_at_rest_is_not_looked_at_until_a_gateway_tells_of_it():
    assert judge(replicas=1).look_again_s is None


counts = st.integers(0, 500)
signals = st.builds(
    Signals,
    heard=st.booleans(),
    in_flight=counts,
    oldest_wait_s=st.floats(0, 600),
    requests=counts,
    timed=counts,
    slow=counts,
    shed=counts,
    kv_pressure=counts,
    wanted=st.booleans(),
)
moments = st.none() | st.integers(0, 10_000).map(ago)
memories = st.builds(
    Memory, quiet_since=moments, idle_since=moments, burnt=st.none() | st.floats(1, 100), burnt_at=moments
)


@st.composite
def cases(draw):
    floor = draw(st.integers(0, 8))
    policy = Policy(
        floor=floor,
        ceiling=draw(st.integers(max(1, floor), 16)),
        at_once=draw(st.integers(1, 64)),
        queue_s=draw(st.sampled_from((0.0, 5.0, 120.0))),
        ttft_ms=draw(st.sampled_from((None, 500, 2000))),
        idle_s=draw(st.sampled_from((None, 60.0, 600.0))),
    )
    replicas = draw(st.integers(0, 16))
    standing = Standing(
        replicas=replicas, ready=draw(st.integers(0, replicas)), since=ago(draw(st.integers(0, 1000)))
    )
    return draw(signals), standing, policy, draw(memories)


@settings(deadline=None)
@given(cases())
def test_whatever_is_told_the_bounds_hold(case):
    told, standing, policy, memory = case
    decision = decide(told, standing, policy, memory, now=NOW)
    has, wants = standing.replicas, decision.replicas
    assert wants >= 0
    assert decision.reason
    assert wants <= max(policy.ceiling, has)
    if wants != has:
        assert policy.floor <= wants <= policy.ceiling
    if wants < has:
        assert told.heard
        if wants == 0:
            assert policy.floor == 0
            assert policy.idle_s is not None
            assert not told.in_flight
        elif decision.why is Why.QUIET:
            assert wants == has - 1
            assert told.in_flight <= policy.high_water * policy.at_once * wants
        else:
            assert (decision.why, wants) == (Why.CEILING, policy.ceiling)
    if has == 0 and (told.in_flight or told.wanted):
        assert wants >= 1


class Run:
    """An endpoint under a load: so many requests want to be in progress; what has no place waits."""

    def __init__(self, policy: Policy, *, replicas: int, load_s: float = 60.0) -> None:
        self.policy, self.load_s = policy, load_s
        self.now, self.memory = NOW, Memory()
        self.started = [NOW - dt.timedelta(hours=1)] * replicas
        self.since = NOW - dt.timedelta(hours=1)
        self.waits = 0.0
        self.changes: list[tuple[float, int]] = []

    def look(self, load: int, *, slow_above: float = math.inf) -> int:
        """Go on for one look; replicas loaded with more than ``slow_above`` requests miss their targets."""
        ready = sum((self.now - each).total_seconds() >= self.load_s for each in self.started)
        places = ready * self.policy.at_once
        self.waits = self.waits + LOOK_S if load > places else 0.0
        slow = 100 if ready and min(load, places) / ready > slow_above else 0
        told = Signals(
            in_flight=load, oldest_wait_s=self.waits, requests=load and 100, timed=load and 100, slow=slow
        )
        standing = Standing(replicas=len(self.started), ready=ready, since=self.since)
        decision = decide(told, standing, self.policy, self.memory, now=self.now)
        self.memory = decision.memory
        if decision.replicas != len(self.started):
            self.started = (self.started + [self.now] * 64)[: decision.replicas]
            self.since = self.now
            self.changes.append(((self.now - NOW).total_seconds(), decision.replicas))
        self.now += dt.timedelta(seconds=LOOK_S)
        return decision.replicas


@settings(max_examples=25, deadline=None)
@given(load=st.integers(0, 120), at_once=st.integers(1, 32), replicas=st.integers(1, 16))
def test_a_steady_load_settles_and_never_flaps(load, at_once, replicas):
    run = Run(dataclasses.replace(POLICY, ceiling=16, at_once=at_once), replicas=replicas)
    for _ in range(600):
        run.look(load)
    counts = [count for _, count in run.changes]
    # Once up, or step by step down: never both.
    assert counts == sorted(counts) or counts == sorted(counts, reverse=True)
    assert all(at < 15 * 300 + 700 for at, _ in run.changes)


@settings(max_examples=25, deadline=None)
@given(before=st.integers(0, 6), after=st.integers(0, 100), at_once=st.integers(2, 32))
def test_a_step_of_load_is_followed_in_one_decision_and_held(before, after, at_once):
    policy = dataclasses.replace(POLICY, ceiling=64, at_once=at_once)
    run = Run(policy, replicas=max(1, math.ceil(before / (0.8 * at_once))))
    for _ in range(120):
        run.look(before)
    run.changes.clear()
    for _ in range(360):
        run.look(after)
    ups = [count for _, count in run.changes]
    if after > before:
        assert len(ups) <= 2
        assert len(run.started) * at_once * policy.high_water >= after


@settings(max_examples=25, deadline=None)
@given(slow_above=st.floats(1.5, 6), load=st.integers(4, 40))
def test_missed_targets_are_mended_and_stay_mended(slow_above, load):
    run = Run(dataclasses.replace(POLICY, ceiling=32), replicas=1)
    for _ in range(360):
        run.look(load, slow_above=slow_above)
    counts = [count for _, count in run.changes]
    assert counts == sorted(counts)
    assert load / len(run.started) <= slow_above


def test_from_nothing_to_three_and_back_to_nothing():
    run = Run(dataclasses.replace(SLEEPY, ceiling=3), replicas=0)
    assert [run.look(0) for _ in range(3)] == [0, 0, 0]
    for _ in range(60):
        run.look(18)
    assert len(run.started) == 3
    for _ in range(120):
        run.look(0)
    assert [count for _, count in run.changes] == [3, 2, 0]
