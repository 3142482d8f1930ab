"""Measured rows: how they are read.

The columns are those of ``data/measured_serving.csv``: engine, engine_version, model, gpu, precision, tp, pp,
attention_dp, moe_ep, isl, osl, concurrency, ttft_ms, tpot_ms; an empty parallel degree is 1 and further columns
are ignored.
"""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Final

from clusters.planning.gpus import gpu_catalog
from clusters.planning.known_models import known_model
from clusters.planning.performance.calibrated import model_key
from clusters.planning.performance.model import Shape
from clusters.planning.problem import Precision

#: What rows leave open: the precision that the checkpoint has.
UNLABELLED: Final = ("", "unlabelled")


class MeasurementError(ValueError):
    """A row that cannot be used; the message names the line and what is wrong."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """One run of a benchmark: the mean times at one load."""

    model: str
    version: str
    shape: Shape
    input_tokens: float
    output_tokens: float
    concurrency: float
    ttft_ms: float
    itl_ms: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """How a replica's GPUs share the work, and how many requests it has in flight."""

    tp: int
    attention_dp: int
    moe_ep: int
    concurrency: float


def layout_of(*, tp: int, attention_dp: int, moe_ep: int, concurrency: float, gpus_per_node: int) -> Layout:
    """Read a layout, undoing a slip of published tables that would make it larger than a node.

    Where ranks are shared by tensor (or attention-data) and expert parallelism, some tables give their product
    instead of one of them: 64 x 8 for 8 GPUs with 8-way experts, and then count the load for each attention group.
    The same runs also appear in their plain form with equal times, which is how the slip is known.
    """
    written = Layout(tp=tp, attention_dp=attention_dp, moe_ep=moe_ep, concurrency=concurrency)
    if tp * attention_dp <= gpus_per_node:
        return written
    if moe_ep > 1 and attention_dp == 1 and tp == moe_ep**2:
        return dataclasses.replace(written, tp=moe_ep)
    if tp > 1 and attention_dp == tp and moe_ep == tp**2:
        return Layout(tp=tp, attention_dp=1, moe_ep=tp, concurrency=concurrency * tp)
    if tp == 1 and moe_ep > 1 and attention_dp == moe_ep**2:
        return Layout(tp=1, attention_dp=moe_ep, moe_ep=moe_ep, concurrency=concurrency * moe_ep)
    return written


def read_measurements(lines: Iterable[str]) -> list[Measurement]:
    """Read rows of a CSV, without those that say the same twice.

    Raises:
        MeasurementError: a column is missing or a value is none.
    """
    found: dict[tuple[object, ...], Measurement] = {}
    for number, row in enumerate(csv.DictReader(lines), start=2):
        try:
            one = _measurement(row)
        except (KeyError, TypeError, ValueError) as error:
            wrong = f"column {error} is missing" if isinstance(error, KeyError) else str(error)
            raise MeasurementError(f"line {number}: {wrong}") from error
        key = (
            model_key(one.shape.architecture),
            one.shape.gpu.name,
            one.shape.precision,
            one.shape.tp,
            one.shape.pp,
            one.shape.expert_parallel,
            one.shape.attention_parallel,
            one.shape.engine,
            one.input_tokens,
            one.output_tokens,
            one.concurrency,
            round(one.ttft_ms),
            round(one.itl_ms, 2),
        )
        if key not in found or not found[key].version:
            found[key] = one
    return list(found.values())


def _measurement(row: Mapping[str, str]) -> Measurement:
    gpu = gpu_catalog().get(row["gpu"])
    if gpu is None:
        raise ValueError(f"unknown GPU type {row['gpu']!r}; add it to data/gpu_specs.json")
    model = known_model(row["model"])
    if model is None:
        raise ValueError(f"unknown model {row['model']!r}; add its numbers to data/models.json")
    precision = row["precision"]
    layout = layout_of(
        tp=int(row["tp"] or 1),
        attention_dp=int(row["attention_dp"] or 1),
        moe_ep=int(row["moe_ep"] or 1),
        concurrency=_positive(row, "concurrency"),
        gpus_per_node=gpu.gpus_per_node,
    )
    return Measurement(
        model=row["model"],
        version=row["engine_version"],
        shape=Shape(
            architecture=model.architecture,
            gpu=gpu,
            precision=model.precision if precision in UNLABELLED else Precision(precision),
            tp=layout.tp,
            pp=int(row["pp"] or 1),
            expert_parallel=layout.moe_ep,
            attention_parallel=layout.attention_dp,
            engine=row["engine"],
        ),
        input_tokens=_positive(row, "isl"),
        output_tokens=_positive(row, "osl"),
        concurrency=layout.concurrency,
        ttft_ms=_positive(row, "ttft_ms"),
        itl_ms=_positive(row, "tpot_ms"),
    )


def _positive(row: Mapping[str, str], name: str) -> float:
    value = float(row[name])
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be above 0, not {row[name]}")
    return value
