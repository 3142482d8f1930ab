"""A replica's limit, against a simulated engine: follows the plan, learns, holds still, and comes back soon."""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.limiter import UNKNOWN_MOST, UNKNOWN_START, Limiter


@dataclasses.dataclass
class Engine:
    """Serves ``at_once`` side by side in about a second; more wait inside it. Refuses above ``most``, and while away.

    The gateway before it has ``waiting`` requests at any time, or as many as come at ``per_s``.
    """

    at_once: int
    first_ms: float = 100.0
    most: int = 10_000
    away: tuple[float, float] = (0.0, 0.0)
    per_s: float = 500.0
    service_s: float = 1.0

    def run(self, limiter: Limiter, *, seconds: float, target_ms: float | None = 500.0) -> list[int]:
        """Give the limit after each second."""
        rng, number = random.Random(4), itertools.count()
        events: list[tuple[float, int, str, float]] = [(0.0, 0, "come", 0.0), (1.0, 1, "look", 0.0)]
        next(number), next(number)
        limits: list[int] = []
        waiting = in_flight = 0
        while events[0][0] <= seconds:
            now, _, kind, ttft_ms = heapq.heappop(events)

            def later(after: float, kind: str, ttft_ms: float = 0.0, now: float = now) -> None:
                heapq.heappush(events, (now + after, next(number), kind, ttft_ms))

            if kind == "come":
                waiting = min(waiting + 1, 500)
                later(rng.expovariate(self.per_s), "come")
            elif kind == "first":
                limiter.observe(ttft_ms=ttft_ms, target_ms=target_ms, in_flight=in_flight, now=now)
            elif kind == "end":
                in_flight -= 1
            else:
                limits.append(limiter.limit)
                later(1.0, "look")
            while waiting and in_flight < limiter.limit:
                waiting -= 1
                in_flight += 1
                if in_flight > self.most or self.away[0] <= now < self.away[1]:
                    limiter.overloaded(in_flight=in_flight, now=now)
                    in_flight -= 1
                    break
                inside = max(0.0, in_flight / self.at_once - 1)
                first_ms = self.first_ms * rng.uniform(0.7, 1.4) + inside * self.service_s * 1000
                later(first_ms / 1000, "first", first_ms)
                later(first_ms / 1000 + self.service_s * rng.uniform(0.7, 1.3), "end")
        return limits


def test_it_starts_from_the_plan() -> None:
    assert Limiter(12).limit == 12
    assert Limiter(None).limit == UNKNOWN_START


def test_a_plan_that_is_too_high_is_corrected_by_first_tokens_that_come_late() -> None:
    limits = Engine(at_once=16).run(Limiter(64), seconds=60)

    assert all(16 <= limit <= 28 for limit in limits[10:])  # 24 in flight are half a second late


def test_a_plan_that_is_too_low_is_outgrown_up_to_twice() -> None:
    limits = Engine(at_once=100).run(Limiter(16), seconds=60)

    assert limits[-1] == 32
    assert max(limits) == 32


def test_without_a_plan_it_finds_what_the_replica_can_do() -> None:
    limits = Engine(at_once=100, service_s=0.3).run(Limiter(None), seconds=60)

    assert all(90 <= limit <= 400 for limit in limits[20:])


def test_it_grows_only_while_it_is_used() -> None:
    limits = Engine(at_once=100, per_s=3.0).run(Limiter(16), seconds=60)

    assert set(limits) == {16}


def test_without_target_or_anything_to_compare_with_it_keeps_to_the_plan() -> None:
    assert set(Engine(at_once=8).run(Limiter(16), seconds=30, target_ms=None)) == {16}


def test_a_target_out_of_reach_does_not_starve_the_replica() -> None:
    limits = Engine(at_once=32, first_ms=900.0).run(Limiter(32), seconds=90, target_ms=500.0)

    assert min(limits) >= 7
    assert min(limits[45:]) >= 24


def test_refusals_of_the_engine_bring_it_below_what_the_engine_takes_and_it_stays() -> None:
    limits = Engine(at_once=100, most=20).run(Limiter(64), seconds=120)

    assert all(15 <= limit <= 22 for limit in limits[10:])
    settled = limits[60:]
    changes = sum(one != other for one, other in itertools.pairwise(settled))
    assert changes <= len(settled) / 4  # it does not swing


def test_after_an_engine_was_away_it_is_back_within_seconds() -> None:
    limits = Engine(at_once=64, away=(10.0, 20.0)).run(Limiter(32), seconds=40)

    assert limits[19] <= 4
    assert limits[25] >= 16  # six seconds after
    assert limits[-1] >= 32


def test_signals_that_come_together_count_once_and_never_take_more_than_half() -> None:
    limiter = Limiter(40)
    for _ in range(50):
        limiter.overloaded(in_flight=1, now=1.0)

    assert limiter.limit == 18  # half, and a tenth of that


def test_a_changed_plan_keeps_the_proportion() -> None:
    limiter = Limiter(40)
    limiter.overloaded(in_flight=40, now=1.0)
    assert limiter.limit == 35

    limiter.plan(20)
    assert limiter.limit == 17
    limiter.plan(None)
    assert 1 <= limiter.limit <= UNKNOWN_MOST


@given(
    planned=st.one_of(st.none(), st.integers(min_value=1, max_value=300)),
    told=st.lists(
        st.tuples(
            st.sampled_from(["first", "first", "overloaded", "plan"]),
            st.floats(min_value=0.0, max_value=5.0),
            st.floats(min_value=0.1, max_value=20_000.0),
            st.integers(min_value=0, max_value=400),
            st.sampled_from([None, 500.0]),
        ),
        max_size=200,
    ),
)
def test_whatever_it_is_told_it_stays_within_bounds(
    planned: int | None, told: list[tuple[str, float, float, int, float | None]]
) -> None:
    limiter, now = Limiter(planned), 0.0
    for kind, pause, ttft_ms, in_flight, target_ms in told:
        now += pause
        before = limiter.limit
        if kind == "first":
            grew = limiter.observe(ttft_ms=ttft_ms, target_ms=target_ms, in_flight=in_flight, now=now)
            assert grew == (limiter.limit > before)
        elif kind == "overloaded":
            limiter.overloaded(in_flight=in_flight, now=now)
            assert limiter.limit <= before
        else:
            planned = in_flight or None
            limiter.plan(planned)
        assert 1 <= limiter.limit <= (planned * 2 if planned else UNKNOWN_MOST)
