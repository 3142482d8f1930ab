"""Fits the constants of the formula to measured rows: a regularised, robust least squares in logarithms.

Every constant starts from a value that the hardware suggests and pays for leaving it, by a standard deviation of
its logarithm; what an engine, a precision, a GPU type or a kind of model differs by is a second, smaller
logarithm that starts from none. So parameters keep a physical meaning and stay in physical bounds, and what was
not measured falls back to the pooled values (partial pooling, Gelman and Hill, 2007). Rows of one model, GPU type,
engine, version and precision share an offset of their own, so that constants are drawn from how times change
within such a series more than from its level, which also hides what a row does not tell (speculative decoding, a
version's defects). Residuals follow Student's t distribution with 3 degrees of freedom (Lange et al., 1989), the
Gauss-Newton steps are damped (Levenberg, Marquardt).
"""

from __future__ import annotations

import collections
import dataclasses
import math
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from clusters.planning.performance.calibrated import (
    Bands,
    Calibrated,
    Calibration,
    kind_of,
    model_key,
    offset_path,
)
from clusters.planning.performance.fitting import SERIES_SIGMAS, Floats, fit_constants, series_of
from clusters.planning.performance.measurements import Measurement

#: What :func:`kind_of` tells apart.
KINDS: Final = ("dense", "mixture")

#: Series that weigh as much as the level above when offsets are pooled, if they agree; more if they do not.
POOLING: Final = 3.0

#: Rows below which no constants are fitted.
FEWEST_ROWS: Final = 20

#: The quantile of what held-out rows are off by that error bands are.
BAND_QUANTILE: Final = 0.95

#: The logarithm that bands have where there is nothing to hold out: twice or half the time.
UNTESTED: Final = math.log(2)

#: Parts that layouts are dealt to, to be held out one after the other.
KNOWN_PARTS: Final = 5


def fit(rows: Sequence[Measurement], *, kinds: Collection[str] = KINDS) -> Calibration:
    """Fit constants and offsets to ``rows``, for ``kinds`` of models alone; error bands are left at infinity.

    Dense models are fitted by themselves, mixtures of experts on all rows, as they share all the parts of a dense
    one.

    Raises:
        ValueError: there are too few rows.
    """
    if len(rows) < FEWEST_ROWS:
        raise ValueError(f"{len(rows)} rows are too few to calibrate on; {FEWEST_ROWS} are needed")
    constants = {}
    for kind in kinds:
        own = [row for row in rows if kind == "mixture" or kind_of(row.shape.architecture) == kind]
        constants[kind] = fit_constants(own if len(own) >= FEWEST_ROWS else rows, kind)
    bare = Calibration(
        rows=len(rows),
        ranges=_ranges(rows),
        constants=constants,
        itl_offsets={},
        ttft_offsets={},
        itl_bands=_NO_BANDS,
        ttft_bands=_NO_BANDS,
    )
    rows = [row for row in rows if kind_of(row.shape.architecture) in kinds]
    itl, ttft = residuals(bare, rows)
    common = _common_offsets(rows, itl)
    shared = np.array([common[kind_of(row.shape.architecture)] for row in rows])
    return msgspec.structs.replace(
        bare,
        itl_offsets=common | _pooled_offsets(rows, itl - shared, sigma=SERIES_SIGMAS[0]),
        ttft_offsets=_pooled_offsets(rows, ttft, sigma=SERIES_SIGMAS[1]),
    )


