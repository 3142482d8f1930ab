"""Times of the calibrated model, of the plain roofline and of the model that picks the best of them."""

from __future__ import annotations

import dataclasses
import json
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusters.planning.gpus import gpu_catalog, mig_slice
from clusters.planning.known_models import known_model
from clusters.planning.performance.best import BestKnown, default_model
from clusters.planning.performance.calibrated import Calibrated, shipped_calibration
from clusters.planning.performance.measured import MeasuredTable
from clusters.planning.performance.model import PerformanceModel, Shape
from clusters.planning.performance.roofline import Roofline
from clusters.planning.problem import Precision
from tests.clusters.planning.performance.shapes import shape_of, shapes

MODELS: list[PerformanceModel] = [Roofline(), Calibrated(), default_model()]

amounts = st.floats(0, 4000, allow_nan=False)
lengths = st.integers(1, 20_000)


def known_to(model: PerformanceModel, shape: Shape) -> Shape:
    """The shape, with an engine that the calibrated model knows where it needs one."""
    return dataclasses.replace(shape, engine="vllm") if isinstance(model, Calibrated) else shape


@pytest.mark.parametrize("model", MODELS, ids=["roofline", "calibrated", "best"])
@settings(deadline=None, max_examples=150)
@given(
    shape=shapes(),
    decoding=amounts,
    context=amounts,
    prompt=amounts,
    more=st.sampled_from([(1, 0, 0), (0, 100, 0), (0, 0, 1), (40, 3000, 700)]),
)
def test_no_step_gets_faster_when_more_is_asked(
    model: PerformanceModel,
    shape: Shape,
    decoding: float,
    context: float,
    prompt: float,
    more: tuple[float, float, float],
) -> None:
    shape = known_to(model, shape)
    less = model.step_ms(shape, decoding=decoding, context=context, prompt_tokens=prompt)
    larger = model.step_ms(
        shape, decoding=decoding + more[0], context=context + more[1], prompt_tokens=prompt + more[2]
    )
    assert 0 < less <= larger * (1 + 1e-12)


@pytest.mark.parametrize("model", MODELS, ids=["roofline", "calibrated", "best"])
@settings(deadline=None, max_examples=150)
@given(shape=shapes(), concurrency=st.integers(1, 2000), inputs=lengths, outputs=lengths)
def test_larger_batches_take_longer_and_give_more(
    model: PerformanceModel, shape: Shape, concurrency: int, inputs: int, outputs: int
) -> None:
    shape = known_to(model, shape)

    def itl(requests: float, tokens: float) -> float:
        return model.itl_ms(shape, concurrency=requests, input_tokens=tokens, output_tokens=float(outputs))

    few, more = itl(concurrency, inputs), itl(concurrency + 1, inputs)
    assert 0 < few <= more * (1 + 1e-12)
    assert concurrency / few <= (concurrency + 1) / more * (1 + 1e-9)
    assert few <= itl(concurrency, inputs + 100) * (1 + 1e-12)
    first = model.first_token_ms(shape, input_tokens=float(inputs))
    assert 0 < first <= model.first_token_ms(shape, input_tokens=inputs + 100.0) * (1 + 1e-12)


@pytest.mark.parametrize("model", MODELS, ids=["roofline", "calibrated", "best"])
@settings(deadline=None, max_examples=60)
@given(shape=shapes(), concurrency=st.integers(1, 2000), inputs=lengths, outputs=lengths)
def test_a_first_token_waits_longer_among_more_clients(
    model: PerformanceModel, shape: Shape, concurrency: int, inputs: int, outputs: int
) -> None:
    shape = known_to(model, shape)

    def first(requests: float) -> float:
        return model.saturated_ttft_ms(
            shape, concurrency=requests, input_tokens=float(inputs), output_tokens=float(outputs)
        )

    assert first(concurrency) <= first(concurrency + 1) * (1 + 1e-12)
    assert math.isfinite(first(concurrency))
    assert first(concurrency) >= model.first_token_ms(shape, input_tokens=float(inputs)) * (1 - 1e-12)


