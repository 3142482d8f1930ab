"""The samples of an engine's Prometheus text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

_LINE: Final = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?$", re.ASCII)
_LABEL: Final = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"', re.ASCII)


class Sample(NamedTuple):
    name: str
    labels: dict[str, str]
    value: float


def samples(text: str) -> Iterator[Sample]:
    """Give what ``text`` holds; lines that are no sample, and values that are no number of 0 or more, are left."""
    for line in text.splitlines():
        match = _LINE.match(line.strip())
        if match is None:
            continue
        try:
            value = float(match[3])
        except ValueError:
            continue
        # Triton writes "Nan" for what it has not measured.
        if math.isfinite(value) and value >= 0:
            yield Sample(match[1], dict(_LABEL.findall(match[2] or "")), value)


def summed(found: Iterable[Sample], name: str, **labels: str) -> float | None:
    """Sum the samples called ``name`` that have these labels; None where there are none."""
    values = [
        sample.value
        for sample in found
        if sample.name == name and all(sample.labels.get(key) == value for key, value in labels.items())
    ]
    return sum(values) if values else None
