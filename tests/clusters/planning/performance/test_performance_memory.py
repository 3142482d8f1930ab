"""What a model takes of each GPU's memory, its parts told apart."""

from __future__ import annotations

import dataclasses

import pytest

from clusters.planning.gpus import gpu_catalog
from clusters.planning.known_models import known_model
from clusters.planning.performance.memory import (
    GIB,
    cache_bytes_per_token,
    cached_bytes,
    fits,
    memory_for,
    memory_of,
    requests_held,
    shape_cache_bytes,
    weight_bytes,
)
from clusters.planning.performance.model import Shape
from clusters.planning.problem import Precision
from tests.clusters.planning.performance.shapes import shape_of


@pytest.mark.parametrize(
    ("model", "size"),
    [("Llama-3.1-8B", 131_072), ("Qwen3-32B", 262_144), ("Llama-3.1-70B", 327_680), ("OPT-13B", 819_200)],
)
def test_cache_of_a_token_in_16_bits(model: str, size: int) -> None:
    assert cache_bytes_per_token(numbers(model), Precision.BF16, 1) == size


def test_cache_is_halved_in_8_bits_and_sliced_by_heads() -> None:
    model = numbers("Llama-3.1-70B")
    assert cache_bytes_per_token(model, Precision.FP8, 1) == 163_840
    assert cache_bytes_per_token(model, Precision.BF16, 4) == 81_920
    assert cache_bytes_per_token(model, Precision.BF16, 1, cache_bytes=1) == 163_840


def test_heads_that_are_fewer_than_the_gpus_are_copied() -> None:
    model = numbers("Qwen3-235B-A22B")
    assert model.kv_heads == 4
    assert cache_bytes_per_token(model, Precision.BF16, 8) == cache_bytes_per_token(model, Precision.BF16, 4)


def test_latent_attention_caches_one_vector_for_all_heads_on_every_gpu() -> None:
    model = numbers("DeepSeek-V3")
    assert cache_bytes_per_token(model, Precision.BF16, 1) == 61 * 576 * 2
    assert cache_bytes_per_token(model, Precision.BF16, 8) == 61 * 576 * 2


def test_windows_and_states_do_not_grow_with_the_context() -> None:
    windowed, linear = numbers("gpt-oss-120b"), numbers("Qwen3.5-397B-A17B")
    layer = 2 * 8 * 64 * 2

    def cached(model: object, tokens: float) -> float:
        return cached_bytes(model, Precision.BF16, 1, tokens=tokens, requests=1)  # type: ignore[arg-type]

    assert cached(windowed, 100) == 36 * layer * 100
    assert cached(windowed, 1000) == 18 * layer * 1000 + 18 * layer * 128
    assert cached_bytes(windowed, Precision.BF16, 1, tokens=1000) == 36 * layer * 1000
    assert cached(linear, 2000) - cached(linear, 1000) == 15 * 2 * 2 * 256 * 2 * 1000
    assert cached(linear, 1) > 45 * 1_048_576


def test_weights_of_a_dense_model_are_sliced_by_tensor_and_pipeline_parallelism() -> None:
    model = numbers("Llama-3.1-70B")
    assert weight_bytes(model, Precision.BF16, tp=1) == 2 * model.parameters_total
    assert weight_bytes(model, Precision.BF16, tp=4) == pytest.approx(2 * model.parameters_total / 4)
    assert weight_bytes(model, Precision.BF16, tp=2, pp=2) == pytest.approx(2 * model.parameters_total / 4)
    tables = 2 * model.vocabulary * model.hidden_size
    in_8_bits = weight_bytes(model, Precision.FP8, tp=1)
    assert in_8_bits == pytest.approx(model.parameters_total + tables)


