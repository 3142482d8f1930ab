"""The simulated engine keeps the rules of the real one, and loses nothing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clusters.planning.performance.roofline import Roofline
from clusters.planning.performance.simulation import Replay, Trace, TraceError, simulate
from clusters.planning.problem import LoadProfile
from tests.clusters.planning.performance.loads import CHAT, SMALL, Plain


def trace(*requests: tuple[float, int, int], cached: int = 0) -> Trace:
    """Requests as (arrival, input, output)."""
    arrivals, inputs, outputs = zip(*requests, strict=True)
    return Trace(
        arrivals_ms=np.array(arrivals, dtype=float),
        input_tokens=np.array(inputs),
        output_tokens=np.array(outputs),
        cached_tokens=np.full(len(requests), cached),
    )


def replayed(what: Trace, **changes: int) -> Replay:
    return simulate(Plain(), SMALL, what, **{"batch_limit": 8, "step_tokens": 1000, **changes})


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    requests = draw(
        st.lists(
            st.tuples(st.floats(0, 2000), st.integers(1, 3000), st.integers(1, 200)), min_size=1, max_size=60
        )
    )
    return trace(*sorted(requests))


def test_one_request_alone() -> None:
    found = replayed(trace((50, 400, 11)))
    assert found.ttft_ms[0] == pytest.approx(30 + 0.05 * 400)
    assert found.itl_mean_ms[0] == found.itl_p95_ms[0] == found.itl_max_ms[0] == pytest.approx(10.1)
    assert found.total_ms[0] == pytest.approx(50 + 10 * 10.1)
    assert found.steps == 11


def test_one_request_alone_on_the_roofline() -> None:
    model = Roofline()
    found = simulate(model, SMALL, trace((0, 3000, 40)), batch_limit=8, step_tokens=1000)
    steps = [
        model.step_ms(SMALL, decoding=1.0, context=3001.0 + done, prompt_tokens=0.0) for done in range(39)
    ]
    assert found.ttft_ms[0] == pytest.approx(model.first_token_ms(SMALL, input_tokens=3000.0))
    assert found.total_ms[0] == pytest.approx(found.ttft_ms[0] + sum(steps))


def test_a_long_prompt_goes_in_pieces_beside_what_decodes() -> None:
    found = replayed(trace((0, 100, 50), (5, 2500, 2)))
    # The first prompt takes a step; then 999 + 999 + 502 tokens beside one decoding request.
    pieces = [10 + 0.1 + 0.05 * size for size in (999, 999, 502)]
    assert found.ttft_ms[1] == pytest.approx(15 - 5 + sum(pieces) + 20 - 2 * 10)
    assert found.itl_max_ms[0] == pytest.approx(pieces[0])


def test_a_single_token_has_no_gaps() -> None:
    found = replayed(trace((0, 10, 1), (0, 10, 1)))
    assert list(found.itl_mean_ms) == list(found.itl_p95_ms) == list(found.itl_max_ms) == [0, 0]
    assert found.latencies().itl_mean_ms == 0


def test_slots_are_given_in_order_of_arrival() -> None:
    found = replayed(trace((0, 10, 100), (1, 10, 100), (2, 10, 5)), batch_limit=1)
    assert list(np.argsort(found.admitted_ms)) == [0, 1, 2]
    assert found.admitted_ms[1] == found.finished_ms[0]
    assert found.admitted_ms[2] == found.finished_ms[1]


def test_a_request_waits_for_its_room_in_the_cache() -> None:
    found = replayed(trace((0, 500, 100), (1, 500, 100), (2, 10, 5)), kv_tokens=700)
    assert found.admitted_ms[1] == found.finished_ms[0]
    assert found.admitted_ms[2] >= found.admitted_ms[1]  # nobody overtakes


def test_requests_go_where_least_is_to_be_done() -> None:
    found = replayed(trace((0, 900, 500), (1, 100, 10), (2, 100, 10), (3, 100, 10)), replicas=2)
    assert list(found.replica) == [0, 1, 1, 1]


def test_cached_tokens_are_not_read() -> None:
    whole, cached = replayed(trace((0, 800, 5))), replayed(trace((0, 800, 5), cached=700))
    assert cached.prompt_tokens == 100
    assert cached.ttft_ms[0] == pytest.approx(whole.ttft_ms[0] - 0.05 * 700)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(
    what=traces(),
    replicas=st.integers(1, 3),
    batch_limit=st.integers(1, 12),
    step_tokens=st.sampled_from([20, 256, 4096]),
    kv_tokens=st.sampled_from([None, 3200, 8000]),
)
def test_nothing_is_lost(
    what: Trace, replicas: int, batch_limit: int, step_tokens: int, kv_tokens: int | None
) -> None:
    found = simulate(
        Plain(), SMALL, what, replicas=replicas, batch_limit=batch_limit, step_tokens=step_tokens, kv_tokens=kv_tokens
    )  # fmt: skip
    assert found.prompt_tokens == what.input_tokens.sum()
    assert found.gap_tokens.sum() == (what.output_tokens - 1).sum()
    assert np.all(found.admitted_ms >= what.arrivals_ms)
    assert np.all(found.finished_ms > found.admitted_ms)
    alone = Plain().first_token_ms(SMALL, input_tokens=what.input_tokens.astype(float))
    assert np.all(found.ttft_ms >= alone - 1e-6)
    assert found.total_ms == pytest.approx(found.ttft_ms + found.itl_mean_ms * (what.output_tokens - 1))
    assert np.all(found.itl_p95_ms <= found.itl_max_ms + 1e-9)
    held = [(begun, 1) for begun in found.admitted_ms] + [(ended, -1) for ended in found.finished_ms]
    assert max(np.cumsum([change for _, change in sorted(held)])) <= batch_limit * replicas


def test_littles_law() -> None:
    profile = dataclasses.replace(CHAT, requests_per_second=10)
    drawn = Trace.draw(profile, requests=6000, rng=np.random.default_rng(2))
    found = simulate(Roofline(), SMALL, drawn, batch_limit=256, step_tokens=8192)
    held = float((found.finished_ms - found.admitted_ms).mean())
    assert found.latencies(skip=0.1).in_flight == pytest.approx(
        drawn.requests_per_second * held / 1000, rel=0.05
    )


def test_runs_of_steps_are_as_good_as_single_ones() -> None:
    """Times of a roofline bend a little with the context: an end in the middle of a run changes next to nothing."""
    alone = simulate(Roofline(), SMALL, trace((0, 100, 1500)), batch_limit=8, step_tokens=1000)
    arrivals = [(0.0, 100, 1500), *((100.0 * number, 1, 1) for number in range(1, 100))]
    visited = simulate(Roofline(), SMALL, trace(*arrivals), batch_limit=8, step_tokens=1000)
    assert visited.total_ms[0] == pytest.approx(alone.total_ms[0], rel=0.02)


def test_drawn_requests_are_those_of_the_profile() -> None:
    profile = dataclasses.replace(CHAT, requests_per_second=20, burstiness=1.8, prefix_share=0.25)
    drawn = Trace.draw(profile, requests=60_000, rng=np.random.default_rng(4))
    assert drawn.requests_per_second == pytest.approx(20, rel=0.08)
    assert drawn.input_tokens.mean() == pytest.approx(1155, rel=0.02)
    assert drawn.input_tokens.std() / drawn.input_tokens.mean() == pytest.approx(0.96, rel=0.05)
    assert drawn.output_tokens.mean() == pytest.approx(211, rel=0.02)
    assert drawn.cached_tokens.sum() / drawn.input_tokens.sum() == pytest.approx(0.25, rel=0.01)
    minutes = np.bincount((drawn.arrivals_ms[:-1] // 60_000).astype(int))[:-1]
    assert 1.4 < minutes.max() / minutes.mean() < 2.4


def test_a_trace_is_replayed_at_another_rate() -> None:
    slow = trace((10, 5, 5), (20, 5, 5), (30, 5, 5)).at_rate(1)
    assert list(slow.arrivals_ms) == [0, 1000, 2000]
    assert slow.requests_per_second == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"arrivals_ms": np.array([2.0, 1.0])},
        {"arrivals_ms": np.array([1.0])},
        {"input_tokens": np.array([0, 1])},
        {"output_tokens": np.array([0, 1])},
        {"cached_tokens": np.array([5, 0])},
        {"cached_tokens": np.array([-1, 0])},
    ],
)
def test_what_is_no_trace_is_refused(changes: dict[str, np.ndarray]) -> None:
    with pytest.raises(TraceError):
        dataclasses.replace(trace((1, 5, 5), (2, 5, 5)), **changes)


def test_an_empty_trace_is_refused() -> None:
    empty = np.array([], dtype=int)
    with pytest.raises(TraceError, match="at least one"):
        Trace(arrivals_ms=empty.astype(float), input_tokens=empty, output_tokens=empty, cached_tokens=empty)


def test_a_load_of_nothing_draws_nothing() -> None:
    nothing = LoadProfile(requests_per_second=0, input_tokens=5, output_tokens=5)
    with pytest.raises(TraceError):
        Trace.draw(nothing, requests=1, rng=np.random.default_rng(0))


def test_a_request_too_large_for_the_cache_is_refused() -> None:
    with pytest.raises(TraceError, match="does not fit"):
        replayed(trace((0, 500, 100)), kv_tokens=599)


@pytest.mark.parametrize("changes", [{"replicas": 0}, {"batch_limit": 0}, {"step_tokens": 8}])
def test_an_engine_that_cannot_run_is_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one replica"):
        replayed(trace((0, 5, 5)), **changes)
