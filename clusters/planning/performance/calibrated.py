"""The calibrated model: the formula with constants that were fitted to measured rows.

The constants come from ``data/calibration.json``, which ``python -m clusters.planning calibrate`` writes.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from clusters.planning.architecture import Architecture
from clusters.planning.performance.formula import (
    Constants,
    closed_loop_s,
    decode_s,
    first_token_s,
    itl_s,
    least,
    prompt_s,
    waiting,
)
from clusters.planning.performance.memory import requests_held
from clusters.planning.performance.model import Confidence, Number, Shape
from clusters.planning.performance.work import Work, work_of

#: Benchmarks with random lengths draw them from 0.8 to 1 of the nominal length; the cache holds the mean.
LENGTH_SHARE: Final = 0.9

#: How much wider error bands are beyond what was measured, and how far beyond, as a factor, that begins.
BEYOND: Final = 1.5
STRETCH: Final = 2.0

#: Shapes whose constants are kept at hand.
KEPT_SHAPES: Final = 4096


class Fitted(msgspec.Struct, frozen=True, kw_only=True):
    """One constant: its pooled value, and the logarithms that it differs by, by dimension and level."""

    value: float
    low: float
    high: float
    by: dict[str, dict[str, float]] = {}


class Bands(msgspec.Struct, frozen=True, kw_only=True):
    """Fractions that 9 of 10 held-out rows lie within, by what of a case had been measured."""

    known: float
    new_gpu: float
    new_model: float
    new_both: float


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """What a fit found. Kinds are ``dense`` and ``mixture``; ``itl_offsets`` and ``ttft_offsets`` are logarithms
    by path: the kind, then the model's key with engine, precision and GPU type, each only where it was measured.
    ``ranges`` are the least and the largest of what was measured: hardware, lengths, loads."""

    rows: int
    ranges: dict[str, tuple[float, float]]
    constants: dict[str, dict[str, Fitted]]
    itl_offsets: dict[str, float]
    ttft_offsets: dict[str, float]
    itl_bands: dict[str, Bands]
    ttft_bands: dict[str, Bands]


@functools.cache
def shipped_calibration() -> Calibration:
    """Give the calibration in the data folder."""
    return read_calibration(
        importlib.resources.files("clusters.planning").joinpath("data/calibration.json").read_bytes()
    )


def read_calibration(data: bytes) -> Calibration:
    """Read what ``python -m clusters.planning calibrate`` writes.

    Raises:
        ValueError: it is something else.
    """
    return msgspec.json.decode(data, type=Calibration)


def kind_of(model: Architecture) -> str:
    """Tell the two kinds of models that have constants of their own."""
    return "mixture" if model.is_mixture else "dense"


def model_key(model: Architecture) -> str:
    """Name an architecture by its numbers: models that differ in their weights alone are as fast."""
    experts = model.experts or int(model.is_mixture)  # their number may be unknown
    return f"{model.layers}x{model.hidden_size}x{model.heads}x{experts}"


def levels_of(shape: Shape) -> dict[str, str]:
    """Give what a shape is of each dimension that constants differ by."""
    gpu = shape.gpu.slice_of or shape.gpu.name
    return {
        "engine": shape.engine,
        "precision": str(shape.precision),
        "gpu": gpu,
        "engine_gpu": f"{shape.engine}/{gpu}",
        "units": "native" if shape.gpu.tflops(shape.precision) else "unpacked",
    }


def offset_path(shape: Shape) -> tuple[str, ...]:
    """Give the keys of a shape's offsets, the least special first."""
    levels = levels_of(shape)
    kind, key = kind_of(shape.architecture), model_key(shape.architecture)
    engine = f"{key}/{shape.engine}"
    precision = f"{engine}/{levels['precision']}"
    return kind, key, engine, precision, f"{precision}/{levels['gpu']}"


def resolve(constants: Mapping[str, Fitted], levels: Mapping[str, str]) -> Constants:
    """Give every constant's value at ``levels``; those that were never measured have the pooled one."""
    values = {}
    for name, fitted in constants.items():
        differs = sum(by.get(levels.get(dimension, ""), 0.0) for dimension, by in fitted.by.items())
        values[name] = min(fitted.high, max(fitted.low, fitted.value * math.exp(differs)))
    return Constants(**values)


