"""What a model takes of each GPU's memory."""

from __future__ import annotations

import math
from typing import Final

from clusters.planning.architecture import Architecture
from clusters.planning.performance.model import Shape
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

#: Engines that cache in 16 bits beside 8-bit weights, by default.
SIXTEEN_BIT_CACHES: Final = frozenset({"sglang", "vllm"})

#: Precisions whose checkpoints of mixtures quantise the experts alone and keep the rest in 16 bits.
EXPERTS_ONLY: Final = frozenset({Precision.INT4, Precision.NVFP4})

#: Engines that admit requests by their present length and evict when that no longer fits.
EVICTING: Final = frozenset({"sglang", "vllm"})

#: Share of the memory left after loading that TensorRT-LLM gives its KV cache by default.
CACHE_SHARE: Final = 0.9

#: Tokens of one engine step by default (``max_num_tokens``): longer prompts go in chunks.
STEP_TOKENS: Final = 8192

#: Live hidden-size vectors per token of a step, in and around the widest layer.
ACTIVATION_VECTORS: Final = 10

#: Bytes of a number of a linear layer's state, which is kept in 32 bits.
STATE_BYTES: Final = 4


def expert_weight_bytes(precision: Precision) -> float:
    """Bytes per parameter of a routed expert."""
    return WEIGHT_BYTES[precision]


def dense_weight_bytes(model: Architecture, precision: Precision) -> float:
    """Bytes per parameter of attention and of MLPs that are not routed experts."""
    return 2.0 if model.experts and precision in EXPERTS_ONLY else WEIGHT_BYTES[precision]


def table_bytes() -> float:
    """Bytes per parameter of the embeddings and the output table, which checkpoints leave in 16 bits."""
    return WEIGHT_BYTES[Precision.BF16]


def cache_number_bytes(precision: Precision, cache_bytes: float | None = None) -> float:
    """Bytes of one cached number: as told, else as checkpoints of ``precision`` have it."""
    return CACHE_BYTES[precision] if cache_bytes is None else cache_bytes


def shape_cache_bytes(shape: Shape) -> float:
    """Bytes of one cached number of ``shape``.

    TensorRT-LLM caches in 8 bits whenever it multiplies in 8 bits; vLLM and SGLang cache in 16 bits unless
    told otherwise or the checkpoint carries scales for the cache, as those in nvfp4 do.
    """
    if shape.cache_bytes is not None:
        return shape.cache_bytes
    if shape.engine in SIXTEEN_BIT_CACHES and shape.precision is Precision.FP8:
        return 2
    return CACHE_BYTES[shape.precision]


