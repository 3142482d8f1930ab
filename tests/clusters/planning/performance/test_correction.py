"""Corrections follow what was measured, fade, keep their bounds and say why."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusters.planning.performance.correction import (
    HALF_LIFE_H,
    LEAST_FACTOR,
    LIVE_ERROR,
    MOST_FACTOR,
    PRIOR_REQUESTS,
    Corrected,
    Correction,
    Factor,
    Histogram,
    Measured,
    factor,
)
from clusters.planning.performance.queueing import latencies
from clusters.planning.performance.roofline import Roofline
from tests.clusters.planning.performance.loads import CHAT, SMALL

SLOWER = Measured(measured_ms=31, predicted_ms=24, requests=12_400, hours=2)


def test_a_factor_and_its_reason() -> None:
    found = factor([SLOWER])
    weight = 12_400 / (12_400 + PRIOR_REQUESTS)
    assert found.weight == pytest.approx(weight)
    assert found.value == pytest.approx((31 / 24) ** weight)
    assert found.explanation("between tokens") == (
        "measured 31 ms between tokens over 2 h and 12,400 requests where 24 ms were predicted: x1.27"
    )


def test_nothing_measured_changes_nothing() -> None:
    assert factor([]) == factor([dataclasses.replace(SLOWER, requests=0)]) == Factor()
    assert factor([]).explanation("between tokens") == "nothing measured between tokens yet: as predicted"


def test_little_evidence_corrects_little() -> None:
    few, many = factor([dataclasses.replace(SLOWER, requests=10)]), factor([SLOWER])
    assert 1 < few.value < 1.01 < many.value


def test_measurements_fade() -> None:
    faster = Measured(measured_ms=20, predicted_ms=24, requests=12_400, hours=2)
    old = dataclasses.replace(SLOWER, age_h=10 * HALF_LIFE_H)
    assert factor([old, faster]).value < 0.9
    assert factor([dataclasses.replace(SLOWER, age_h=40 * HALF_LIFE_H)]).value == pytest.approx(1, abs=1e-4)


@given(
    st.lists(
        st.builds(
            Measured,
            measured_ms=st.floats(0.01, 1e6),
            predicted_ms=st.floats(0.01, 1e6),
            requests=st.integers(0, 10**7),
            hours=st.floats(0, 100),
            age_h=st.floats(0, 10_000),
        )
    )
)
def test_a_factor_keeps_its_bounds_and_lies_between_what_was_measured_and_1(found: list[Measured]) -> None:
    result = factor(found)
    assert LEAST_FACTOR <= result.value <= MOST_FACTOR
    ratios = [one.measured_ms / one.predicted_ms for one in found if one.requests]
    assert min([1.0, *ratios]) * 0.999 <= result.value <= max([1.0, *ratios]) * 1.001
    assert 0 <= result.weight < 1


def test_what_is_beyond_the_bounds_is_said() -> None:
    found = factor([dataclasses.replace(SLOWER, measured_ms=240)])
    assert found.value == MOST_FACTOR
    assert found.bounded
    assert found.explanation("between tokens").endswith("x2.00, as far as a correction goes")


@pytest.mark.parametrize(
    "changes",
    [
        {"measured_ms": 0},
        {"predicted_ms": 0},
        {"predicted_ms": float("inf")},
        {"requests": -1},
        {"age_h": -1},
    ],
)
def test_what_cannot_be_measured_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"measured and predicted|0 or more"):
        dataclasses.replace(SLOWER, **changes)


def test_the_mean_of_a_histogram() -> None:
    found = Histogram(bounds_ms=(10, 20, 50), counts=(2, 1, 0, 1))
    assert found.requests == 4
    assert found.mean_ms == pytest.approx((2 * 5 + 15 + 50) / 4)
    assert Histogram(bounds_ms=(10,), counts=(0, 0)).mean_ms is None


@pytest.mark.parametrize(
    ("bounds", "counts"), [((10, 20), (1, 1)), ((10,), (1, -1)), ((20, 10), (0, 0, 0)), ((0,), (0, 0))]
)
def test_what_is_no_histogram_is_refused(bounds: tuple[float, ...], counts: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="histogram"):
        Histogram(bounds_ms=bounds, counts=counts)


def test_a_corrected_model_answers_with_its_factors() -> None:
    model = Roofline()
    corrected = Corrected(model=model, correction=Correction(itl=Factor(value=1.5), ttft=Factor(value=0.8)))
    asked = {"decoding": 8.0, "context": 1000.0, "prompt_tokens": 100.0}
    assert corrected.step_ms(SMALL, **asked) == 1.5 * model.step_ms(SMALL, **asked)
    asked = {"concurrency": 8.0, "input_tokens": 1000.0, "output_tokens": 100.0}
    assert corrected.itl_ms(SMALL, **asked) == 1.5 * model.itl_ms(SMALL, **asked)
    assert corrected.first_token_ms(SMALL, input_tokens=500.0) == 0.8 * model.first_token_ms(
        SMALL, input_tokens=500.0
    )


def test_a_corrected_model_can_be_queued_on() -> None:
    slower = Corrected(model=Roofline(), correction=Correction(itl=factor([SLOWER])))
    asked = {"replicas": 1, "batch_limit": 64, "step_tokens": 4096}
    plain, corrected = latencies(Roofline(), SMALL, CHAT, **asked), latencies(slower, SMALL, CHAT, **asked)
    assert corrected.itl_mean_ms > plain.itl_mean_ms
    assert corrected.utilisation > plain.utilisation


def test_confidence_narrows_with_evidence_and_says_so() -> None:
    sure = Corrected(model=Roofline(), correction=Correction(itl=factor([SLOWER]))).confidence(SMALL)
    before = Roofline().confidence(SMALL)
    assert sure.source == f"{before.source}, corrected live"
    assert LIVE_ERROR < sure.itl_error < before.itl_error
    assert sure.ttft_error == before.ttft_error


def test_confidence_does_not_narrow_where_a_correction_met_its_bound() -> None:
    far = factor([dataclasses.replace(SLOWER, measured_ms=500)])
    found = Corrected(model=Roofline(), correction=Correction(itl=far)).confidence(SMALL)
    assert found.itl_error == Roofline().confidence(SMALL).itl_error


def test_without_measurements_confidence_is_the_models() -> None:
    found = Corrected(model=Roofline(), correction=Correction()).confidence(SMALL)
    assert found == Roofline().confidence(SMALL)


def test_both_factors_are_explained() -> None:
    between, first = Correction(itl=factor([SLOWER])).explanation
    assert "between tokens" in between
    assert first == "nothing measured to the first token yet: as predicted"
