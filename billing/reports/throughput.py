"""Tokens per second of a serving GPU, measured and as it was planned."""

from __future__ import annotations

import dataclasses
import datetime as dt
from decimal import Decimal

from billing.reports.asking import Asked
from billing.reports.figures import gpu_hours, rate, share
from billing.reports.reading import Sums, read

_NAMES = (
    "serving",
    "requests",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "planned_tokens",
    "planned_seconds",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Throughput:
    """What one group served with its serving GPU-hours; rates are tokens per second and GPU.

    ``planned_per_gpu_s`` is the output within the targets that the revisions' plans promise, by the time that they
    served; None where no plan is known. ``of_planned`` is the measured output's part of it.
    """

    bucket: dt.datetime | None
    group: str
    names: dict[str, str]
    serving: Decimal
    requests: int
    input_tokens: int
    output_tokens: int
    tokens_per_gpu_s: Decimal | None
    output_per_gpu_s: Decimal | None
    planned_per_gpu_s: Decimal | None
    of_planned: Decimal | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ThroughputReport:
    """Groups from the one that served longest on, what they were in each bucket, and all of it."""

    asked: Asked
    groups: tuple[Throughput, ...]
    points: tuple[Throughput, ...]
    total: Throughput


def throughput_report(asked: Asked) -> ThroughputReport:
    """Sum tokens and serving time by group and bucket, in the platform's scope."""
    found = read(asked, _NAMES, order="serving", served=True)
    return ThroughputReport(
        asked=asked,
        groups=tuple(_row(each) for each in found.groups),
        points=tuple(_row(each) for each in found.points),
        total=_row(found.total),
    )


def _row(sums: Sums) -> Throughput:
    numbers = sums.numbers
    output, serving = numbers["output_tokens"], numbers["serving"]
    measured, planned = rate(output, serving), rate(numbers["planned_tokens"], numbers["planned_seconds"])
    return Throughput(
        bucket=sums.bucket,
        group=sums.label,
        names=sums.names,
        serving=gpu_hours(serving),
        requests=int(numbers["requests"]),
        input_tokens=int(numbers["input_tokens"]),
        output_tokens=int(output),
        tokens_per_gpu_s=rate(numbers["input_tokens"] + output, serving),
        output_per_gpu_s=measured,
        planned_per_gpu_s=planned,
        of_planned=share(measured, planned),
    )
