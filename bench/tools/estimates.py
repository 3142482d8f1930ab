"""How far off the performance model is on measured rows that took no part in its fit, beside a plain roofline.

Dense models are held out by GPU type, mixtures of experts by model: all rows of what is left out, in every engine
and precision. The error band that is checked comes from other groups alone, by fits that saw neither them nor
the group in question.
"""

from __future__ import annotations

import importlib.resources
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Final

from bench.tools.figures import Figures, quantile, share
from clusters.planning.performance.calibrated import kind_of, model_key
from clusters.planning.performance.calibration import band, fit, residuals
from clusters.planning.performance.measurements import Measurement, read_measurements
from clusters.planning.performance.roofline import Roofline

#: What the facts that this was built from publish: AIConfigurator 0.12.0 and a roofline with five fitted parameters
#: on 997 rows of dense models; neither saw rows of the GPU type in question (H100 / H200 / B200), and AIConfigurator's
#: first tokens over all of them.
PUBLISHED: Final[Figures] = {
    "published_dense_tpot_roofline_mean_percent": "13.2 / 14.7 / 7.6",
    "published_dense_tpot_aiconfigurator_mean_percent": "13.1 / 21.0 / 24.2",
    "published_dense_tpot_aiconfigurator_p90_percent": 41.0,
    "published_ttft_aiconfigurator_mean_percent": 47.0,
    "published_ttft_roofline_mean_percent": 55.0,
}

TIMES: Final = ("tpot", "ttft")

#: How much slower a run must have been at no higher a load to deny another.
CONTRADICTION: Final = 1.3


def measure() -> Figures:
    """Hold out every GPU type of dense models and every mixture of experts, and say how far off estimates are."""
    rows = shipped_rows()
    dense = [row for row in rows if kind_of(row.shape.architecture) == "dense"]
    return {
        "rows": len(rows),
        **_held_out("dense", dense, rows, lambda row: row.shape.gpu.name),
        **_held_out("mixture", [row for row in rows if row not in dense], rows, _model),
        **PUBLISHED,
    }


def contradicted(rows: Sequence[Measurement]) -> list[bool]:
    """Tell rows that another run of the same configuration denies.

    One of the two was 1.3 times as slow at no higher a load: versions with and without speculative decoding, caps
    on the batch, slips. Nothing that a case tells can say which of them is meant.
    """
    runs: dict[object, list[int]] = {}
    for index, row in enumerate(rows):
        shape = row.shape
        layout = (shape.gpu.name, shape.precision, shape.tp, shape.attention_parallel, shape.expert_parallel)
        runs.setdefault((_model(row), shape.engine, layout, row.input_tokens, row.output_tokens), []).append(
            index
        )
    denied = [False] * len(rows)
    for same in runs.values():
        for one, other in itertools.permutations(same, 2):
            slower = rows[one].itl_ms > CONTRADICTION * rows[other].itl_ms
            if slower and rows[one].concurrency <= rows[other].concurrency:
                denied[one] = denied[other] = True
    return denied


def shipped_rows() -> list[Measurement]:
    """Give the measured rows that the shipped calibration was fitted to."""
    data = importlib.resources.files("clusters.planning").joinpath("data/measured_serving.csv")
    return read_measurements(data.read_text("utf-8").splitlines())


def _model(row: Measurement) -> str:
    return model_key(row.shape.architecture)


def _held_out(
    kind: str,
    judged: Sequence[Measurement],
    rows: Sequence[Measurement],
    group_of: Callable[[Measurement], str],
) -> Figures:
    """Fit without each group and predict it; check bands with what each pair of groups is off by."""
    groups = sorted({group_of(row) for row in judged})
    inside = {group: [row for row in judged if group_of(row) == group] for group in groups}
    off: dict[str, Sequence[Sequence[float]]] = {}
    without: dict[tuple[str, str], Sequence[Sequence[float]]] = {}
    for left_out in [(group,) for group in groups] + list(itertools.combinations(groups, 2)):
        model = fit([row for row in rows if group_of(row) not in left_out], kinds=(kind,))
        if len(left_out) == 1:
            off[left_out[0]] = residuals(model, inside[left_out[0]])
        else:
            one, other = left_out
            without[one, other] = residuals(model, inside[other])
            without[other, one] = residuals(model, inside[one])

    denied = contradicted(judged)
    undenied = [index for index, no in enumerate(denied) if not no]
    figures: Figures = {f"{kind}_rows": len(judged), f"{kind}_contradicted_rows": sum(denied)}
    roofline = [_roofline(row) for row in judged]
    for which, time in enumerate(TIMES):
        errors = {group: [abs(math.expm1(-one)) for one in off[group][which]] for group in groups}
        left = {group: iter(errors[group]) for group in groups}
        calibrated = [next(left[group_of(row)]) for row in judged]
        plain = [one[which] for one in roofline]
        figures |= _summary(f"{kind}_{time}_calibrated", calibrated)
        figures |= _summary(f"{kind}_{time}_roofline", plain)
        for name, some in (("calibrated", calibrated), ("roofline", plain)):
            figures[f"{kind}_{time}_{name}_uncontradicted_mean_percent"] = _mean(
                [some[index] for index in undenied]
            )
        for group in groups:
            figures[f"{kind}_{time}_calibrated_{_label(inside[group], group)}_mean_percent"] = _mean(
                errors[group]
            )
        covered, widths = 0, []
        for group in groups:
            others = [
                (abs(one), other)
                for other in groups
                if other != group
                for one in without[group, other][which]
            ]
            width = band([one for one, _ in others], [other for _, other in others])
            widths.append(math.expm1(width))
            covered += sum(abs(one) <= width for one in off[group][which])
        figures[f"{kind}_{time}_in_90_percent_band_percent"] = 100 * share(covered, len(judged))
        figures[f"{kind}_{time}_band_percent"] = 100 * sum(widths) / len(widths)
    return figures


def _label(rows: Sequence[Measurement], group: str) -> str:
    """Name a group of rows: a GPU type as it is, a model by the name that most of its rows have."""
    if rows[0].shape.gpu.name == group:
        return group
    names = [row.model.rpartition("/")[2] for row in rows]
    return max(sorted(set(names)), key=names.count)


def _roofline(row: Measurement) -> tuple[float, float]:
    plain = Roofline()
    between = plain.itl_ms(
        row.shape,
        concurrency=row.concurrency,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
    )
    first = plain.first_token_ms(row.shape, input_tokens=row.input_tokens)
    return abs(between / row.itl_ms - 1), abs(first / row.ttft_ms - 1)


def _summary(name: str, errors: Sequence[float]) -> Figures:
    return {
        f"{name}_mean_percent": _mean(errors),
        f"{name}_median_percent": 100 * quantile(errors, 0.5),
        f"{name}_p90_percent": 100 * quantile(errors, 0.9),
    }


def _mean(errors: Sequence[float]) -> float:
    return 100 * sum(errors) / len(errors)
