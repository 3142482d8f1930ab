"""Shapes and loads for the tests of queueing and its simulation, and a performance model of plain numbers."""

from __future__ import annotations

import dataclasses

from hypothesis import strategies as st

from clusters.planning.gpus import gpu_catalog
from clusters.planning.performance.model import Confidence, Number, Shape
from clusters.planning.performance.queueing import latencies
from clusters.planning.performance.roofline import Roofline
from clusters.planning.problem import LoadProfile, Precision
from tests.clusters.planning.problems import EXPERTS, LLAMA_8B, LLAMA_70B

SMALL = Shape(
    architecture=LLAMA_8B.architecture, gpu=gpu_catalog()["h100_sxm"], precision=Precision.BF16, tp=1
)
LARGE = Shape(
    architecture=LLAMA_70B.architecture, gpu=gpu_catalog()["h100_sxm"], precision=Precision.FP8, tp=4
)
MIXTURE = Shape(
    architecture=EXPERTS.architecture, gpu=gpu_catalog()["h200_sxm"], precision=Precision.BF16, tp=1
)
SHAPES = (SMALL, LARGE, MIXTURE)

CHAT = LoadProfile(requests_per_second=4, input_tokens=1155, output_tokens=211, input_cv=0.96, output_cv=0.77)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plain:
    """Steps of 10 ms, 0.1 ms a decoding request and 0.05 ms a prompt token, first tokens 20 ms beside them."""

    def step_ms(self, shape: Shape, *, decoding: Number, context: Number, prompt_tokens: Number) -> Number:
        return 10 + 0.1 * decoding + 0.05 * prompt_tokens

    def itl_ms(
        self, shape: Shape, *, concurrency: Number, input_tokens: Number, output_tokens: Number
    ) -> Number:
        return 10 + 0.1 * concurrency + 0.05 * concurrency * input_tokens / output_tokens

    def first_token_ms(self, shape: Shape, *, input_tokens: Number) -> Number:
        return 30 + 0.05 * input_tokens

    def confidence(self, shape: Shape) -> Confidence:
        return Confidence(source="roofline", itl_error=0.5, ttft_error=1.0)


def at_load(
    profile: LoadProfile, shape: Shape, load: float, *, batch_limit: int, step_tokens: int
) -> LoadProfile:
    """The profile at the rate that takes ``load`` of one replica."""
    one = latencies(
        Roofline(), shape, profile, replicas=1, batch_limit=batch_limit, step_tokens=step_tokens, rate=1e-6
    )
    return dataclasses.replace(profile, requests_per_second=load / one.utilisation * 1e-6)


def profiles() -> st.SearchStrategy[LoadProfile]:
    """Loads from next to nothing to far too much, of all kinds of lengths."""
    return st.builds(
        LoadProfile,
        requests_per_second=st.floats(0, 60),
        input_tokens=st.integers(1, 16_000),
        output_tokens=st.integers(1, 2000),
        burstiness=st.sampled_from([1.0, 1.0, 1.3, 2.0, 3.8]),
        input_cv=st.sampled_from([0.0, 0.5, 1.0, 1.6]),
        output_cv=st.sampled_from([0.0, 0.5, 1.0, 1.6]),
        prefix_share=st.sampled_from([0.0, 0.0, 0.3, 0.8]),
    )
