"""The table of measured rows: what was measured is answered from it, before anything is calculated.

Between measured loads the row is interpolated as a correction of the calibrated formula, so that it bends between
two points as the formula does.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import importlib.resources
import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from clusters.planning.performance.calibrated import Replica, levels_of, model_key
from clusters.planning.performance.measurements import Measurement, read_measurements
from clusters.planning.performance.model import Shape

#: How far, as a factor, lengths and loads may lie from measured ones and still stand for them.
NEAR_LENGTH: Final = 1.1
NEAR_LOAD: Final = 1.25

#: Rows of a shape that count as much as knowing nothing of it, when its own correction is taken from them.
DOUBT: Final = 2.0

#: Least errors that are stated: repeated runs of one configuration differ by so much, and between loads more.
REPEAT_ERROR: Final = 0.05
BETWEEN_ERROR: Final = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """Measured times at a load, interpolated, and how wrong they may be, as fractions."""

    ttft_ms: float
    itl_ms: float
    itl_error: float
    ttft_error: float


class MeasuredTable:
    """Measured rows by shape."""

    def __init__(self, rows: Sequence[Measurement]) -> None:
        self._rows: dict[tuple[object, ...], list[Measurement]] = collections.defaultdict(list)
        for row in rows:
            self._rows[_key(row.shape)].append(row)

    def rows_of(self, shape: Shape) -> Sequence[Measurement]:
        """Give the rows of exactly this model, engine, precision and layout on this GPU type."""
        return self._rows.get(_key(shape), ())

    def correction(self, shape: Shape, replica: Replica) -> tuple[float, float]:
        """Give the factors that measurements of a shape differ from its formula by: between tokens, and first.

        Both are the medians over its rows, drawn towards 1 where there are few.
        """
        rows = self.rows_of(shape)
        if not rows:
            return 1.0, 1.0
        off = np.array([_off(row, replica) for row in rows])
        itl, ttft = np.median(off, axis=0) * len(rows) / (len(rows) + DOUBT)
        return math.exp(itl), math.exp(ttft)

    def look_up(
        self, shape: Shape, replica: Replica, *, concurrency: float, input_tokens: float, output_tokens: float
    ) -> Found | None:
        """Give what was measured at these lengths, interpolated over the load; None where nothing was near."""
        near = [
            row
            for row in self.rows_of(shape)
            if _within(row.input_tokens, input_tokens, NEAR_LENGTH)
            and _within(row.output_tokens, output_tokens, NEAR_LENGTH)
        ]
        loads = sorted({row.concurrency for row in near})
        if not loads or not loads[0] / NEAR_LOAD <= concurrency <= loads[-1] * NEAR_LOAD:
            return None
        at = {
            load: np.array([_off(row, replica) for row in near if row.concurrency == load]) for load in loads
        }
        middles = np.array([np.median(at[load], axis=0) for load in loads])
        apart = np.array(
            [np.abs(at[load] - middle).max(axis=0) for load, middle in zip(loads, middles, strict=True)]
        )
        where, marks = math.log(concurrency), np.log(loads)
        itl, ttft = (float(np.interp(where, marks, middles[:, which])) for which in (0, 1))
        itl_spread, ttft_spread = (float(np.interp(where, marks, apart[:, which])) for which in (0, 1))
        least = REPEAT_ERROR if concurrency in at else BETWEEN_ERROR
        first, between = replica.closed_loop_ms(
            concurrency=concurrency, input_tokens=input_tokens, output_tokens=output_tokens
        )
        return Found(
            ttft_ms=first * math.exp(ttft),
            itl_ms=between * math.exp(itl),
            itl_error=max(least, math.expm1(itl_spread)),
            ttft_error=max(2 * least, math.expm1(ttft_spread)),
        )


@functools.cache
def shipped_table() -> MeasuredTable:
    """Give the rows in the data folder."""
    path = importlib.resources.files("clusters.planning").joinpath("data/measured_serving.csv")
    return MeasuredTable(read_measurements(path.read_text("utf-8").splitlines()))


def _key(shape: Shape) -> tuple[object, ...]:
    levels = levels_of(shape)
    return (
        model_key(shape.architecture),
        levels["engine_gpu"],
        shape.gpu.slice_of,
        levels["precision"],
        shape.tp,
        shape.pp,
        shape.attention_parallel,
        shape.expert_parallel,
    )


def _off(row: Measurement, replica: Replica) -> tuple[float, float]:
    first, between = replica.closed_loop_ms(
        concurrency=row.concurrency, input_tokens=row.input_tokens, output_tokens=row.output_tokens
    )
    return math.log(row.itl_ms / between), math.log(row.ttft_ms / first)


def _within(one: float, other: float, factor: float) -> bool:
    return max(one, other) <= factor * min(one, other)
