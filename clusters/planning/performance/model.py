"""What every performance model answers."""

from __future__ import annotations

import dataclasses
import functools
from typing import Protocol, TypeVar

import numpy as np

from clusters.planning.architecture import Architecture
from clusters.planning.problem import GpuSpec, Precision

#: A number, or numbers of many cases at once: whatever is asked in arrays is answered in arrays.
Number = TypeVar("Number", float, "np.ndarray[tuple[int, ...], np.dtype[np.float64]]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
    """A model on the GPUs of one replica, run by an engine.

    ``pp`` stages of ``attention_parallel`` groups of ``tp`` GPUs: groups attend to requests of their own, the
    GPUs of a group slice the heads. All of a stage's GPUs share its experts, ``expert_parallel`` of them whole
    ones. The cache is kept in ``cache_bytes`` a number, by engine and precision where None.
    """

    architecture: Architecture
    gpu: GpuSpec
    precision: Precision
    tp: int
    pp: int = 1
    expert_parallel: int = 1
    attention_parallel: int = 1
    engine: str = "trtllm"
    cache_bytes: float | None = None

    def __hash__(self) -> int:
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:
        # Shapes are looked up thousands of times in one search, and have some fifty numbers in all.
        return hash((
            self.architecture, self.gpu, self.precision, self.tp, self.pp, self.expert_parallel,
            self.attention_parallel, self.engine, self.cache_bytes,
        ))  # fmt: skip

    @property
    def gpus(self) -> int:
        """GPUs of the replica."""
        return self.tp * self.attention_parallel * self.pp


@dataclasses.dataclass(frozen=True, kw_only=True)
class Confidence:
    """Where numbers come from, and how wrong they may be: 9 of 10 lie within the fraction given.

    ``source`` is measured, calibrated or roofline.
    """

    source: str
    itl_error: float
    ttft_error: float


class PerformanceModel(Protocol):
    """Predicts one replica without queueing. No time falls when more is asked."""

    def step_ms(self, shape: Shape, *, decoding: Number, context: Number, prompt_tokens: Number) -> Number:
        """Milliseconds of one step: a token for each of ``decoding`` requests of mean ``context``, and a
        chunk of ``prompt_tokens`` tokens of new prompts."""

    def itl_ms(
        self, shape: Shape, *, concurrency: Number, input_tokens: Number, output_tokens: Number
    ) -> Number:
        """Mean milliseconds between tokens with ``concurrency`` requests in flight and their prompts."""

    def first_token_ms(self, shape: Shape, *, input_tokens: Number) -> Number:
        """Milliseconds from a request's arrival at an otherwise idle replica to its first token;
        ``input_tokens`` are those that no cache holds."""

    def confidence(self, shape: Shape) -> Confidence:
        """Say where the numbers for ``shape`` come from and how far they may be off."""
