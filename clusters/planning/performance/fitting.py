"""Fits the constants of the formula to rows: damped Gauss-Newton steps on a regularised, robust sum of squares."""

from __future__ import annotations

import collections
import dataclasses
import math
import types
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clusters.planning.performance.calibrated import LENGTH_SHARE, Fitted, kind_of, levels_of, model_key
from clusters.planning.performance.formula import Constants, closed_loop_s, waiting
from clusters.planning.performance.measurements import Measurement
from clusters.planning.performance.memory import requests_held
from clusters.planning.performance.work import Work, work_of

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prior:
    """Where a constant starts, how freely its logarithm moves, where it must stay, and what it may differ by.

    ``by`` gives standard deviations by dimension, ``means`` known differences by dimension and level.
    """

    value: float
    sigma: float
    low: float
    high: float
    by: Mapping[str, float] = dataclasses.field(default_factory=dict)
    means: Mapping[tuple[str, str], float] = dataclasses.field(default_factory=dict)


#: Data sheets are reached to about nine tenths by memory and seven by bf16 matrix multiplication, less by 8 bits
#: (power) and 4; a captured launch takes some microseconds, an eager one some tens, an all-reduce's latency about five.
PRIORS: Final[Mapping[str, Prior]] = {
    "stream": Prior(
        value=0.88, sigma=0.1, low=0.3, high=0.95, by={"precision": 0.08, "gpu": 0.05, "kind": 0.03}
    ),
    "expert_stream": Prior(
        value=0.75,
        sigma=0.3,
        low=0.15,
        high=0.95,
        by={"engine": 0.1, "precision": 0.1, "gpu": 0.05, "units": 0.15},
        means={("precision", "int4"): -0.2},
    ),
    "cache": Prior(value=0.8, sigma=0.3, low=0.1, high=0.95, by={"engine": 0.1, "gpu": 0.05}),
    "compute": Prior(
        value=0.6,
        sigma=0.5,
        low=0.1,
        high=0.9,
        by={"precision": 0.1, "engine": 0.07, "gpu": 0.07},
        means={("precision", "bf16"): 0.2, ("precision", "nvfp4"): -0.1, ("precision", "int4"): -0.1},
    ),
    "expert_compute": Prior(
        value=0.35,
        sigma=0.5,
        low=0.05,
        high=0.9,
        by={"precision": 0.15, "engine": 0.15, "gpu": 0.07, "units": 0.2},
        means={("precision", "bf16"): 0.2},
    ),
    "attention": Prior(value=0.4, sigma=0.3, low=0.05, high=0.9),
    "launch": Prior(
        value=5e-6,
        sigma=1.0,
        low=5e-7,
        high=3e-5,
        by={"engine": 0.15, "precision": 0.15, "gpu": 0.07, "units": 0.15, "kind": 0.15},
    ),
    "hop": Prior(value=5e-6, sigma=0.4, low=1e-6, high=4e-5, by={"engine": 0.2}),
    "ring": Prior(value=0.5, sigma=0.4, low=0.05, high=0.95, by={"engine": 0.2}),
    "direct": Prior(value=0.6, sigma=0.5, low=0.05, high=1.0, by={"engine": 0.2}),
    "request": Prior(value=1e-5, sigma=0.7, low=1e-7, high=3e-4, by={"engine": 0.4}),
    "eager": Prior(value=3e-5, sigma=0.7, low=1e-6, high=3e-4, by={"engine": 0.5}),
    "imbalance": Prior(value=0.1, sigma=0.7, low=0.001, high=2.0),
    "variety": Prior(value=0.85, sigma=0.15, low=0.5, high=1.0),
    "stall": Prior(value=0.5, sigma=0.5, low=0.05, high=1.0),
    "first": Prior(value=0.02, sigma=0.7, low=0.001, high=1.0, by={"engine": 0.6}),
    "wait": Prior(value=0.8, sigma=0.4, low=0.1, high=3.0, by={"engine": 0.3}),
    "burst": Prior(value=0.1, sigma=0.4, low=0.01, high=1.0, by={"engine": 0.3}),
    "scale": Prior(value=1.0, sigma=0.001, low=0.5, high=2.0, by={"engine_gpu": 0.05}),
}

#: Standard deviations of the logarithms: of a row's time between tokens and to the first, and of a series' offset.
ROW_SIGMAS: Final = (0.08, 0.22)
SERIES_SIGMAS: Final = (0.1, 0.3)
FREEDOM: Final = 3.0

