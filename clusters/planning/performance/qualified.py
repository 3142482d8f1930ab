"""What replays measured on an installation's own GPUs corrects a performance model, shape by shape.

A run says what one shape took under one load. Its ratio is measured over predicted time, as the model was before any
correction. Of runs at a like load the last :data:`LAST_RUNS` count, by their median, so that what is newer wins and
one noisy run does not; loads weigh by their requests. The mean ratio is drawn towards 1: ``n`` runs count
n / (n + :data:`DOUBT`), and less the less they agree. No factor leaves the bounds of live corrections.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Final

from clusters.planning.performance.calibrated import model_key
from clusters.planning.performance.correction import (
    LEAST_FACTOR,
    LIVE_ERROR,
    MOST_FACTOR,
    Corrected,
    Correction,
    Factor,
)
from clusters.planning.performance.measured import NEAR_LENGTH, NEAR_LOAD
from clusters.planning.performance.model import Confidence, Number, PerformanceModel, Shape
from clusters.planning.performance.queueing import latencies
from clusters.planning.problem import LoadProfile

#: Runs that count as much as knowing nothing of a shape.
DOUBT: Final = 1.0

#: Runs at a like load that are looked at, the newest.
LAST_RUNS: Final = 3

#: A spread of ratios at which they count half.
DISAGREEMENT: Final = 0.2

SOURCE: Final = "measured here"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """What one replay measured: mean times of ``replicas`` replicas under ``load``, and requests in flight at each.

    Runs of one ``name`` are one measurement, at several loads perhaps.
    """

    name: str
    at: dt.datetime
    shape: Shape
    load: LoadProfile
    replicas: int
    batch_limit: int
    step_tokens: int
    in_flight: float
    requests: int
    hours: float
    ttft_ms: float
    itl_ms: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expected:
    """Mean times that a model predicts for a run; no first token where it says that queues would grow."""

    ttft_ms: float | None
    itl_ms: float


def expected_of(run: Run, model: PerformanceModel) -> Expected:
    """Predict a run: by its queue, or where that would grow by as many requests at once as there were."""
    found = latencies(
        model,
        run.shape,
        run.load,
        replicas=run.replicas,
        batch_limit=run.batch_limit,
        step_tokens=run.step_tokens,
    )
    if found.stable:
        return Expected(ttft_ms=found.ttft_mean_ms, itl_ms=found.itl_mean_ms)
    between = model.itl_ms(
        run.shape,
        concurrency=max(1.0, run.in_flight),
        input_tokens=float(run.load.input_tokens),
        output_tokens=float(run.load.output_tokens),
    )
    return Expected(ttft_ms=None, itl_ms=between)


class Qualified:
    """A performance model times what runs of a shape show; shapes without runs are the model's own."""

    def __init__(self, model: PerformanceModel, runs: Iterable[Run]) -> None:
        self.model = model
        self._runs: dict[tuple[object, ...], list[Run]] = collections.defaultdict(list)
        for run in runs:
            self._runs[_key(run.shape)].append(run)
        self._corrected: dict[tuple[object, ...], Corrected] = {}
        self._of: dict[Shape, Corrected | None] = {}

    def corrected(self, shape: Shape) -> Corrected | None:
        """Give the corrected model of a shape, and with it how that came about; None where no run was of it."""
        if shape not in self._of:
            key = _key(shape)
            if key in self._runs and key not in self._corrected:
                self._corrected[key] = Corrected(
                    model=self.model, correction=_correction(self._runs[key], self.model)
                )
            self._of[shape] = self._corrected.get(key)
        return self._of[shape]

    def step_ms(self, shape: Shape, *, decoding: Number, context: Number, prompt_tokens: Number) -> Number:
        """Milliseconds of one step; see :class:`PerformanceModel`."""
        model = self.corrected(shape) or self.model
        return model.step_ms(shape, decoding=decoding, context=context, prompt_tokens=prompt_tokens)

    def itl_ms(
        self, shape: Shape, *, concurrency: Number, input_tokens: Number, output_tokens: Number
    ) -> Number:
        """Mean milliseconds between tokens; see :class:`PerformanceModel`."""
        model = self.corrected(shape) or self.model
        return model.itl_ms(
            shape, concurrency=concurrency, input_tokens=input_tokens, output_tokens=output_tokens
        )

    def first_token_ms(self, shape: Shape, *, input_tokens: Number) -> Number:
        """Milliseconds to a first token at an idle replica; see :class:`PerformanceModel`."""
        model = self.corrected(shape) or self.model
        return model.first_token_ms(shape, input_tokens=input_tokens)

    def confidence(self, shape: Shape) -> Confidence:
        """The model's, narrowed by as much as the runs count."""
        corrected = self.corrected(shape)
        if corrected is None:
            return self.model.confidence(shape)
        before, correction = self.model.confidence(shape), corrected.correction
        return Confidence(
            source=SOURCE,
            itl_error=_narrowed(before.itl_error, correction.itl),
            ttft_error=_narrowed(before.ttft_error, correction.ttft),
        )