def test_attention_groups_copy_everything_but_the_experts() -> None:
    model = numbers("DeepSeek-V3")
    apart = weight_bytes(model, Precision.FP8, tp=1, attention_parallel=8)
    together = weight_bytes(model, Precision.FP8, tp=8)
    rest = weight_bytes(model, Precision.FP8, tp=1) - model.expert_parameters
    assert apart - together == pytest.approx(rest * 7 / 8)


def test_what_4_bits_leave_alone_in_a_mixture() -> None:
    model = numbers("DeepSeek-V3")
    experts = model.expert_parameters
    assert weight_bytes(model, Precision.NVFP4, tp=1) == pytest.approx(
        0.5625 * experts + 2 * (model.parameters_total - experts)
    )


def test_parts_add_up() -> None:
    memory = memory_for(
        numbers("Llama-3.1-8B"),
        gpu_catalog()["h100_sxm"],
        Precision.BF16,
        tp=1,
        context_tokens=8192,
        cached_tokens=16384,
    )
    assert memory.framework_gib == gpu_catalog()["h100_sxm"].reserved_gib
    assert memory.kv_gib == pytest.approx(16384 * 131_072 / GIB)
    assert memory.needed_gib == pytest.approx(
        memory.weights_gib + memory.kv_gib + memory.activations_gib + memory.framework_gib
    )
    assert fits(memory)


@pytest.mark.parametrize(
    ("model", "gpu", "precision", "tp", "fit"),
    [
        ("Llama-3.1-8B", "l4", "bf16", 1, True),
        ("Llama-3.1-70B", "h100_sxm", "bf16", 1, False),
        ("Llama-3.1-70B", "h100_sxm", "bf16", 2, True),
        ("Llama-3.1-70B", "h200_sxm", "fp8", 1, True),
        ("Llama-3.1-405B", "h100_sxm", "bf16", 8, False),
        ("Llama-3.1-405B", "h100_sxm", "fp8", 8, True),
        ("DeepSeek-R1", "h100_sxm", "fp8", 8, False),
        ("DeepSeek-R1", "h200_sxm", "fp8", 8, True),
        ("DeepSeek-R1", "b200_sxm", "fp8", 4, True),
        ("Qwen3-235B-A22B", "h100_sxm", "fp8", 4, True),
        ("gpt-oss-120b", "h100_sxm", "nvfp4", 1, True),
        ("Mixtral-8x7B", "a100_sxm", "bf16", 1, False),
        ("Mixtral-8x7B", "a100_sxm", "bf16", 2, True),
    ],
)
def test_what_people_know_to_fit(model: str, gpu: str, precision: str, tp: int, fit: bool) -> None:
    shape = shape_of(model, gpu, precision, tp=tp)
    assert fits(memory_of(shape, input_tokens=1024, output_tokens=1024, requests=1)) is fit


def test_engines_cache_in_8_bits_or_not() -> None:
    shape = shape_of("Llama-3.1-70B", "h100_sxm", "fp8", tp=2)
    assert shape_cache_bytes(shape) == 1
    assert shape_cache_bytes(dataclasses.replace(shape, engine="vllm")) == 2
    assert shape_cache_bytes(dataclasses.replace(shape, engine="vllm", cache_bytes=1)) == 1


@pytest.mark.parametrize("model", ["Llama-3.1-70B", "DeepSeek-R1", "gpt-oss-120b", "Qwen3.5-397B-A17B"])
def test_more_memory_and_more_gpus_hold_more_requests(model: str) -> None:
    def held(shape: Shape) -> float:
        return requests_held(shape, input_tokens=8192, output_tokens=1024)

    small, large = shape_of(model, "h100_sxm", "fp8", tp=4), shape_of(model, "b200_sxm", "fp8", tp=4)
    assert held(small) <= held(large) <= held(dataclasses.replace(large, tp=8))
    assert held(large) < held(dataclasses.replace(large, pp=2))
    assert held(dataclasses.replace(large, engine="vllm", cache_bytes=1)) > held(large)


def numbers(model: str) -> object:
    known = known_model(model)
    assert known is not None
    return known.architecture