STEPS: Final = 16
DAMPINGS: Final = 6
LONGEST_STEP: Final = 0.7
NUDGE: Final = 1e-4

#: A series whose median is further off than this after a first fit measured something else than the rest, for
#: instance speculative decoding; it is left out of the second fit and only counted in offsets and error bands.
STRANGE: Final = 0.3


def fit_constants(rows: Sequence[Measurement], kind: str) -> dict[str, Fitted]:
    """Fit all rows, leave out the series that turn out strange, and fit the rest."""
    problem = _Problem(rows)
    vector = problem.solve(problem.start)
    kept = problem.without_strange(vector)
    if len(kept) < len(rows):
        first, problem = problem, _Problem(kept)
        vector = problem.solve(problem.start_at(first, vector))
    return problem.parameters.fitted(vector, kind)


def series_of(row: Measurement) -> tuple[str, ...]:
    levels = levels_of(row.shape)
    return row.model.lower(), levels["engine_gpu"], row.version, levels["precision"]


class _Parameters:
    """Where each constant and each of its differences stands in the vector that is fitted."""

    def __init__(self, levels: Mapping[str, Sequence[str]]) -> None:
        self.places: dict[tuple[str, ...], int] = {}
        start: list[float] = []
        sigmas: list[float] = []
        for name, prior in PRIORS.items():
            self.places[(name,)] = len(start)
            start.append(math.log(prior.value))
            sigmas.append(prior.sigma)
            for dimension, sigma in prior.by.items():
                known = {level for where, level in prior.means if where == dimension}
                for level in sorted({*levels[dimension], *known}):
                    self.places[(name, dimension, level)] = len(start)
                    start.append(prior.means.get((dimension, level), 0.0))
                    sigmas.append(sigma)
        self.start, self.sigmas = np.array(start), np.array(sigmas)

    def gather(self, rows_levels: Sequence[Mapping[str, str]]) -> dict[str, NDArray[np.int64]]:
        """Give, for each constant, the places that add up to each row's logarithm."""
        return {
            name: np.array(
                [
                    [self.places[(name,)]] * len(rows_levels),
                    *([self.places[(name, where, one[where])] for one in rows_levels] for where in prior.by),
                ]
            )
            for name, prior in PRIORS.items()
        }

    def fitted(self, vector: Floats, kind: str) -> dict[str, Fitted]:
        """Give the constants of one kind of model."""
        found = {}
        for name, prior in PRIORS.items():
            value = vector[self.places[(name,)]]
            by: dict[str, dict[str, float]] = {where: {} for where in prior.by if where != "kind"}
            for place, index in self.places.items():
                if place[0] != name or len(place) == 1:
                    continue
                if place[1] == "kind":
                    value += vector[index] if place[2] == kind else 0.0
                else:
                    by[place[1]][place[2]] = round(float(vector[index]), 4)
            found[name] = Fitted(value=float(f"{math.exp(value):.4g}"), low=prior.low, high=prior.high, by=by)
        return found


