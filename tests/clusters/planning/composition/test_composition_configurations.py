"""Which configurations there are, how fast they are said to be, and which of them no best fleet needs."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusters.planning.composition.configurations import (
    MOST_REQUESTS,
    Lengths,
    Served,
    configurations_of,
)
from clusters.planning.composition.fleet import Configuration
from clusters.planning.composition.tables import undominated
from clusters.planning.gpus import gpu_catalog
from clusters.planning.performance.model import Confidence, Shape
from clusters.planning.problem import Precision, ProblemError
from tests.clusters.planning.problems import LLAMA_8B, LLAMA_70B

CHAT = Lengths(input_tokens=1000, output_tokens=200)


class Slope:
    """A token takes 10 ms and 1 ms for each request in flight, over the GPUs; a first one a tenth of its prompt."""

    def step_ms(self, shape: Shape, *, decoding: float, context: float, prompt_tokens: float) -> float:
        return (10 + decoding) / shape.gpus

    def itl_ms(self, shape: Shape, *, concurrency: float, input_tokens: float, output_tokens: float) -> float:
        return (10 + concurrency) / shape.gpus

    def first_token_ms(self, shape: Shape, *, input_tokens: float) -> float:
        return input_tokens / 10

    def saturated_ttft_ms(
        self, shape: Shape, *, concurrency: float, input_tokens: float, output_tokens: float
    ) -> float:
        return input_tokens / 10

    def confidence(self, shape: Shape) -> Confidence:
        return Confidence(source="roofline", itl_error=0.5, ttft_error=0.5)


def served(**changes: object) -> Served:
    plain = Served(
        name="8b", architecture=LLAMA_8B.architecture, precisions=(Precision.BF16,), lengths=(CHAT,)
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def found(model: Served, *gpus: str) -> dict[str, Configuration]:
    specs = {name: gpu_catalog()[name] for name in gpus}
    return {each.name: each for each in configurations_of(model, specs, Slope())}


def test_a_rate_is_requests_in_flight_over_the_time_of_their_tokens() -> None:
    alone = found(served(), "h200_sxm")["8b on h200_sxm bf16 tp1"]
    assert alone.gpus == {"h200_sxm": 1}
    assert alone.rates == (pytest.approx(1000 * MOST_REQUESTS / (200 * (10 + MOST_REQUESTS))),)


def test_memory_limits_what_is_in_flight() -> None:
    rates = [found(served(), name)[f"8b on {name} bf16 tp1"].rates[0] for name in ("l4", "l40s", "h200_sxm")]
    assert rates == sorted(rates)
    assert rates[0] < rates[1]
    large = served(name="70b", architecture=LLAMA_70B.architecture)
    assert {each.gpus["l4"] for each in found(large, "l4").values()} == {8}
    assert min(each.gpus["h100_sxm"] for each in found(large, "h100_sxm").values()) == 2


def test_a_replica_stays_within_a_machine() -> None:
    assert max(each.gpus["gb200"] for each in found(served(), "gb200").values()) == 4
    part = "h100_sxm-3g-40gb"
    assert {each.gpus[part] for each in found(served(), part).values()} == {1}


def test_targets_leave_fewer_in_flight_or_nothing() -> None:
    name = "8b on h200_sxm bf16 tp1"
    target = found(served(itl_ms=60.0), "h200_sxm")[name].rates[0]
    assert 1000 * 40 / (200 * 50) < target <= 1000 * 50 / (200 * 60)
    assert found(served(itl_ms=0.5), "h200_sxm") == {}
    assert found(served(ttft_ms=99.0), "h200_sxm") == {}
    long = Lengths(input_tokens=2000, output_tokens=10)
    both = found(served(lengths=(CHAT, long), ttft_ms=150.0), "h200_sxm")[name]
    assert both.rates[0] > 0
    assert both.rates[1] == 0


def test_precisions_are_those_that_the_gpu_computes_in() -> None:
    model = served(precisions=(Precision.BF16, Precision.FP8))
    assert not any("fp8" in name for name in found(model, "a100_sxm"))
    assert any("fp8" in name for name in found(model, "h100_sxm"))


def test_a_request_has_tokens() -> None:
    with pytest.raises(ProblemError):
        Lengths(input_tokens=0, output_tokens=1)


def test_copies_of_a_smaller_replica_dominate() -> None:
    gpus = np.array([[1, 0], [2, 0], [2, 0], [0, 1], [1, 1], [1, 0]])
    rates = np.array([[1.0, 1.0], [2.0, 1.9], [2.5, 0.1], [0.1, 0.1], [1.0, 1.0], [1.0, 1.0]])
    assert undominated(rates, gpus) == [0, 2, 3]


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_what_is_left_out_is_beaten_by_copies_of_one_that_stays(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 8))
    gpus = np.array([data.draw(st.tuples(st.integers(0, 3), st.integers(1, 3))) for _ in range(size)])
    rates = np.array([data.draw(st.tuples(st.integers(0, 6), st.integers(0, 6))) for _ in range(size)], float)
    kept = undominated(rates, gpus)
    for row in set(range(size)) - set(kept):
        assert not rates[row].any() or any(
            (copies * gpus[other] <= gpus[row]).all() and (copies * rates[other] >= rates[row]).all()
            for other, copies in itertools.product(kept, range(1, 4))
        )
