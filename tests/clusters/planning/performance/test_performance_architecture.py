"""Architectures from our own numbers, the catalog's and Hugging Face's, and models by name."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from clusters.planning.architecture import Architecture, ArchitectureError, architecture_from
from clusters.planning.known_models import known_model, known_names
from clusters.planning.problem import Precision

LLAMA_8B = {
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
    "model_type": "llama",
    "rope_theta": 500000.0,
}


def test_a_configuration_of_hugging_face() -> None:
    model = architecture_from(LLAMA_8B)
    assert (model.layers, model.heads, model.kv_heads, model.head_size) == (32, 32, 8, 128)
    assert model.parameters_total == model.parameters_active == pytest.approx(8.03e9, rel=0.001)
    assert not model.is_mixture


def test_the_catalogs_short_names() -> None:
    model = architecture_from(
        {
            "parameters": 8_030_000_000,
            "active_parameters": 8_030_000_000,
            "layers": 32,
            "hidden": 4096,
            "heads": 32,
            "kv_heads": 8,
            "head_size": 128,
            "vocabulary": 128_256,
        }
    )
    assert model.parameters_total == 8_030_000_000
    assert model == architecture_from(dataclasses.asdict(model))


def test_a_mixture_counts_what_a_token_passes_through() -> None:
    numbers = LLAMA_8B | {"num_local_experts": 8, "num_experts_per_tok": 2, "vocab_size": 32000}
    model = architecture_from(numbers)
    assert model.parameters_total == pytest.approx(46.7e9, rel=0.001)
    assert model.parameters_active == pytest.approx(12.9e9, rel=0.005)
    assert model.expert_size == 14336
    assert model.expert_share == 0.25


def test_latent_attention_and_the_first_dense_layers() -> None:
    model = known_model("deepseek-ai/DeepSeek-R1")
    assert model is not None
    numbers = model.architecture
    assert (numbers.latent_size, numbers.dense_layers, numbers.expert_layers) == (576, 3, 58)
    assert numbers.parameters_total == pytest.approx(671e9, rel=0.001)
    assert numbers.parameters_active == pytest.approx(37.5e9, rel=0.01)


def test_a_decoder_inside_a_multimodal_configuration() -> None:
    assert architecture_from(
        {"text_config": LLAMA_8B, "vision_config": {"hidden_size": 9}}
    ) == architecture_from(LLAMA_8B)


@pytest.mark.parametrize(
    ("numbers", "windows", "linear"),
    [
        ({"sliding_window": 4096}, 32, 0),
        ({"sliding_window": 4096, "use_sliding_window": False}, 0, 0),
        ({"sliding_window": 128, "layer_types": ["sliding_attention", "full_attention"] * 16}, 16, 0),
        ({"sliding_window": 1024, "sliding_window_pattern": 6}, 27, 0),
        ({"sliding_window": 4096, "model_type": "gemma2"}, 16, 0),
        ({"full_attention_interval": 4, "linear_num_value_heads": 32, "linear_key_head_dim": 128}, 0, 24),
        ({"hybrid_override_pattern": "M-M*" * 8}, 0, 24),
    ],
)
def test_layers_that_do_not_look_back_on_everything(
    numbers: dict[str, Any], windows: int, linear: int
) -> None:
    model = architecture_from(LLAMA_8B | numbers)
    assert (model.window_layers, model.linear_layers) == (windows, linear)
    assert model.cached_layers == 32 - windows - linear


@pytest.mark.parametrize(
    ("numbers", "field"),
    [
        ({}, "layers"),
        ({"num_hidden_layers": 32}, "hidden_size"),
        (LLAMA_8B | {"hidden_size": "4096"}, "hidden_size"),
        (LLAMA_8B | {"num_attention_heads": True}, "heads"),
        (LLAMA_8B | {"num_attention_heads": 33}, "head_size"),
        (LLAMA_8B | {"num_hidden_layers": -1}, "layers"),
        (LLAMA_8B | {"num_experts": 8}, "experts_active"),
        (LLAMA_8B | {"num_experts": 8, "num_experts_per_tok": 9}, "experts_active"),
        (LLAMA_8B | {"parameters": 5, "active_parameters": 6}, "parameters_active"),
    ],
)
def test_numbers_that_no_model_has(numbers: dict[str, Any], field: str) -> None:
    with pytest.raises(ArchitectureError) as caught:
        architecture_from(numbers)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("written", "name", "precision"),
    [
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", "Llama-3.1-8B", Precision.BF16),
        ("QWEN/qwen3-32b", "Qwen3-32B", Precision.BF16),
        ("nvidia/DeepSeek-R1-0528-FP4", "DeepSeek-R1", Precision.NVFP4),
        ("Qwen/Qwen3-235B-A22B-FP8", "Qwen3-235B-A22B", Precision.FP8),
        ("openai/gpt-oss-120b", "gpt-oss-120b", Precision.NVFP4),
        ("mistralai/Mistral-7B-Instruct-v0.3", "Mistral-7B", Precision.BF16),
        ("Qwen/Qwen2.5-72B-Instruct-AWQ", "Qwen2.5-72B", Precision.INT4),
    ],
)
def test_names_as_people_write_them(written: str, name: str, precision: Precision) -> None:
    model = known_model(written)
    assert model is not None
    assert (model.name, model.precision) == (name, precision)


@pytest.mark.parametrize("written", ["", "gpt-4", "Llama-3.1-9B", "-instruct"])
def test_names_of_no_known_model(written: str) -> None:
    assert known_model(written) is None


@pytest.mark.parametrize("name", known_names())
def test_parameters_agree_with_the_size_in_the_name(name: str) -> None:
    model = known_model(name)
    assert model is not None
    sizes = [
        float(part[:-1]) * 1e9
        for part in name.lower().replace("-", " ").split()
        if part.endswith("b") and part[:-1].replace(".", "", 1).isdigit()
    ]
    if sizes and "llama-4" not in name.lower() and "olmoe" not in name.lower():
        assert model.architecture.parameters_total == pytest.approx(sizes[0], rel=0.35)
    active = [
        float(part[1:-1]) * 1e9
        for part in name.lower().split("-")
        if part.startswith("a") and part.endswith("b") and part[1:-1].replace(".", "", 1).isdigit()
    ]
    if active:
        assert model.architecture.parameters_active == pytest.approx(active[0], rel=0.35)


def test_experts_that_nobody_told_of() -> None:
    model = Architecture(
        parameters_total=100,
        parameters_active=25,
        layers=2,
        hidden_size=4,
        heads=2,
        kv_heads=1,
        head_size=2,
        vocabulary=5,
    )
    assert model.expert_parameters == 100
    assert model.expert_share == 0.25
