"""Shapes by the names of their parts."""

from __future__ import annotations

from hypothesis import strategies as st

from clusters.planning.gpus import gpu_catalog
from clusters.planning.known_models import known_model
from clusters.planning.performance.model import Shape
from clusters.planning.problem import Precision

MODELS = (
    "Llama-3.1-8B",
    "Llama-3.1-70B",
    "Qwen3-32B",
    "Mixtral-8x7B",
    "gpt-oss-120b",
    "DeepSeek-V3.2",
    "Qwen3.5-397B-A17B",
    "Gemma-3-27B",
)


def shape_of(
    model: str, gpu: str, precision: str, *, tp: int = 1, engine: str = "trtllm", **more: int
) -> Shape:
    """Give a shape; ``more`` are further fields of it."""
    known = known_model(model)
    assert known is not None
    return Shape(
        architecture=known.architecture,
        gpu=gpu_catalog()[gpu],
        precision=Precision(precision),
        tp=tp,
        engine=engine,
        **more,  # type: ignore[arg-type]
    )


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """Models of all kinds on all GPU types, with and without pipelines, expert and attention parallelism."""
    tp, groups = draw(st.sampled_from([(1, 1), (2, 1), (4, 1), (8, 1), (1, 4), (2, 2)]))
    return shape_of(
        draw(st.sampled_from(MODELS)),
        draw(st.sampled_from(sorted(gpu_catalog()))),
        draw(st.sampled_from(["bf16", "fp8", "nvfp4", "int4"])),
        tp=tp,
        engine=draw(st.sampled_from(["trtllm", "vllm", "sglang", "llama.cpp"])),
        attention_parallel=groups,
        expert_parallel=draw(st.sampled_from([1, tp * groups])),
        pp=draw(st.sampled_from([1, 1, 2, 4])),
    )
