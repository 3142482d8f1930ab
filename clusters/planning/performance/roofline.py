"""How fast a replica is, by plain roofline: each step takes as long as its slower of memory and compute.

The constants are round numbers for datacentre GPUs, the same for all engines, GPU types and models: the baseline
that the calibrated model is measured against, and what is left for engines that were never measured.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from clusters.planning.performance.formula import Value, most
from clusters.planning.performance.memory import WEIGHT_BYTES, cache_bytes_per_token
from clusters.planning.performance.model import Confidence, Number, Shape
from clusters.planning.performance.work import matmul_tflops


@dataclasses.dataclass(frozen=True, kw_only=True)
class Roofline:
    """Roofline with an interconnect term.

    ``compute_efficiency`` and ``interconnect_efficiency`` are reachable shares of the data sheet;
    memory's share comes with the GPU. ``layer_overhead_us`` is spent in each layer of a step on
    launches, ``allreduce_latency_us`` in each of its two all-reduces when there is more than one GPU.
    ``first_token_factor`` is what a first token takes over reading its prompt: tokenizing, scheduling,
    answering.
    """

    compute_efficiency: float = 0.6
    interconnect_efficiency: float = 0.6
    layer_overhead_us: float = 50.0
    allreduce_latency_us: float = 10.0
    first_token_factor: float = 2.0

    def confidence(self, shape: Shape) -> Confidence:
        """Say how far off it was on measured rows; the bench prints it in figures."""
        return Confidence(source="roofline", itl_error=1.0, ttft_error=4.0)

    def first_token_ms(self, shape: Shape, *, input_tokens: Number) -> Number:
        """Milliseconds to a first token: 2 FLOPs per active parameter and prompt token, plus attention."""
        return self.first_token_factor * self.step_ms(
            shape, decoding=0 * input_tokens, context=0 * input_tokens, prompt_tokens=input_tokens
        )

    def saturated_ttft_ms(
        self, shape: Shape, *, concurrency: Number, input_tokens: float, output_tokens: float
    ) -> Number:
        """Mean milliseconds to the first token in a closed loop: the prompt, after the step under way."""
        between = self.itl_ms(
            shape,
            concurrency=concurrency,
            input_tokens=0 * concurrency + input_tokens,
            output_tokens=0 * concurrency + output_tokens,
        )
        return between + self.first_token_ms(shape, input_tokens=0 * concurrency + input_tokens)

    def itl_ms(
        self, shape: Shape, *, concurrency: Number, input_tokens: Number, output_tokens: Number
    ) -> Number:
        """Mean milliseconds between tokens under in-flight batching.

        In the steady state each step of ``concurrency`` decoded tokens also reads
        ``concurrency x input_tokens / output_tokens`` tokens of new prompts.
        """
        milliseconds: Number = self._step_ms(
            shape,
            decoding=concurrency,
            context=input_tokens + output_tokens / 2,
            prompt_tokens=concurrency * input_tokens / output_tokens,
            prompt_context=input_tokens / 2,
        )
        return milliseconds

    def step_ms(self, shape: Shape, *, decoding: Number, context: Number, prompt_tokens: Number) -> Number:
        """Milliseconds of one step: ``decoding`` tokens, then ``prompt_tokens`` of one prompt.

        Decoding waits for memory, reading for compute; they are taken one after the other.
        """
        milliseconds: Number = self._step_ms(
            shape,
            decoding=decoding,
            context=context,
            prompt_tokens=prompt_tokens,
            prompt_context=prompt_tokens / 2,
        )
        return milliseconds

    def _step_ms(
        self, shape: Shape, *, decoding: Value, context: Value, prompt_tokens: Value, prompt_context: Value
    ) -> Any:
        decoding, prompt_tokens = decoding / shape.pp, prompt_tokens / shape.pp
        decode = most(
            self._memory_s(shape, tokens=decoding, cached_tokens=decoding * context),
            self._compute_s(shape, tokens=decoding, context=context),
        )
        read = self._compute_s(shape, tokens=prompt_tokens, context=prompt_context)
        exchange = self._interconnect_s(shape, tokens=decoding + prompt_tokens)
        fixed = shape.architecture.layers * self.layer_overhead_us * 1e-6
        return 1000 * (decode + read + exchange + fixed)

    def _memory_s(self, shape: Shape, *, tokens: Value, cached_tokens: Value) -> Value:
        """Seconds to stream the weights that ``tokens`` touch, and the cache.

        Of a mixture of experts a batch touches total x (1 - (1 - active / total) ** tokens) weights
        when tokens choose experts independently; a dense model all of them.
        """
        model, groups = shape.architecture, shape.attention_parallel
        untouched = (1 - model.parameters_active / model.parameters_total) ** most(1.0, tokens)
        touched = model.parameters_total * (1 - untouched)
        weights = touched * WEIGHT_BYTES[shape.precision] / (shape.tp * groups)
        per_token = cache_bytes_per_token(model, shape.precision, shape.tp, cache_bytes=shape.cache_bytes)
        bandwidth = shape.gpu.bandwidth_gbs * 1e9 * shape.gpu.bandwidth_efficiency
        return (weights + cached_tokens * per_token / groups) / bandwidth

    def _compute_s(self, shape: Shape, *, tokens: Value, context: Value) -> Value:
        """Seconds for the multiplications of ``tokens`` that each look back on ``context`` others."""
        model, gpus = shape.architecture, shape.tp * shape.attention_parallel
        attention = 4 * model.layers * model.heads * model.head_size * context
        flops = tokens * (2 * model.parameters_active + attention)
        tflops = matmul_tflops(shape.gpu, shape.precision)
        return flops / (gpus * tflops * 1e12 * self.compute_efficiency)

    def _interconnect_s(self, shape: Shape, *, tokens: Value) -> Value:
        """Seconds of two ring all-reduces per layer over 16-bit activations."""
        if shape.tp == 1:
            return 0.0
        sent = 2 * (shape.tp - 1) / shape.tp * tokens * shape.architecture.hidden_size * 2
        each = sent / (shape.gpu.intra_node_gbs * 1e9 * self.interconnect_efficiency)
        return 2 * shape.architecture.layers * (each + self.allreduce_latency_us * 1e-6)
