"""Quantiles of values that count more than once, and counts of them in fine buckets that can be kept."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

#: Each bucket is that much wider than the one before; bucket 0 begins at one millisecond.
GROWTH: Final = 1.01
_LEAST_MS: Final = 0.001


def quantile(values: Iterable[tuple[float, float]], percent: float) -> float | None:
    """Give the smallest value that ``percent`` of the weight do not exceed, of pairs of value and weight."""
    ordered = sorted(values)
    left = sum(weight for _, weight in ordered) * percent / 100 * (1 - 1e-12)
    for value, weight in ordered:
        left -= weight
        if left <= 0:
            return value
    return ordered[-1][0] if ordered else None


def bucket(value_ms: float) -> int:
    """Give the bucket of a time."""
    return math.floor(math.log(max(value_ms, _LEAST_MS)) / math.log(GROWTH))


def counted(values_ms: Iterable[tuple[float, float]]) -> dict[int, float]:
    """Count weighted times by bucket."""
    counts: Counter[int] = Counter()
    for value, weight in values_ms:
        counts[bucket(value)] += weight  # type: ignore[assignment]
    return dict(sorted(counts.items()))


def bucket_quantile(counts: Sequence[float], first: int, percent: float) -> float | None:
    """Give a quantile of counts of consecutive buckets from ``first`` on, even within its bucket."""
    left = sum(counts) * percent / 100
    for offset, count in enumerate(counts):
        if count and left <= count:
            return GROWTH ** (first + offset + left / count)
        left -= count
    return None


def dense(counts: Iterable[Mapping[int, float]]) -> tuple[list[list[float]], int]:
    """Lay counts out over the buckets that any of them has; gives them and the first bucket."""
    kept = list(counts)
    buckets = [name for each in kept for name in each]
    if not buckets:
        return [[] for _ in kept], 0
    first, last = min(buckets), max(buckets)
    return [[each.get(name, 0.0) for name in range(first, last + 1)] for each in kept], first