class _Problem:
    """The residuals of some rows, and the vector that makes them small."""

    def __init__(self, rows: Sequence[Measurement]) -> None:
        self.rows = rows
        levels = [{**levels_of(row.shape), "kind": kind_of(row.shape.architecture)} for row in rows]
        self.parameters = _Parameters({where: sorted({one[where] for one in levels}) for where in levels[0]})
        self.places = self.parameters.gather(levels)
        works = [work_of(row.shape) for row in rows]
        fields = {
            field.name: [getattr(work, field.name) for work in works] for field in dataclasses.fields(Work)
        }
        self.work = types.SimpleNamespace(**{name: np.array(values) for name, values in fields.items()})
        self.concurrency = np.array([row.concurrency for row in rows])
        self.inputs = np.array([row.input_tokens for row in rows])
        self.outputs = np.array([row.output_tokens for row in rows])
        self.running = np.minimum(self.concurrency, [_held(row) for row in rows])
        self.measured = np.log([[row.itl_ms / 1000 for row in rows], [row.ttft_ms / 1000 for row in rows]])
        keys = sorted({series_of(row) for row in rows})
        self.series = np.array([keys.index(series_of(row)) for row in rows])
        self.count = len(keys)
        sizes = collections.Counter(
            (model_key(row.shape.architecture), levels_of(row.shape)["engine_gpu"]) for row in rows
        )
        weights = np.array(
            [
                sizes[model_key(row.shape.architecture), levels_of(row.shape)["engine_gpu"]] ** -0.5
                for row in rows
            ]
        )
        self.weights: Floats = weights / weights.mean()
        self.start = np.concatenate([self.parameters.start, np.zeros(2 * self.count)])
        self.sigmas = np.concatenate(
            [self.parameters.sigmas, *(np.full(self.count, sigma) for sigma in SERIES_SIGMAS)]
        )

    def without_strange(self, vector: Floats) -> list[Measurement]:
        """Give the rows of series whose median time between tokens is near what was fitted."""
        off = self.measured[0] - self._predicted(vector)[0]
        strange = {
            index for index in range(self.count) if abs(np.median(off[self.series == index])) > STRANGE
        }
        return [row for row, index in zip(self.rows, self.series, strict=True) if index not in strange]

    def start_at(self, other: _Problem, vector: Floats) -> Floats:
        """Give a start from what another problem came to, without its series."""
        start: Floats = self.start.copy()
        for place, index in self.parameters.places.items():
            start[index] = vector[other.parameters.places[place]]
        return start

    def solve(self, start: Floats) -> Floats:
        """Give the vector of least cost that damped steps from ``start`` reach."""
        damping = 0.01
        vector: Floats = start.copy()
        cost = self._cost(vector)
        for _ in range(STEPS):
            curvature, slope = self._expansion(vector)
            for _ in range(DAMPINGS):
                damped = curvature + damping * np.diag(np.diag(curvature))
                step = np.clip(np.linalg.solve(damped, -slope), -LONGEST_STEP, LONGEST_STEP)
                reached = self._cost(vector + step)
                if reached < cost:
                    break
                damping *= 5
            else:
                return vector
            gain, cost, vector = cost - reached, reached, vector + step
            damping = max(damping / 5, 1e-4)
            if gain < 1e-4 * cost:
                break
        return vector

    def _predicted(self, vector: Floats) -> Floats:
        values = {}
        for name, prior in PRIORS.items():
            differs = vector[self.places[name]].sum(axis=0)
            values[name] = np.clip(np.exp(differs), prior.low, prior.high)
        first, between = closed_loop_s(
            self.work,
            Constants(**values),
            running=self.running,
            input_tokens=self.inputs,
            output_tokens=self.outputs,
        )
        first = first + waiting(
            first,
            between,
            concurrency=self.concurrency,
            running=self.running,
            output_tokens=self.outputs,
        )
        logs: Floats = np.log(np.array([between, first]))
        return logs

    def _residuals(self, vector: Floats) -> Floats:
        offsets = vector[len(self.parameters.start) :].reshape(2, self.count)
        off: Floats = self.measured - self._predicted(vector) - offsets[:, self.series]
        return off

    def _cost(self, vector: Floats) -> float:
        scaled = self._residuals(vector) / np.array(ROW_SIGMAS)[:, None]
        spread = (FREEDOM + 1) * np.log1p(scaled**2 / FREEDOM)
        return float((self.weights * spread).sum() + (((vector - self.start) / self.sigmas) ** 2).sum())

    def _expansion(self, vector: Floats) -> tuple[Floats, Floats]:
        """Give the curvature and the slope of half the cost, with slopes of the formula taken numerically."""
        off, size = self._residuals(vector), len(self.parameters.start)
        slopes = np.zeros((2, len(self.rows), len(vector)))
        predicted = self._predicted(vector)
        for place in range(size):
            nudged = vector.copy()
            nudged[place] += NUDGE
            slopes[:, :, place] = (predicted - self._predicted(nudged)) / NUDGE
        curvature, slope = np.diag(self.sigmas**-2.0), (vector - self.start) / self.sigmas**2
        every = np.arange(len(self.rows))
        for which, sigma in enumerate(ROW_SIGMAS):
            slopes[which, every, size + which * self.count + self.series] = -1.0
            weights = self.weights * (FREEDOM + 1) / (FREEDOM + (off[which] / sigma) ** 2) / sigma**2
            weighted = slopes[which] * weights[:, None]
            curvature = curvature + weighted.T @ slopes[which]
            slope = slope + weighted.T @ off[which]
        return curvature, slope


def _held(row: Measurement) -> float:
    return requests_held(
        row.shape,
        input_tokens=LENGTH_SHARE * row.input_tokens,
        output_tokens=LENGTH_SHARE * row.output_tokens,
    )
