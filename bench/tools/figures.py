"""Numbers for the tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

Figures = dict[str, float | int | str]


def quantile(values: Sequence[float], part: float) -> float:
    """Give the smallest of ``values`` that at least ``part`` of them do not exceed; NaN without values."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


def quantiles(
    name: str, values: Sequence[float], unit: str, *, percents: Sequence[int] = (50, 95)
) -> Figures:
    """Give ``NAME_p50_UNIT`` and so on."""
    return {f"{name}_p{percent}_{unit}": quantile(values, percent / 100) for percent in percents}


def share(part: float, whole: float) -> float:
    """Give ``part / whole``, NaN of nothing."""
    return part / whole if whole else float("nan")