def cache_bytes_per_token(
    model: Architecture,
    precision: Precision,
    tp: int,
    *,
    cache_bytes: float | None = None,
    layers: int | None = None,
) -> int:
    """Bytes of KV cache that one token takes on each GPU while no window is full.

    2 x layers x heads x head size x bytes (Kwon et al., SOSP 2023); KV heads that are fewer than
    the GPUs are kept on several. Latent attention caches one vector for all heads, on every GPU
    (DeepSeek-V2, 2024). ``layers`` are those that cache, by default all that do.
    """
    count = model.layers - model.linear_layers if layers is None else layers
    each = model.latent_size or 2 * -(-model.kv_heads // tp) * model.head_size
    return round(count * each * cache_number_bytes(precision, cache_bytes))


def cached_bytes(
    model: Architecture,
    precision: Precision,
    tp: int,
    *,
    tokens: float,
    requests: float | None = None,
    cache_bytes: float | None = None,
) -> float:
    """Bytes of cache on each GPU for ``tokens`` of context that ``requests`` share evenly.

    Layers with a window keep its width for each request at most, linear layers a state for each; without a
    number of requests nothing is saved by windows.
    """
    layer = cache_bytes_per_token(model, precision, tp, cache_bytes=cache_bytes, layers=1)
    windowed = tokens if requests is None else min(tokens, requests * model.window_tokens)
    state = (requests or 1) * model.linear_layers * model.linear_state * STATE_BYTES / tp
    return layer * (model.cached_layers * tokens + model.window_layers * windowed) + state


def weight_bytes(
    model: Architecture, precision: Precision, *, tp: int, pp: int = 1, attention_parallel: int = 1
) -> float:
    """Bytes of weights on each GPU.

    Routed experts are shared out over all GPUs of a stage, sliced or whole. Everything else is sliced by tensor
    parallelism alone, so that each attention group has a copy. The tables are in the first and the last stage.
    """
    experts = model.expert_parameters
    tables = min(
        model.parameters_total - experts,
        (1 if model.tied_embeddings else 2) * model.vocabulary * model.hidden_size,
    )
    dense = model.parameters_total - experts - tables
    spread = experts * expert_weight_bytes(precision) / attention_parallel
    held = tables * table_bytes() / min(pp, 2)
    return ((dense * dense_weight_bytes(model, precision) + spread) / pp + held) / tp


def memory_for(
    model: Architecture,
    gpu: GpuSpec,
    precision: Precision,
    *,
    tp: int,
    context_tokens: int,
    cached_tokens: int,
    pp: int = 1,
    attention_parallel: int = 1,
    requests: int | None = None,
    cache_bytes: float | None = None,
    step_tokens: int = STEP_TOKENS,
    cache_share: float = CACHE_SHARE,
) -> MemoryBreakdown:
    """Lay ``cached_tokens`` of KV cache, of ``requests`` together, beside everything else on each GPU.

    There are ``pp`` stages of ``tp`` x ``attention_parallel`` GPUs. An engine's step takes ``step_tokens`` at
    most, and its cache ``cache_share`` of what is left after loading. It fits when ``kv_gib`` is at most
    ``kv_available_gib``.
    """
    weights = weight_bytes(model, precision, tp=tp, pp=pp, attention_parallel=attention_parallel) / GIB
    step = min(step_tokens, context_tokens)
    activations = step * model.hidden_size * 2 * ACTIVATION_VECTORS / GIB
    fixed = weights + activations + gpu.reserved_gib
    groups = attention_parallel
    cache = (
        cached_bytes(
            model,
            precision,
            tp,
            tokens=max(cached_tokens / groups, min(cached_tokens, context_tokens)),
            requests=None if requests is None else max(1.0, requests / groups),
            cache_bytes=cache_bytes,
        )
        / pp
        / GIB
    )
    return MemoryBreakdown(
        weights_gib=weights,
        kv_gib=cache,
        activations_gib=activations,
        framework_gib=gpu.reserved_gib,
        needed_gib=fixed + cache,
        available_gib=gpu.memory_gib,
        kv_available_gib=max(0.0, (gpu.memory_gib - fixed) * cache_share),
    )


def fits(memory: MemoryBreakdown) -> bool:
    """Say whether the cache that is needed is left for it."""
    return memory.kv_gib <= memory.kv_available_gib


def memory_of(shape: Shape, *, input_tokens: float, output_tokens: float, requests: float) -> MemoryBreakdown:
    """Lay the whole context of ``requests`` beside everything else on each GPU of ``shape``."""
    tokens = math.ceil(input_tokens + output_tokens)
    return memory_for(
        shape.architecture,
        shape.gpu,
        shape.precision,
        tp=shape.tp,
        pp=shape.pp,
        attention_parallel=shape.attention_parallel,
        context_tokens=tokens,
        cached_tokens=math.ceil(requests * tokens),
        requests=math.ceil(requests),
        cache_bytes=shape_cache_bytes(shape),
    )


def requests_held(shape: Shape, *, input_tokens: float, output_tokens: float) -> float:
    """Requests whose cache is held at once, at least 1.

    TensorRT-LLM admits a request when its whole context fits; vLLM and SGLang admit what fits now and evict
    what no longer does, so that the mean context counts.
    """
    room = memory_of(
        shape, input_tokens=input_tokens, output_tokens=output_tokens, requests=1
    ).kv_available_gib
    evicts = shape.engine in EVICTING
    tokens = input_tokens + (output_tokens / 2 if evicts else output_tokens)
    each = cached_bytes(
        shape.architecture,
        shape.precision,
        shape.tp,
        tokens=tokens,
        requests=1,
        cache_bytes=shape_cache_bytes(shape),
    )
    return max(1.0, room * GIB * shape.pp * shape.attention_parallel / max(1.0, each))