@dataclasses.dataclass(frozen=True)
class Replica:
    """The calibrated formula of one shape. ``itl_factor`` and ``ttft_factor`` are what measurements of the same
    model, engine or shape differ from it by."""

    shape: Shape
    work: Work
    constants: Constants
    itl_factor: float = 1.0
    ttft_factor: float = 1.0

    def step_ms(self, *, decoding: Number, context: Number, prompt_tokens: Number) -> Number:
        """Milliseconds of one step; see :class:`PerformanceModel`."""
        reads: Any = prompt_tokens > 0
        step = decode_s(
            self.work,
            self.constants,
            decoding=decoding,
            context=context,
            reading=1.0 * reads,
            prompt_tokens=prompt_tokens,
        )
        prompt = prompt_s(self.work, self.constants, tokens=prompt_tokens)
        milliseconds: Number = 1000 * self.itl_factor * (step + reads * prompt)
        return milliseconds

    def itl_ms(self, *, concurrency: Number, input_tokens: Number, output_tokens: Number) -> Number:
        """Mean milliseconds between tokens; see :class:`PerformanceModel`."""
        seconds: Number = itl_s(
            self.work,
            self.constants,
            concurrency=concurrency,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
        )
        return 1000 * self.itl_factor * seconds

    def first_token_ms(self, *, input_tokens: Number) -> Number:
        """Milliseconds to a first token at an idle replica; see :class:`PerformanceModel`."""
        seconds: Number = first_token_s(self.work, self.constants, input_tokens=input_tokens)
        return 1000 * self.ttft_factor * seconds

    def closed_loop_ms(
        self, *, concurrency: Number, input_tokens: float, output_tokens: float
    ) -> tuple[Number, Number]:
        """Mean milliseconds to the first and between tokens with ``concurrency`` clients that ask again at once.

        Requests beyond what the cache holds wait for room.
        """
        running = least(
            concurrency, self.requests_held(input_tokens=input_tokens, output_tokens=output_tokens)
        )
        first, between = closed_loop_s(
            self.work, self.constants, running=running, input_tokens=input_tokens, output_tokens=output_tokens
        )
        first, between = self.ttft_factor * first, self.itl_factor * between
        wait = waiting(first, between, concurrency=concurrency, running=running, output_tokens=output_tokens)
        return 1000 * (first + wait), 1000 * between

    def requests_held(self, *, input_tokens: float, output_tokens: float) -> float:
        """Requests whose cache is held at once in a benchmark of these nominal lengths."""
        return requests_held(
            self.shape, input_tokens=LENGTH_SHARE * input_tokens, output_tokens=LENGTH_SHARE * output_tokens
        )


class Calibrated:
    """Predicts with fitted constants; what was never measured gets the pooled ones.

    An engine that was never measured has no constants: see :meth:`knows`.
    """

    def __init__(self, calibration: Calibration | None = None) -> None:
        self.calibration = calibration or shipped_calibration()
        self._replicas: dict[Shape, Replica] = {}

    def knows(self, shape: Shape) -> bool:
        """Say whether the engine was among the measured ones, be it with models of the other kind."""
        return any(
            shape.engine in constants["launch"].by["engine"]
            for constants in self.calibration.constants.values()
        )

    def on(self, shape: Shape) -> Replica:
        """Give the formula of one shape, which answers within microseconds."""
        replica = self._replicas.get(shape)
        if replica is None:
            if len(self._replicas) >= KEPT_SHAPES:
                self._replicas.clear()
            calibration = self.calibration
            path = offset_path(shape)
            replica = self._replicas[shape] = Replica(
                shape,
                work_of(shape),
                resolve(calibration.constants[kind_of(shape.architecture)], levels_of(shape)),
                math.exp(sum(calibration.itl_offsets.get(key, 0.0) for key in path)),
                math.exp(sum(calibration.ttft_offsets.get(key, 0.0) for key in path)),
            )
        return replica

    def step_ms(self, shape: Shape, *, decoding: Number, context: Number, prompt_tokens: Number) -> Number:
        """Milliseconds of one step; see :class:`PerformanceModel`."""
        return self.on(shape).step_ms(decoding=decoding, context=context, prompt_tokens=prompt_tokens)

    def itl_ms(
        self, shape: Shape, *, concurrency: Number, input_tokens: Number, output_tokens: Number
    ) -> Number:
        """Mean milliseconds between tokens; see :class:`PerformanceModel`."""
        return self.on(shape).itl_ms(
            concurrency=concurrency, input_tokens=input_tokens, output_tokens=output_tokens
        )

    def first_token_ms(self, shape: Shape, *, input_tokens: Number) -> Number:
        """Milliseconds to a first token at an idle replica; see :class:`PerformanceModel`."""
        return self.on(shape).first_token_ms(input_tokens=input_tokens)

    def saturated_ttft_ms(
        self, shape: Shape, *, concurrency: Number, input_tokens: float, output_tokens: float
    ) -> Number:
        """Mean milliseconds to the first token with ``concurrency`` clients that ask again once answered."""
        first, _ = self.on(shape).closed_loop_ms(
            concurrency=concurrency, input_tokens=input_tokens, output_tokens=output_tokens
        )
        return first

    def confidence(self, shape: Shape) -> Confidence:
        """Say what held-out rows were off by, by what of the shape had been measured."""
        calibration, kind = self.calibration, kind_of(shape.architecture)
        _, model, *_, exact = offset_path(shape)
        gpu = levels_of(shape)["gpu"]
        launch = calibration.constants[kind]["launch"]
        if shape.engine not in launch.by["engine"]:
            case = "new_both"
        elif exact in calibration.itl_offsets:
            case = "known"
        elif model in calibration.itl_offsets:
            case = "new_gpu"
        else:
            case = "new_model" if gpu in launch.by["gpu"] else "new_both"
        wider = self.widening(bandwidth_gbs=shape.gpu.bandwidth_gbs, intra_node_gbs=shape.gpu.intra_node_gbs)
        return Confidence(
            source="calibrated",
            itl_error=wider * getattr(calibration.itl_bands[kind], case),
            ttft_error=wider * getattr(calibration.ttft_bands[kind], case),
        )

    def widening(self, **values: float) -> float:
        """Give the factor on error bands where any of ``values`` lies far beyond its measured range."""
        for name, value in values.items():
            low, high = self.calibration.ranges[name]
            if not low / STRETCH <= value <= high * STRETCH:
                return BEYOND
        return 1.0