@pytest.mark.parametrize("model", MODELS, ids=["roofline", "calibrated", "best"])
def test_arrays_are_answered_in_arrays(model: PerformanceModel) -> None:
    shape = shape_of("Mixtral-8x7B", "h200_sxm", "fp8", tp=2, engine="vllm")
    loads = np.array([1.0, 16.0, 300.0])
    together = model.itl_ms(shape, concurrency=loads, input_tokens=loads * 10, output_tokens=loads + 50)
    each = [
        model.itl_ms(shape, concurrency=load, input_tokens=load * 10, output_tokens=load + 50)
        for load in loads
    ]
    assert together == pytest.approx(each)
    steps = model.step_ms(shape, decoding=loads[:, None], context=500.0 + loads, prompt_tokens=np.zeros(3))
    assert steps.shape == (3, 3)
    assert steps[1, 2] == pytest.approx(model.step_ms(shape, decoding=16.0, context=800.0, prompt_tokens=0.0))
    assert model.first_token_ms(shape, input_tokens=loads).shape == (3,)


@pytest.mark.parametrize("model", [Calibrated(), Roofline()], ids=["calibrated", "roofline"])
def test_better_silicon_is_faster(model: PerformanceModel) -> None:
    def itl(gpu: str, precision: str = "bf16", tp: int = 2) -> float:
        shape = shape_of("Llama-3.1-8B", gpu, precision, tp=tp, engine="vllm")
        return model.itl_ms(shape, concurrency=32, input_tokens=1000, output_tokens=300)

    assert itl("b200_sxm") < itl("h200_sxm") < itl("h100_sxm") < itl("a100_sxm") < itl("l40s") < itl("l4")
    assert itl("h100_sxm", "fp8") < itl("h100_sxm")
    assert itl("l4", tp=4) < itl("l4", tp=1)


def test_precisions_a_gpu_lacks_save_memory_and_no_compute() -> None:
    model = Calibrated()

    def times(precision: str) -> tuple[float, float]:
        shape = shape_of("Llama-3.1-70B", "a100_sxm", precision, tp=4, engine="vllm")
        return (
            model.itl_ms(shape, concurrency=1, input_tokens=100, output_tokens=1000),
            model.first_token_ms(shape, input_tokens=8192),
        )

    assert gpu_catalog()["a100_sxm"].fp8_tflops == 0
    assert times("fp8")[0] < 0.8 * times("bf16")[0]
    assert times("fp8")[1] > 0.8 * times("bf16")[1]


def test_a_mixture_alone_streams_few_experts_and_in_a_batch_all() -> None:
    model = Calibrated()
    mixture = shape_of("DeepSeek-V3.2", "h200_sxm", "fp8", tp=8, engine="vllm")

    def growth(shape: Shape) -> float:
        one, many = (
            model.step_ms(shape, decoding=load, context=1.0, prompt_tokens=0.0) for load in (1.0, 64.0)
        )
        return many / one

    assert growth(mixture) > 1.1 * growth(shape_of("Llama-3.1-70B", "h200_sxm", "fp8", tp=8, engine="vllm"))


# Rows of the silicon sample of aiconfigurator-core 0.12.0 (Apache-2.0): Llama 3.1 70B in fp8, 1024 tokens in.
@pytest.mark.parametrize(
    ("gpu", "engine", "tp", "concurrency", "output_tokens", "measured_ms"),
    [
        ("h100_sxm", "vllm", 4, 4, 1024, 11.7761),
        ("h100_sxm", "vllm", 2, 32, 1024, 23.5381),
        ("h200_sxm", "trtllm", 2, 32, 1024, 15.4275),
        ("b200_sxm", "trtllm", 2, 64, 1024, 13.3192),
    ],
)
def test_what_was_measured_is_answered_from_the_table(
    gpu: str, engine: str, tp: int, concurrency: int, output_tokens: int, measured_ms: float
) -> None:
    shape = shape_of("Llama-3.1-70B", gpu, "fp8", tp=tp, engine=engine)
    answer = default_model().estimate(
        shape, concurrency=concurrency, input_tokens=1024, output_tokens=output_tokens
    )
    assert answer.confidence.source == "measured"
    assert answer.itl_ms == pytest.approx(measured_ms, rel=0.001)
    load = {"concurrency": concurrency, "input_tokens": 1024, "output_tokens": output_tokens}
    assert Calibrated().itl_ms(shape, **load) == pytest.approx(measured_ms, rel=0.2)
    assert Roofline().itl_ms(shape, **load) == pytest.approx(measured_ms, rel=0.3)


