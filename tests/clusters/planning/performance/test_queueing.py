"""Predicted latencies where they are known without a formula, and at the edges."""

from __future__ import annotations

import dataclasses
import math

import pytest

from clusters.planning.performance.bursts import busy_rate, rate_spread
from clusters.planning.performance.queueing import Latencies, latencies
from clusters.planning.performance.roofline import Roofline
from clusters.planning.problem import LoadProfile
from tests.clusters.planning.performance.loads import CHAT, SHAPES, SMALL, Plain, at_load

EVEN = LoadProfile(requests_per_second=1, input_tokens=200, output_tokens=100, input_cv=0.0, output_cv=0.0)


def predicted(profile: LoadProfile = EVEN, **changes: object) -> Latencies:
    asked: dict[str, object] = {"replicas": 1, "batch_limit": 64, "step_tokens": 2048, **changes}
    return latencies(Plain(), SMALL, profile, **asked)


def test_without_load_a_request_is_served_as_if_alone() -> None:
    found = predicted(rate=0)
    assert found.stable
    assert found.utilisation == 0
    assert found.in_flight == pytest.approx(0, abs=1e-3)
    assert found.ttft_mean_ms == pytest.approx(30 + 0.05 * 200, rel=1e-3)
    assert found.ttft_p95_ms == pytest.approx(30 + 0.05 * 200, rel=1e-3)
    assert found.itl_mean_ms == pytest.approx(10 + 0.1 * 99 / 100, rel=1e-3)
    assert found.itl_p95_ms == pytest.approx(10 + 0.1 * 99 / 100, rel=1e-3)


def test_first_tokens_of_an_idle_replica_spread_as_prompts_do() -> None:
    found = predicted(dataclasses.replace(EVEN, input_cv=1.0), rate=0)
    assert found.ttft_mean_ms == pytest.approx(30 + 0.05 * 200, rel=1e-3)
    p95 = 200 * math.exp(1.645 * math.sqrt(math.log(2)) - math.log(2) / 2)
    assert found.ttft_p95_ms == pytest.approx(30 + 0.05 * p95, rel=0.02)


def test_utilisation_is_the_share_of_what_a_full_batch_gives() -> None:
    found = predicted()
    # 64 slots turn over once in 100 steps; besides, each request's prompt is read.
    full_step = 10 + 0.1 * 64 * 99 / 100
    assert found.utilisation == pytest.approx((0.05 * 200 + 100 * full_step / 64) / 1000, rel=0.001)


def test_steps_without_room_for_prompts_bound_the_rate() -> None:
    wide, narrow = predicted(step_tokens=2048), predicted(step_tokens=70)
    assert narrow.utilisation > wide.utilisation
    # Each request takes 300 tokens of steps of 70.
    assert narrow.utilisation > 300 / 70 * 10 / 1000


def test_too_much_load_is_not_stable() -> None:
    limit = 1 / predicted().utilisation
    below, beyond = predicted(rate=0.99 * limit), predicted(rate=1.01 * limit)
    assert below.stable
    assert math.isfinite(below.ttft_p95_ms)
    assert not beyond.stable
    assert beyond.ttft_mean_ms == beyond.ttft_p95_ms == math.inf
    assert beyond.in_flight == 64
    assert below.itl_mean_ms <= beyond.itl_mean_ms < math.inf
    assert below.itl_p95_ms <= beyond.itl_p95_ms < math.inf


@pytest.mark.parametrize("shape", SHAPES)
def test_requests_in_flight_are_those_of_littles_law(shape: object) -> None:
    profile = at_load(CHAT, shape, 0.5, batch_limit=256, step_tokens=8192)
    found = latencies(Roofline(), shape, profile, replicas=1, batch_limit=256, step_tokens=8192)
    in_engine = found.itl_mean_ms * (profile.output_tokens - 1)
    assert found.in_flight == pytest.approx(profile.requests_per_second * in_engine / 1000, rel=0.1)


def test_replicas_share_the_load() -> None:
    alone, shared = predicted(rate=2), predicted(rate=6, replicas=3)
    assert shared == alone


def test_the_profiles_rate_is_the_rate() -> None:
    assert predicted(dataclasses.replace(EVEN, requests_per_second=3)) == predicted(rate=3)


def test_what_is_cached_is_not_read() -> None:
    shared = predicted(dataclasses.replace(EVEN, prefix_share=0.5), rate=0)
    assert shared.ttft_mean_ms == pytest.approx(30 + 0.05 * 100, rel=1e-3)


def test_a_single_slot_meets_no_other_prompts() -> None:
    found = predicted(batch_limit=1, rate=0.5 / predicted(batch_limit=1).utilisation)
    assert found.itl_mean_ms == pytest.approx(10.1, rel=0.01)
    assert found.itl_p95_ms == pytest.approx(10.1, rel=0.01)
    assert found.ttft_mean_ms > 500  # waits for others' whole answers


def test_single_tokens_are_served() -> None:
    found = predicted(dataclasses.replace(EVEN, output_tokens=1), rate=5)
    assert found.stable
    assert all(math.isfinite(value) for value in dataclasses.asdict(found).values())


def test_prompts_that_cost_nothing_are_served() -> None:
    @dataclasses.dataclass(frozen=True)
    class FreePrompts(Plain):
        def step_ms(self, shape: object, *, decoding: float, context: float, prompt_tokens: float) -> float:
            return 10 + 0.1 * decoding

    found = latencies(FreePrompts(), SMALL, EVEN, replicas=1, batch_limit=8, step_tokens=512)
    assert found.stable
    assert all(math.isfinite(value) for value in dataclasses.asdict(found).values())


@pytest.mark.parametrize("name", ["replicas", "batch_limit", "step_tokens"])
def test_there_is_at_least_one_of_each(name: str) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        predicted(**{name: 0})


def test_a_steady_rate_is_as_busy_as_it_is() -> None:
    assert busy_rate(5, 1.0) == 5
    assert busy_rate(0, 3.0) == 0


def test_minutes_that_chance_explains_do_not_make_a_rate_bursty() -> None:
    by_chance = 1 + 2.3 / math.sqrt(60 * 2)
    assert rate_spread(2, by_chance) == 0
    assert rate_spread(200, by_chance) > 0


def test_bursts_that_overload_a_replica_leave_work_over() -> None:
    limit = 1 / predicted().utilisation
    steady = predicted(rate=0.8 * limit)
    bursty = predicted(dataclasses.replace(EVEN, burstiness=2.0), rate=0.8 * limit)
    assert bursty.stable
    assert bursty.ttft_mean_ms > steady.ttft_mean_ms + 1000
    assert bursty.ttft_p95_ms > bursty.ttft_mean_ms
