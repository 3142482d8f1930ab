"""What a model takes of each GPU's memory."""

from __future__ import annotations

from typing import Final

from clusters.planning.architecture import Architecture
from clusters.planning.plans import MemoryBreakdown
from clusters.planning.problem import GpuSpec, Precision

GIB: Final = 2**30

#: Bytes per parameter with the scales: int4 has a 16-bit scale per 128 weights, nvfp4 an 8-bit one per 16.
WEIGHT_BYTES: Final = {
    Precision.BF16: 2.0,
    Precision.FP8: 1.0,
    Precision.INT4: 0.5 + 2 / 128,
    Precision.NVFP4: 0.5 + 1 / 16,
}

#: Bytes per cached number: 8-bit checkpoints carry the scales of an 8-bit cache.
CACHE_BYTES: Final = {Precision.BF16: 2, Precision.FP8: 1, Precision.INT4: 2, Precision.NVFP4: 1}

#: Share of the memory left after loading that TensorRT-LLM gives its KV cache by default.
CACHE_SHARE: Final = 0.9

#: Tokens of one engine step by default (``max_num_tokens``): longer prompts go in chunks.
STEP_TOKENS: Final = 8192

#: Live hidden-size vectors per token of a step, in and around the widest layer.
ACTIVATION_VECTORS: Final = 10


def cache_bytes_per_token(model: Architecture, precision: Precision, tp: int) -> int:
    """Bytes of KV cache that one token takes on each GPU.

    2 x layers x heads x head size x bytes (Kwon et al., SOSP 2023); KV heads that are fewer than
    the GPUs are kept on several.
    """
    heads = -(-model.kv_heads // tp)
    return 2 * model.layers * heads * model.head_size * CACHE_BYTES[precision]


def memory_for(
    model: Architecture,
    gpu: GpuSpec,
    precision: Precision,
    *,
    tp: int,
    context_tokens: int,
    cached_tokens: int,
) -> MemoryBreakdown:
    """Lay ``cached_tokens`` of KV cache beside everything else on each of ``tp`` GPUs.

    It fits when ``kv_gib`` is at most ``kv_available_gib``.
    """
    weights = model.parameters_total * WEIGHT_BYTES[precision] / tp / GIB
    step = min(STEP_TOKENS, context_tokens)
    activations = step * model.hidden_size * 2 * ACTIVATION_VECTORS / GIB
    fixed = weights + activations + gpu.reserved_gib
    cache = cached_tokens * cache_bytes_per_token(model, precision, tp) / GIB
    return MemoryBreakdown(
        weights_gib=weights,
        kv_gib=cache,
        activations_gib=activations,
        framework_gib=gpu.reserved_gib,
        needed_gib=fixed + cache,
        available_gib=gpu.memory_gib,
        kv_available_gib=max(0.0, (gpu.memory_gib - fixed) * CACHE_SHARE),
    )


def fits(memory: MemoryBreakdown) -> bool:
    """Say whether the cache that is needed is left for it."""
    return memory.kv_gib <= memory.kv_available_gib