def test_between_measured_loads_times_lie_between_theirs() -> None:
    shape = shape_of("Llama-3.1-70B", "h100_sxm", "fp8", tp=4, engine="vllm")
    low, middle, high = (
        default_model().estimate(shape, concurrency=load, input_tokens=1024, output_tokens=1024)
        for load in (16, 22, 32)
    )
    assert low.itl_ms < middle.itl_ms < high.itl_ms
    assert low.ttft_ms < middle.ttft_ms < high.ttft_ms
    assert middle.confidence.source == "measured"


def test_sources_and_bands_by_what_is_known() -> None:
    model = default_model()

    def confidence(shape: Shape, load: float = 16) -> tuple[str, float]:
        answer = model.estimate(shape, concurrency=load, input_tokens=1024, output_tokens=1024)
        return answer.confidence.source, answer.confidence.itl_error

    measured = shape_of("Llama-3.1-70B", "h100_sxm", "fp8", tp=4, engine="vllm")
    answers = [
        confidence(measured),
        confidence(measured, load=700),
        confidence(dataclasses.replace(measured, gpu=gpu_catalog()["a100_sxm"])),
        confidence(shape_of("Qwen3-32B", "h100_sxm", "fp8", tp=4, engine="vllm")),
        confidence(
            shape_of("Qwen3-32B", "h200_sxm", "fp8", tp=4, engine="sglang")
        ),  # seen with mixtures alone
        confidence(shape_of("Qwen3-32B", "l40s", "fp8", tp=4, engine="vllm")),
        confidence(dataclasses.replace(measured, engine="llama.cpp")),
    ]
    assert [source for source, _ in answers] == ["measured", *["calibrated"] * 5, "roofline"]
    bands = [band for _, band in answers]
    assert bands == sorted(bands)
    assert model.confidence(measured).source == "measured"
    assert confidence(measured, load=5000)[1] > confidence(measured, load=700)[1]


def test_a_part_of_a_gpu_is_slower_than_the_whole() -> None:
    whole = shape_of("Llama-3.1-8B", "h100_sxm", "bf16", engine="vllm")
    part = dataclasses.replace(whole, gpu=mig_slice(whole.gpu, "3g.40gb"))
    load = {"concurrency": 8, "input_tokens": 500, "output_tokens": 500}
    assert default_model().itl_ms(part, **load) > 1.5 * default_model().itl_ms(whole, **load)
    assert default_model().confidence(part).source == "calibrated"


def test_constants_are_within_physical_bounds() -> None:
    for constants in shipped_calibration().constants.values():
        for name in ("stream", "expert_stream", "cache", "compute", "expert_compute", "attention", "ring"):
            highest = constants[name].high
            assert 0 < constants[name].low <= constants[name].value <= highest < 1
        assert 5e-7 <= constants["launch"].value <= 3e-5


def test_an_own_calibration_is_used() -> None:
    shipped = json.loads(msgspec.json.encode(shipped_calibration()))
    for constants in shipped["constants"].values():
        constants["scale"]["value"] = 1.5
    slower = BestKnown(Calibrated(msgspec.convert(shipped, type(shipped_calibration()))), MeasuredTable([]))
    shape = shape_of("Qwen3-32B", "h100_sxm", "fp8", tp=4, engine="vllm")
    load = {"concurrency": 16, "input_tokens": 500, "output_tokens": 500}
    assert slower.itl_ms(shape, **load) == pytest.approx(1.5 * Calibrated().itl_ms(shape, **load), rel=0.001)


def test_a_mixture_is_not_taken_for_a_dense_model_of_the_same_layers() -> None:
    dense = known_model("meta-llama/Llama-3.1-8B").architecture
    mixture = dataclasses.replace(dense, parameters_total=46_700_000_000, parameters_active=12_900_000_000)
    shape = Shape(architecture=mixture, gpu=gpu_catalog()["h100_sxm"], precision=Precision.BF16, tp=2)
    assert default_model().confidence(shape).source == "calibrated"
    read_ms = 1000 * mixture.parameters_active * 2 / 2 / (shape.gpu.bandwidth_gbs * 1e9)
    assert default_model().itl_ms(shape, concurrency=1.0, input_tokens=16.0, output_tokens=128.0) > read_ms
