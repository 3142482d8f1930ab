"""Named profiles, burstiness and drift."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from clusters.planning.performance.bursts import rate_spread
from clusters.planning.problem import LoadProfile, ProblemError
from clusters.planning.profiles import (
    NAMED,
    Lengths,
    Part,
    burstiness_of,
    drift,
)

DECLARED = LoadProfile(
    requests_per_second=2, input_tokens=500, output_tokens=200, burstiness=2.0, input_cv=1.0, output_cv=1.0
)


def test_lognormal_lengths() -> None:
    lengths = Lengths(mean=1000, cv=0.8)
    drawn = np.random.default_rng(1).lognormal(
        np.log(1000) - np.log(1.64) / 2, np.sqrt(np.log(1.64)), 400_000
    )
    assert lengths.p95 == pytest.approx(np.quantile(drawn, 0.95), rel=0.02)
    assert lengths.quantile(0.5) == pytest.approx(np.quantile(drawn, 0.5), rel=0.02)
    assert Lengths(mean=7, cv=0).p95 == 7


@pytest.mark.parametrize(("mean", "cv"), [(0.5, 1), (float("inf"), 1), (float("nan"), 1), (10, -1), (10, 11)])
def test_what_are_no_lengths_is_refused(mean: float, cv: float) -> None:
    with pytest.raises(ProblemError, match=r"mean length|coefficient of variation"):
        Lengths(mean=mean, cv=cv)


@pytest.mark.parametrize("part", [0, 1, -0.1, 1.1])
def test_quantiles_are_within_0_and_1(part: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Lengths(mean=10).quantile(part)


def test_the_named_profiles() -> None:
    assert set(NAMED) == {"chat", "long-input", "long-output", "retrieval", "batch"}
    for name, profile in NAMED.items():
        assert profile.name == name
        assert profile.source
        assert profile.description.endswith(".")
        assert profile.at(3).requests_per_second == 3
        assert profile.input.p95 + profile.output.p95 < profile.context_tokens
        assert profile.output.p95 < profile.max_output_tokens


def test_a_steady_endpoint_is_not_called_bursty() -> None:
    found = burstiness_of(busiest_minute=14, mean_minute=5, minutes=1440)
    assert rate_spread(5 / 60, found) == pytest.approx(0, abs=1e-6)
    assert rate_spread(5 / 60, burstiness_of(busiest_minute=40, mean_minute=5, minutes=1440)) > 1
    assert burstiness_of(busiest_minute=0, mean_minute=0, minutes=60) == 1


def test_what_is_as_ordered_has_not_drifted() -> None:
    near = dataclasses.replace(
        DECLARED, requests_per_second=2.4, input_tokens=450, burstiness=2.3, prefix_share=0.1
    )
    assert drift(DECLARED, DECLARED) == drift(DECLARED, near) == ()


def test_drift_in_words() -> None:
    seen = dataclasses.replace(
        DECLARED, requests_per_second=3.46, output_tokens=80, burstiness=5.0, input_cv=2.0, prefix_share=0.4
    )
    found = drift(DECLARED, seen)
    assert [(one.part, one.heavier, one.message) for one in found] == [
        (Part.RATE, True, "3.46 requests per second where 2 were ordered (x1.73)"),
        (Part.OUTPUT, False, "80 output tokens in a mean request where 200 were ordered (x0.40)"),
        (Part.MIX, True, "2 as coefficient of variation of inputs where 1 were ordered (x2.00)"),
        (Part.MIX, False, "40% of input tokens found in the cache where 0% were ordered"),
        (Part.BURSTINESS, True, "5 times the mean rate in the busiest minute where 2 were ordered (x2.50)"),
    ]


def test_fewer_shared_prompts_are_heavier() -> None:
    ordered = dataclasses.replace(DECLARED, prefix_share=0.6)
    assert [one.heavier for one in drift(ordered, DECLARED)] == [True]


def test_a_rate_of_nothing_that_rises_has_drifted() -> None:
    found = drift(dataclasses.replace(DECLARED, requests_per_second=0), DECLARED)
    assert [(one.part, one.message) for one in found] == [
        (Part.RATE, "2 requests per second where 0 were ordered")
    ]


def test_bursts_that_chance_explains_have_not_drifted() -> None:
    rare = dataclasses.replace(DECLARED, requests_per_second=0.01, burstiness=1.0)
    assert drift(rare, dataclasses.replace(rare, burstiness=3.5)) == ()
