"""Predicted latencies lie within a stated tolerance of what a simulation of the same engine gives."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from clusters.planning.performance.model import Shape
from clusters.planning.performance.queueing import latencies
from clusters.planning.performance.roofline import Roofline
from clusters.planning.performance.simulation import Trace, simulate
from clusters.planning.problem import LoadProfile
from clusters.planning.profiles import NAMED
from tests.clusters.planning.performance.loads import LARGE, MIXTURE, SMALL, at_load

REQUESTS = 6000

#: Largest relative errors: of TTFT's mean and p95, of the mean and p95 between tokens, of requests in flight.
TOLERANCES = {
    0.3: {"ttft_mean_ms": 0.06, "ttft_p95_ms": 0.12, "itl_mean_ms": 0.1, "itl_p95_ms": 0.5, "in_flight": 0.1},
    0.7: {
        "ttft_mean_ms": 0.25,
        "ttft_p95_ms": 0.35,
        "itl_mean_ms": 0.2,
        "itl_p95_ms": 0.45,
        "in_flight": 0.2,
    },
}


@pytest.mark.parametrize("shape", [SMALL, LARGE, MIXTURE], ids=["8b", "70b", "mixture"])
@pytest.mark.parametrize("name", sorted(NAMED))
@pytest.mark.parametrize("load", sorted(TOLERANCES))
def test_a_steady_load(name: str, load: float, shape: Shape) -> None:
    steady = dataclasses.replace(NAMED[name].at(1), burstiness=1.0)
    profile = at_load(steady, shape, load, batch_limit=128, step_tokens=4096)
    predicted = latencies(Roofline(), shape, profile, replicas=1, batch_limit=128, step_tokens=4096)
    trace = Trace.draw(profile, requests=REQUESTS, rng=np.random.default_rng(7))
    simulated = simulate(Roofline(), shape, trace, batch_limit=128, step_tokens=4096).latencies(skip=0.1)
    for field, tolerance in TOLERANCES[load].items():
        assert getattr(predicted, field) == pytest.approx(getattr(simulated, field), rel=tolerance), field


def test_minutes_beyond_capacity() -> None:
    """Waits are of the size that a replica overloaded in some minutes has: within a factor of 2.5."""
    profile = at_load(
        dataclasses.replace(NAMED["chat"].at(1), burstiness=1.6),
        SMALL,
        0.8,
        batch_limit=128,
        step_tokens=4096,
    )
    predicted = latencies(Roofline(), SMALL, profile, replicas=1, batch_limit=128, step_tokens=4096)
    waits = []
    for seed in range(4):
        trace = Trace.draw(profile, requests=20_000, rng=np.random.default_rng(seed))
        waits.append(
            simulate(Roofline(), SMALL, trace, batch_limit=128, step_tokens=4096).latencies(skip=0.1)
        )
    mean = float(np.mean([one.ttft_mean_ms for one in waits]))
    p95 = float(np.mean([one.ttft_p95_ms for one in waits]))
    assert mean / 2.5 < predicted.ttft_mean_ms < mean * 2.5
    assert p95 / 2.5 < predicted.ttft_p95_ms < p95 * 2.5


def test_replicas_that_share_a_queue_of_least_work_do_no_worse_than_predicted() -> None:
    one: LoadProfile = at_load(NAMED["batch"].at(1), SMALL, 0.6, batch_limit=64, step_tokens=4096)
    profile = dataclasses.replace(one, requests_per_second=3 * one.requests_per_second)
    predicted = latencies(Roofline(), SMALL, profile, replicas=3, batch_limit=64, step_tokens=4096)
    trace = Trace.draw(profile, requests=12_000, rng=np.random.default_rng(3))
    replay = simulate(Roofline(), SMALL, trace, replicas=3, batch_limit=64, step_tokens=4096)
    simulated = replay.latencies(skip=0.1)
    assert simulated.ttft_p95_ms < predicted.ttft_p95_ms * 1.15
    assert simulated.itl_mean_ms == pytest.approx(predicted.itl_mean_ms, rel=0.05)
