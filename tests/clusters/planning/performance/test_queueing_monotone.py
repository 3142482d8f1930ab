"""Harder loads are never predicted to be served better."""

from __future__ import annotations

import dataclasses

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from clusters.planning.performance.model import Shape
from clusters.planning.performance.queueing import Latencies, latencies
from clusters.planning.performance.roofline import Roofline
from clusters.planning.problem import LoadProfile
from tests.clusters.planning.performance.loads import SHAPES, profiles

many = settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])

#: Distributions are taken at points: their p95 may step by this much.
STEP = 0.02
ALL = ("utilisation", "in_flight", "ttft_mean_ms", "ttft_p95_ms", "itl_mean_ms", "itl_p95_ms")

growths = st.sampled_from([1.01, 1.1, 1.5, 3.0])
limits = st.sampled_from([1, 2, 8, 32, 64, 256])
budgets = st.sampled_from([512, 2048, 8192])
shapes = st.sampled_from(SHAPES)


def served(profile: LoadProfile, shape: Shape, batch: int, step: int, replicas: int = 1) -> Latencies:
    return latencies(Roofline(), shape, profile, replicas=replicas, batch_limit=batch, step_tokens=step)


#: Where first tokens wait so long, busy minutes fill every step, and longer prompts leave less room to decode in it:
#: the mean between tokens grows all the same, the p95 need not.
OVERFULL_MS = 20_000.0


def of_longer_prompts(harder: Latencies) -> tuple[str, ...]:
    return ALL if harder.ttft_p95_ms < OVERFULL_MS else tuple(each for each in ALL if each != "itl_p95_ms")


def assert_no_better(harder: Latencies, easier: Latencies, names: tuple[str, ...] = ALL) -> None:
    for name in names:
        assert getattr(harder, name) >= getattr(easier, name) * (1 - STEP), name


@many
@given(profile=profiles(), shape=shapes, batch=limits, step=budgets, growth=growths)
def test_more_requests(profile: LoadProfile, shape: Shape, batch: int, step: int, growth: float) -> None:
    harder = dataclasses.replace(profile, requests_per_second=profile.requests_per_second * growth)
    assert_no_better(served(harder, shape, batch, step), served(profile, shape, batch, step))


@many
@given(profile=profiles(), shape=shapes, batch=limits, step=budgets, growth=growths)
def test_longer_inputs(profile: LoadProfile, shape: Shape, batch: int, step: int, growth: float) -> None:
    longer = dataclasses.replace(profile, input_tokens=int(profile.input_tokens * growth) + 1)
    harder = served(longer, shape, batch, step)
    assert_no_better(harder, served(profile, shape, batch, step), of_longer_prompts(harder))


@many
@given(profile=profiles(), shape=shapes, batch=limits, step=budgets, growth=growths)
def test_more_bursts(profile: LoadProfile, shape: Shape, batch: int, step: int, growth: float) -> None:
    harder = dataclasses.replace(profile, burstiness=profile.burstiness * growth)
    assert_no_better(served(harder, shape, batch, step), served(profile, shape, batch, step))


@many
@given(profile=profiles(), shape=shapes, batch=limits, step=budgets)
def test_less_in_the_cache(profile: LoadProfile, shape: Shape, batch: int, step: int) -> None:
    assume(profile.prefix_share)
    harder = served(dataclasses.replace(profile, prefix_share=0.0), shape, batch, step)
    assert_no_better(harder, served(profile, shape, batch, step), of_longer_prompts(harder))


@many
@given(profile=profiles(), shape=shapes, batch=limits, step=budgets, more=st.integers(1, 5))
def test_fewer_replicas(profile: LoadProfile, shape: Shape, batch: int, step: int, more: int) -> None:
    assert_no_better(served(profile, shape, batch, step), served(profile, shape, batch, step, 1 + more))


@many
@given(profile=profiles(), shape=shapes, batch=limits, step=budgets, growth=growths)
def test_longer_outputs_take_more_of_a_replica(
    profile: LoadProfile, shape: Shape, batch: int, step: int, growth: float
) -> None:
    harder = dataclasses.replace(profile, output_tokens=int(profile.output_tokens * growth) + 1)
    names = ("utilisation", "ttft_mean_ms")
    assert_no_better(served(harder, shape, batch, step), served(profile, shape, batch, step), names)


@many
@given(profile=profiles(), shape=shapes, batch=limits, step=budgets, more=st.integers(1, 64))
def test_fewer_slots_take_more_of_a_replica(
    profile: LoadProfile, shape: Shape, batch: int, step: int, more: int
) -> None:
    harder, easier = served(profile, shape, batch, step), served(profile, shape, batch + more, step)
    assert_no_better(harder, easier, ("utilisation",))


@many
@given(profile=profiles(), shape=shapes, batch=limits, step=budgets)
def test_what_is_predicted_hangs_together(profile: LoadProfile, shape: Shape, batch: int, step: int) -> None:
    found = served(profile, shape, batch, step)
    assert found.stable == (found.utilisation < 1)
    assert 0 <= found.in_flight <= batch
    assert found.ttft_mean_ms > 0
    assert 0 < found.itl_mean_ms < float("inf")
    assert 0 < found.itl_p95_ms < float("inf")