def _correction(runs: Sequence[Run], model: PerformanceModel) -> Correction:
    itl: list[_Ratio] = []
    ttft: list[_Ratio] = []
    for run in runs:
        expected = expected_of(run, model)
        itl.append(_Ratio(run, run.itl_ms, expected.itl_ms))
        if expected.ttft_ms is not None:
            ttft.append(_Ratio(run, run.ttft_ms, expected.ttft_ms))
    return Correction(itl=_factor(itl), ttft=_factor(ttft))


@dataclasses.dataclass(frozen=True)
class _Ratio:
    run: Run
    measured_ms: float
    predicted_ms: float

    @property
    def log(self) -> float:
        return math.log(self.measured_ms / self.predicted_ms)


def _factor(ratios: Sequence[_Ratio]) -> Factor:
    if not ratios:
        return Factor()
    loads: list[list[_Ratio]] = []
    for ratio in sorted(ratios, key=lambda each: each.run.at, reverse=True):
        alike = next((some for some in loads if _alike(some[0].run, ratio.run)), None)
        if alike is None:
            loads.append([ratio])
        elif len(alike) < LAST_RUNS:
            alike.append(ratio)
    kept = [ratio for some in loads for ratio in some]
    shares = [sum(each.run.requests for each in some) for some in loads]
    middles = [statistics.median(each.log for each in some) for some in loads]
    mean = sum(share * log for share, log in zip(shares, middles, strict=True)) / sum(shares)
    spread = statistics.pstdev([each.log for each in kept])
    runs = len({each.run.name for each in kept})
    weight = runs / (runs + DOUBT) / (1 + (spread / DISAGREEMENT) ** 2)
    value = math.exp(weight * mean)
    predicted = math.exp(
        sum(each.run.requests * math.log(each.predicted_ms) for each in kept)
        / sum(each.run.requests for each in kept)
    )
    return Factor(
        value=min(max(value, LEAST_FACTOR), MOST_FACTOR),
        weight=weight,
        measured_ms=predicted * math.exp(mean),
        predicted_ms=predicted,
        requests=sum(each.run.requests for each in kept),
        hours=sum(each.run.hours for each in kept),
        bounded=not LEAST_FACTOR <= value <= MOST_FACTOR,
    )


def _alike(one: Run, other: Run) -> bool:
    pairs = (
        (
            one.load.requests_per_second / one.replicas,
            other.load.requests_per_second / other.replicas,
            NEAR_LOAD,
        ),
        (one.load.input_tokens, other.load.input_tokens, NEAR_LENGTH),
        (one.load.output_tokens, other.load.output_tokens, NEAR_LENGTH),
    )
    return all(max(a, b) <= factor * min(a, b) for a, b, factor in pairs)


def _narrowed(error: float, by: Factor) -> float:
    return error if by.bounded else min(error, error + by.weight * (LIVE_ERROR - error))


def _key(shape: Shape) -> tuple[object, ...]:
    return (
        model_key(shape.architecture),
        shape.gpu.slice_of or shape.gpu.name,
        shape.precision,
        shape.tp,
        shape.pp,
    )