def calibrate(rows: Sequence[Measurement]) -> Calibration:
    """Fit constants and offsets to ``rows``, with error bands from fits that some of the rows were held out of.

    Raises:
        ValueError: there are too few rows.
    """
    held_out = cross_validate(rows)
    return msgspec.structs.replace(fit(rows), itl_bands=_bands(held_out, 0), ttft_bands=_bands(held_out, 1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOut:
    """What a row that took no part in a fit is off by: logarithms of measured over predicted time.

    ``case`` is what was held out, as in :class:`Bands`; ``group`` is the GPU type, model or layout it was.
    """

    row: Measurement
    case: str
    group: str
    itl: float
    ttft: float


def cross_validate(rows: Sequence[Measurement]) -> list[HeldOut]:
    """Predict every row by fits without its GPU type, without its model, and without its layout."""
    found: list[HeldOut] = []
    for case, group_of in _GROUPS.items():
        for group in sorted({group_of(row) for row in rows}):
            inside = [row for row in rows if group_of(row) == group]
            rest = [row for row in rows if group_of(row) != group]
            if len(rest) < FEWEST_ROWS:
                continue
            kinds = {kind_of(row.shape.architecture) for row in inside}
            itl, ttft = residuals(fit(rest, kinds=kinds), inside)
            found += [
                HeldOut(row=row, case=case, group=group, itl=float(one), ttft=float(other))
                for row, one, other in zip(inside, itl, ttft, strict=True)
            ]
    return found


def residuals(calibration: Calibration, rows: Sequence[Measurement]) -> tuple[Floats, Floats]:
    """Give the logarithms of measured over predicted times: between tokens, and to the first."""
    model = Calibrated(calibration)
    itl, ttft = np.empty(len(rows)), np.empty(len(rows))
    for index, row in enumerate(rows):
        first, between = model.on(row.shape).closed_loop_ms(
            concurrency=row.concurrency, input_tokens=row.input_tokens, output_tokens=row.output_tokens
        )
        itl[index], ttft[index] = math.log(row.itl_ms / between), math.log(row.ttft_ms / first)
    return itl, ttft


def _layout(row: Measurement) -> str:
    """One of a few parts that whole layouts of a series are dealt to."""
    shape = row.shape
    text = f"{shape.tp}/{shape.attention_parallel}/{shape.expert_parallel}/{series_of(row)}"
    return str(zlib.crc32(text.encode()) % KNOWN_PARTS)


_GROUPS: Final[Mapping[str, Callable[[Measurement], str]]] = {
    "new_gpu": lambda row: row.shape.gpu.name,
    "new_model": lambda row: model_key(row.shape.architecture),
    "known": _layout,
}

_NO_BANDS: Final = {
    kind: Bands(known=math.inf, new_gpu=math.inf, new_model=math.inf, new_both=math.inf) for kind in KINDS
}


def band(off: Sequence[float], groups: Sequence[str]) -> float:
    """Give the logarithm that 9 of 10 of ``off`` lie within, every group counting the same.

    The next group is unlike those few, so that a higher quantile than 0.9 is taken.
    """
    sizes = collections.Counter(groups)
    weights = np.array([1 / sizes[group] for group in groups])
    size = np.abs(off)
    order = np.argsort(size)
    share = np.cumsum(weights[order]) / weights.sum()
    return float(size[order][min(len(order) - 1, int(np.searchsorted(share, BAND_QUANTILE)))])


def _bands(held_out: Sequence[HeldOut], which: int) -> dict[str, Bands]:
    """Give the fractions for each kind of models; a case that is new in two ways has both errors."""
    bands = {}
    for kind in KINDS:
        logs = {}
        for case in _GROUPS:
            some = [
                one for one in held_out if one.case == case and kind_of(one.row.shape.architecture) == kind
            ]
            some = some or [one for one in held_out if one.case == case]
            off, groups = [(one.itl, one.ttft)[which] for one in some], [one.group for one in some]
            logs[case] = band(off, groups) if some else UNTESTED
        known = min(logs.values())
        logs |= {"known": known, "new_both": math.hypot(logs["new_gpu"], logs["new_model"])}
        bands[kind] = Bands(**{case: round(math.expm1(off), 3) for case, off in logs.items()})
    return bands


def _common_offsets(rows: Sequence[Measurement], off: Floats) -> dict[str, float]:
    """Give what each kind of models differs by so that the relative error over all rows is least.

    Strange series count here: a next model may be run as they were. The sum of |factor x predicted / measured - 1|
    is least at the median of measured / predicted, weighted by predicted / measured.
    """
    sizes = collections.Counter(map(series_of, rows))
    offsets = {}
    for kind in {kind_of(row.shape.architecture) for row in rows}:
        own = [index for index, row in enumerate(rows) if kind_of(row.shape.architecture) == kind]
        weights = np.array([sizes[series_of(rows[index])] ** -0.5 for index in own]) * np.exp(-off[own])
        order = np.argsort(off[own])
        share = np.cumsum(weights[order]) / weights.sum()
        offsets[kind] = round(float(off[own][order][int(np.searchsorted(share, 0.5))]), 4)
    return offsets


def _pooled_offsets(rows: Sequence[Measurement], off: Floats, *, sigma: float) -> dict[str, float]:
    """Give what each model differs by, then each engine, precision and GPU type within it.

    A level's median over its series is drawn towards none, the more the fewer they are and the less they agree.
    """
    series: dict[tuple[str, ...], list[int]] = collections.defaultdict(list)
    for index, row in enumerate(rows):
        series[series_of(row)].append(index)
    paths = {key: offset_path(rows[members[0]].shape) for key, members in series.items()}
    left = {key: float(np.median(off[members])) for key, members in series.items()}
    offsets: dict[str, float] = {}
    for depth in range(1, len(next(iter(paths.values())))):
        groups: dict[str, list[tuple[str, ...]]] = collections.defaultdict(list)
        for key, path in paths.items():
            groups[path[depth]].append(key)
        for name, keys in groups.items():
            values = [left[key] for key in keys]
            against = POOLING * (1 + (float(np.std(values)) / sigma) ** 2)
            offset = float(np.median(values)) * len(keys) / (len(keys) + against)
            offsets[name] = round(offset, 4)
            for key in keys:
                left[key] -= offset
    return offsets


def _ranges(rows: Sequence[Measurement]) -> dict[str, tuple[float, float]]:
    seen = {
        "bandwidth_gbs": [row.shape.gpu.bandwidth_gbs for row in rows],
        "intra_node_gbs": [row.shape.gpu.intra_node_gbs for row in rows],
        "concurrency": [row.concurrency for row in rows],
        "input_tokens": [row.input_tokens for row in rows],
        "output_tokens": [row.output_tokens for row in rows],
    }
    return {name: (min(values), max(values)) for name, values in seen.items()}
