"""Runs on an installation's own GPUs correct a performance model: by shape, within bounds, never by one noisy run."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusters.planning.performance.correction import LEAST_FACTOR, LIVE_ERROR, MOST_FACTOR
from clusters.planning.performance.qualified import Qualified, Run, expected_of
from clusters.planning.performance.roofline import Roofline
from tests.clusters.planning.performance.loads import CHAT, SMALL

MODEL = Roofline()
NOON = dt.datetime(2026, 5, 3, 12, tzinfo=dt.UTC)
LOAD = dataclasses.replace(CHAT, requests_per_second=2.0)


def run(times: float = 1.0, *, name: str = "a", hours_later: int = 0, first: float = 1.0, **changes) -> Run:
    """Give a run whose times are so many times those that were predicted."""
    values = {
        "name": name, "at": NOON + dt.timedelta(hours=hours_later), "shape": SMALL, "load": LOAD, "replicas": 1,
        "batch_limit": 64, "step_tokens": 8192, "in_flight": 8.0, "requests": 1000, "hours": 0.5, "ttft_ms": 1.0,
        "itl_ms": 1.0,
    }  # fmt: skip
    made = Run(**values | changes)
    expected = expected_of(made, MODEL)
    return dataclasses.replace(
        made, itl_ms=times * expected.itl_ms, ttft_ms=first * (expected.ttft_ms or 1.0)
    )


def itl_factor(*runs: Run) -> float:
    corrected = Qualified(MODEL, runs).corrected(SMALL)
    assert corrected is not None
    return corrected.correction.itl.value


def test_runs_move_the_model_towards_what_they_measured_the_more_of_them_the_further() -> None:
    assert itl_factor(run(1.44)) == pytest.approx(1.2)  # half of the way
    two = [run(1.44, name=name) for name in "ab"]
    assert itl_factor(*two) == pytest.approx(1.44 ** (2 / 3))
    three = [run(1.44, name=name) for name in "abc"]
    model = Qualified(MODEL, three)
    assert model.itl_ms(SMALL, concurrency=8.0, input_tokens=500.0, output_tokens=100.0) == pytest.approx(
        1.44 ** (3 / 4) * MODEL.itl_ms(SMALL, concurrency=8.0, input_tokens=500.0, output_tokens=100.0)
    )
    before, after = MODEL.confidence(SMALL), model.confidence(SMALL)
    assert after.source == "measured here"
    assert LIVE_ERROR < after.itl_error < before.itl_error


def test_loads_of_one_report_are_one_run() -> None:
    slow = dataclasses.replace(LOAD, requests_per_second=0.5)
    assert itl_factor(run(1.44), run(1.44, load=slow)) == pytest.approx(1.2)


def test_the_first_token_is_corrected_by_itself() -> None:
    corrected = Qualified(MODEL, [run(1.0, first=1.44)]).corrected(SMALL)
    assert corrected is not None
    assert (corrected.correction.itl.value, corrected.correction.ttft.value) == pytest.approx((1.0, 1.2))
    assert corrected.step_ms(SMALL, decoding=8.0, context=500.0, prompt_tokens=0.0) == pytest.approx(
        MODEL.step_ms(SMALL, decoding=8.0, context=500.0, prompt_tokens=0.0)
    )
    assert "ms to the first token over 30 min and 1,000 requests" in corrected.correction.explanation[1]


def test_one_noisy_run_among_three_changes_little_and_two_newer_ones_win() -> None:
    good = [run(1.0, name=str(number), hours_later=number) for number in range(3)]
    noisy = run(1.9, name="noisy", hours_later=9)
    assert itl_factor(*good, noisy) == pytest.approx(1.0, abs=0.02)
    again = run(1.9, name="again", hours_later=10)
    third = run(1.9, name="third", hours_later=11)
    assert itl_factor(*good, noisy, again, third) == pytest.approx(1.9 ** (3 / 4))


def test_runs_that_contradict_each_other_count_less() -> None:
    slow = dataclasses.replace(LOAD, requests_per_second=0.5)
    agreed = itl_factor(run(1.44, name="a"), run(1.44, name="b", load=slow))
    apart = itl_factor(run(1.9, name="a"), run(1.09, name="b", load=slow))
    assert 1 < apart < agreed


def test_a_load_that_would_let_queues_grow_tells_of_the_time_between_tokens_alone() -> None:
    flood = dataclasses.replace(LOAD, requests_per_second=10_000.0)
    measured = run(1.44, load=flood, in_flight=64.0)
    assert expected_of(measured, MODEL).ttft_ms is None
    corrected = Qualified(MODEL, [measured]).corrected(SMALL)
    assert corrected is not None
    assert corrected.correction.itl.value == pytest.approx(1.2)
    assert corrected.correction.ttft.requests == 0


def test_other_shapes_are_as_they_were() -> None:
    wide = dataclasses.replace(SMALL, tp=2)
    model = Qualified(MODEL, [run(1.44)])
    assert model.corrected(wide) is None
    assert model.confidence(wide) == MODEL.confidence(wide)
    load = {"decoding": 8.0, "context": 500.0, "prompt_tokens": 100.0}
    assert model.step_ms(wide, **load) == MODEL.step_ms(wide, **load)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.floats(0.01, 100), st.floats(0.1, 4)), min_size=1, max_size=5))
def test_no_factor_leaves_its_bounds(runs: list[tuple[float, float]]) -> None:
    made = [
        run(times, name=str(number), load=dataclasses.replace(LOAD, requests_per_second=rate))
        for number, (times, rate) in enumerate(runs)
    ]
    assert LEAST_FACTOR <= itl_factor(*made) <= MOST_FACTOR
