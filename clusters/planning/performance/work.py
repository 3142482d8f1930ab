"""What one engine step has to move and multiply, in seconds at the speeds of the data sheet.

Models of performance divide these by what is really reached of them.
"""

from __future__ import annotations

import dataclasses
import math

from clusters.planning.architecture import Architecture
from clusters.planning.performance.memory import (
    STATE_BYTES,
    cache_bytes_per_token,
    dense_weight_bytes,
    expert_weight_bytes,
    shape_cache_bytes,
    table_bytes,
)
from clusters.planning.performance.model import Shape
from clusters.planning.problem import GpuSpec, Precision

#: Bytes of a number that is passed between GPUs.
ACTIVATION_BYTES = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """Seconds of one step's parts on each GPU, for a pass through the whole model.

    ``dense_s`` streams all weights that are not of routed experts and ``expert_s`` those that are, of which a
    token takes ``expert_share``; they lie whole on GPUs after that many ``doublings`` of one. ``dense_flops_s`` and
    ``expert_flops_s`` multiply one token. Of the cache, ``cache_s`` is read for each token of context up to
    ``context_limit``, ``window_s`` for each within ``window``, ``state_s`` for each request. ``attention_s``
    multiplies a decoded token with one token of context and ``prompt_attention_s`` one of a prompt.
    ``launches`` counts kernels. There are ``hops`` latencies of all-reduces; a token takes ``ring_s`` through
    them where messages are long and ``direct_s`` where they are short, and ``exchange_s`` between experts.
    """

    dense_s: float
    expert_s: float
    expert_share: float
    doublings: float
    dense_flops_s: float
    expert_flops_s: float
    cache_s: float
    window_s: float
    window: float
    context_limit: float
    state_s: float
    attention_s: float
    prompt_attention_s: float
    launches: float
    hops: float
    ring_s: float
    direct_s: float
    exchange_s: float
    groups: float
    stages: float


def matmul_tflops(gpu: GpuSpec, precision: Precision) -> float:
    """Dense TFLOPS at which weights of ``precision`` are multiplied.

    Where the GPU has no such units, kernels unpack the weights and multiply in bf16 (Frantar et al., MARLIN,
    2024): that saves memory and no compute.
    """
    return gpu.tflops(precision) or gpu.bf16_tflops


def launches_of(model: Architecture) -> int:
    """Kernels of one step, as engines fuse them.

    Attention: norm and projection, rotary and cache, attention in two parts, output; three more where queries and
    cache go through low ranks, six for an index of what to look at; a linear layer has one more, for its
    convolution. An MLP: norm, up, activation, down. Experts: norm, router, choice and sorting, up, activation, down,
    combination; shared ones two more.
    """
    attention = 8 if model.latent_size else 5
    attention += 6 if model.sparse_tokens else 0
    with_experts = 9 if model.shared_experts else 7
    experts = model.expert_layers
    mixing = (model.layers - model.linear_layers) * attention + model.linear_layers * 6
    return mixing + (model.layers - experts) * 4 + experts * with_experts


def work_of(shape: Shape) -> Work:
    """Count the work of one step of ``shape``.

    FLOPs and bytes are those of the roofline (Williams et al., 2009) applied to transformers (Pope et al., 2022):
    2 FLOPs and one read for each parameter, and the cache of Kwon et al. (2023) for each token of context. A ring
    all-reduce sends 2 (n - 1) / n of a message over each link, a direct one n - 1 times the message.
    """
    model, gpu, tp, precision = shape.architecture, shape.gpu, shape.tp, shape.precision
    ranks = tp * shape.attention_parallel
    bandwidth = gpu.bandwidth_gbs * 1e9
    link = (gpu.intra_node_gbs if ranks <= gpu.gpus_per_node else gpu.inter_node_gbs) * 1e9
    experts = model.expert_parameters
    tables = min(model.vocabulary * model.hidden_size, model.parameters_total - experts)
    copies = 1 if model.tied_embeddings else 2
    dense = max(0, model.parameters_total - experts - copies * tables)
    dense_bytes = dense_weight_bytes(model, precision)
    dense_precision = Precision.BF16 if dense_bytes == 2 else precision
    bf16 = gpu.bf16_tflops * 1e12
    numbers = shape_cache_bytes(shape)
    layer = cache_bytes_per_token(model, precision, tp, cache_bytes=numbers, layers=1)
    looks = 4 * model.heads * (model.latent_size or model.head_size)
    message = 2 * model.layers * model.hidden_size * ACTIVATION_BYTES / link if tp > 1 else 0.0
    exchanged = 2 * model.experts_active * model.hidden_size * ACTIVATION_BYTES / ranks / link
    return Work(
        dense_s=(dense * dense_bytes + tables * table_bytes()) / tp / bandwidth,
        expert_s=experts * expert_weight_bytes(precision) / ranks / bandwidth,
        expert_share=model.expert_share,
        doublings=math.log2(shape.expert_parallel) if experts else 0.0,
        dense_flops_s=2 * (dense + tables) / ranks / (matmul_tflops(gpu, dense_precision) * 1e12),
        expert_flops_s=2 * experts * model.expert_share / ranks / (matmul_tflops(gpu, precision) * 1e12),
        cache_s=model.cached_layers * layer / bandwidth,
        window_s=model.window_layers * layer / bandwidth,
        window=float(model.window_tokens),
        context_limit=float(model.sparse_tokens) or math.inf,
        state_s=2 * model.linear_layers * model.linear_state * STATE_BYTES / tp / bandwidth,
        attention_s=model.cached_layers * looks / tp / bf16,
        prompt_attention_s=model.cached_layers * 4 * model.heads * model.head_size / ranks / bf16,
        launches=float(launches_of(model)),
        hops=(model.layers * (1 + math.log2(tp)) if tp > 1 else 0.0)
        + (model.expert_layers * (1 + math.log2(ranks)) if shape.attention_parallel > 1 else 0.0),
        ring_s=message * 2 * (tp - 1) / tp,
        direct_s=message * (tp - 1),
        exchange_s=model.expert_layers * exchanged if shape.attention_parallel > 1 else 0.0,
        groups=float(shape.attention_parallel),
        stages=float(shape.pp),
    )
