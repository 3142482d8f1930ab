"""How fast a replica is, by roofline: each step takes as long as its slower of memory and compute.

The default constants were chosen from a coarse grid on 381 published measurements of Llama 3.1 70B in fp8
and nvfp4 on H100, H200 and B200 (silicon sample of aiconfigurator-core 0.12.0); they are fitted, not
properties of the hardware. Mean error between tokens on those same rows: 12 %, at worst 150 %. On the 177
rows of the 8B model on H100, which took no part and whose precision is unpublished: 18 % (too slow) read
as bf16, 25 % (too fast) as fp8. Other GPUs and models are unmeasured. First tokens are much less certain:
38 % on the 69 fitted rows with at most 4 requests in flight. Calibration belongs behind the same protocol.
"""

from __future__ import annotations

import dataclasses
import math

from clusters.planning.performance.memory import WEIGHT_BYTES, cache_bytes_per_token
from clusters.planning.performance.model import Confidence, Shape


@dataclasses.dataclass(frozen=True, kw_only=True)
class Roofline:
    """Roofline with an interconnect term.

    ``compute_efficiency`` and ``interconnect_efficiency`` are reachable shares of the data sheet;
    memory's share comes with the GPU. ``layer_overhead_us`` is spent in each layer of a step on
    launches, ``allreduce_latency_us`` in each of its two all-reduces when there is more than one GPU.
    ``first_token_factor`` is what a first token takes over reading its prompt: tokenizing, scheduling,
    answering (set so that the median of those 69 rows is met within a tenth).
    """

    compute_efficiency: float = 0.6
    interconnect_efficiency: float = 0.6
    layer_overhead_us: float = 50.0
    allreduce_latency_us: float = 10.0
    first_token_factor: float = 2.0

    def confidence(self, shape: Shape) -> Confidence:
        """Say how far off it was on rows that it was not set on."""
        return Confidence(source="roofline", itl_error=0.5, ttft_error=1.0)

    def first_token_ms(self, shape: Shape, *, input_tokens: int) -> float:
        """Milliseconds to a first token: 2 FLOPs per active parameter and prompt token, plus attention."""
        seconds = max(
            self._compute_s(shape, tokens=input_tokens, context=input_tokens / 2),
            self._memory_s(shape, tokens=input_tokens, cached_tokens=0.0),
        )
        reading = seconds + self._fixed_s(shape) + self._interconnect_s(shape, tokens=input_tokens)
        return 1000 * self.first_token_factor * reading

    def itl_ms(self, shape: Shape, *, concurrency: int, input_tokens: int, output_tokens: int) -> float:
        """Mean milliseconds between tokens under in-flight batching.

        In the steady state each step of ``concurrency`` decoded tokens also reads
        ``concurrency x input_tokens / output_tokens`` tokens of new prompts. Decoding waits for
        memory, reading for compute; they are taken one after the other.
        """
        context = input_tokens + output_tokens / 2
        decode = max(
            self._memory_s(shape, tokens=concurrency, cached_tokens=concurrency * context),
            self._compute_s(shape, tokens=concurrency, context=context),
        )
        prompts = concurrency * input_tokens / output_tokens
        read = self._compute_s(shape, tokens=prompts, context=input_tokens / 2)
        exchange = self._interconnect_s(shape, tokens=concurrency + prompts)
        return 1000 * (decode + read + exchange + self._fixed_s(shape))

    def _memory_s(self, shape: Shape, *, tokens: float, cached_tokens: float) -> float:
        """Seconds to stream the weights that ``tokens`` touch, and the cache.

        Of a mixture of experts a batch touches total x (1 - (1 - active / total) ** tokens) weights
        when tokens choose experts independently; a dense model all of them.
        """
        model = shape.architecture
        untouched = math.pow(1 - model.parameters_active / model.parameters_total, max(1.0, tokens))
        touched = model.parameters_total * (1 - untouched)
        weights = touched * WEIGHT_BYTES[shape.precision] / shape.tp
        cache = cached_tokens * cache_bytes_per_token(model, shape.precision, shape.tp)
        return (weights + cache) / (shape.gpu.bandwidth_gbs * 1e9 * shape.gpu.bandwidth_efficiency)

    def _compute_s(self, shape: Shape, *, tokens: float, context: float) -> float:
        """Seconds for the multiplications of ``tokens`` that each look back on ``context`` others."""
        model = shape.architecture
        attention = 4 * model.layers * model.heads * model.head_size * context
        flops = tokens * (2 * model.parameters_active + attention)
        return flops / (shape.tp * shape.gpu.tflops(shape.precision) * 1e12 * self.compute_efficiency)

    def _interconnect_s(self, shape: Shape, *, tokens: float) -> float:
        """Seconds of two ring all-reduces per layer over 16-bit activations."""
        if shape.tp == 1:
            return 0.0
        sent = 2 * (shape.tp - 1) / shape.tp * tokens * shape.architecture.hidden_size * 2
        each = sent / (shape.gpu.intra_node_gbs * 1e9 * self.interconnect_efficiency)
        return 2 * shape.architecture.layers * (each + self.allreduce_latency_us * 1e-6)

    def _fixed_s(self, shape: Shape) -> float:
        return shape.architecture.layers * self.layer_overhead_us * 1e-6
