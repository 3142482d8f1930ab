"""Configurations of a model on GPU types, with the rates that the performance model expects of them."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from clusters.planning.architecture import Architecture
from clusters.planning.composition.fleet import Configuration
from clusters.planning.performance.best import default_model
from clusters.planning.performance.memory import fits, memory_for
from clusters.planning.performance.model import PerformanceModel, Shape
from clusters.planning.problem import GpuSpec, Precision, ProblemError

#: Sizes of tensor-parallel groups and numbers of pipeline stages; a replica stays within one machine.
TENSOR_PARALLEL: Final = (1, 2, 4, 8, 16)
PIPELINE_STAGES: Final = (1, 2, 4, 8)

#: Most requests in flight in one replica, and those tried on the way there.
MOST_REQUESTS: Final = 256
_TRIED: Final = sorted({round(MOST_REQUESTS ** (part / 32)) for part in range(33)})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lengths:
    """Mean tokens of a workload's requests."""

    input_tokens: int
    output_tokens: int

    def __post_init__(self) -> None:
        if self.input_tokens < 1 or self.output_tokens < 1:
            raise ProblemError("models", "a request has at least one input and one output token")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Served:
    """A model to be served: its workloads in order, and how it may be.

    ``itl_ms`` is the longest mean time between tokens, ``ttft_ms`` the longest time to the first token of an
    otherwise idle replica; None is no limit. ``engine`` is named as the performance model knows it.
    """

    name: str
    architecture: Architecture
    precisions: tuple[Precision, ...]
    lengths: tuple[Lengths, ...]
    itl_ms: float | None = None
    ttft_ms: float | None = None
    engine: str = "trtllm"


def configurations_of(
    served: Served, gpus: Mapping[str, GpuSpec], performance: PerformanceModel | None = None
) -> tuple[Configuration, ...]:
    """Give every replica of one GPU type that holds the model and serves at least one of its workloads.

    ``gpus`` has the types by the names of their offers. Types are tried in all precisions that they compute in.
    """
    performance = performance or default_model()
    found = []
    for offer, gpu in gpus.items():
        for shape in _shapes(served, gpu):
            rates = tuple(_rate(served, shape, lengths, performance) for lengths in served.lengths)
            if any(rates):
                stages = f" pp{shape.pp}" if shape.pp > 1 else ""
                name = f"{served.name} on {offer} {shape.precision} tp{shape.tp}{stages}"
                found.append(
                    Configuration(name=name, model=served.name, gpus={offer: shape.gpus}, rates=rates)
                )
    return tuple(found)


def _shapes(served: Served, gpu: GpuSpec) -> Iterator[Shape]:
    for precision, tp, pp in itertools.product(served.precisions, TENSOR_PARALLEL, PIPELINE_STAGES):
        together = tp * pp <= (1 if gpu.slice_of else gpu.gpus_per_node)
        divides = served.architecture.heads % tp == 0 and pp <= served.architecture.layers
        if together and divides and gpu.tflops(precision) > 0:
            yield Shape(
                architecture=served.architecture,
                gpu=gpu,
                precision=precision,
                tp=tp,
                pp=pp,
                engine=served.engine,
            )


def _rate(served: Served, shape: Shape, lengths: Lengths, performance: PerformanceModel) -> float:
    """Requests per second of a replica that serves these alone, as many at once as memory and target let it.

    With n in flight each takes its output's tokens times the time between them, so n / that finish per second.
    """
    most = _most_in_flight(served, shape, lengths)
    if most < 1:
        return 0.0
    first = performance.first_token_ms(shape, input_tokens=float(lengths.input_tokens))
    if first > (math.inf if served.ttft_ms is None else served.ttft_ms):
        return 0.0
    tried = np.array([*(flying for flying in _TRIED if flying < most), most], np.float64)
    itl = np.array(
        [
            performance.itl_ms(
                shape,
                concurrency=flying,
                input_tokens=float(lengths.input_tokens),
                output_tokens=float(lengths.output_tokens),
            )
            for flying in tried
        ]
    )
    kept = itl <= (math.inf if served.itl_ms is None else served.itl_ms)
    return float(max(1000 * tried[kept] / (lengths.output_tokens * itl[kept]), default=0.0))


def _most_in_flight(served: Served, shape: Shape, lengths: Lengths) -> int:
    """Requests whose whole cache fits beside the model, the engine set up for the longest of all workloads."""
    context = max(each.input_tokens + each.output_tokens for each in served.lengths)
    own = lengths.input_tokens + lengths.output_tokens

    def fit(requests: int) -> bool:
        return fits(
            memory_for(
                shape.architecture, shape.gpu, shape.precision, tp=shape.tp, pp=shape.pp,
                context_tokens=context, cached_tokens=requests * own, requests=requests,
            )
        )  # fmt: skip

    low, high = 0, MOST_REQUESTS
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fit(middle) else (low, middle - 1)
    return low
