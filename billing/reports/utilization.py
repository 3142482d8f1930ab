"""GPU utilization: what was done with the hours of GPUs, by place, type or whoever held them."""

from __future__ import annotations

import dataclasses
import datetime as dt
from decimal import Decimal

from billing.models import ClusterDay, ClusterHour
from billing.reports.asking import Asked
from billing.reports.figures import gpu_hours, share
from billing.reports.reading import SUPPLY, TIMES, Sums, read, source_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Utilization:
    """GPU-hours of whole GPUs of one group, in one bucket or (None) in the whole span.

    ``held`` = ``loading`` + ``serving`` + ``idle`` + ``draining``. Of places and types also ``seen`` = ``held`` +
    ``free`` + ``platform``, and ``held_share``, held of what could be; None of whoever held them. ``serving_share`` is
    the part of what was held in hours with requests.
    """

    bucket: dt.datetime | None
    group: str
    names: dict[str, str]
    seen: Decimal | None
    free: Decimal | None
    platform: Decimal | None
    held: Decimal
    serving: Decimal
    idle: Decimal
    loading: Decimal
    draining: Decimal
    queued: Decimal
    held_share: Decimal | None
    serving_share: Decimal | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class UtilizationReport:
    """Groups from the one that held most on, what they were in each bucket, and all of it."""

    asked: Asked
    groups: tuple[Utilization, ...]
    points: tuple[Utilization, ...]
    total: Utilization
    totals: tuple[Utilization, ...]


def utilization_report(asked: Asked) -> UtilizationReport:
    """Sum GPU time by group and bucket, in the platform's scope."""
    supply = source_of(asked).model in (ClusterDay, ClusterHour)
    found = read(asked, (*TIMES, *(SUPPLY if supply else ())), order="held")
    return UtilizationReport(
        asked=asked,
        groups=tuple(_row(each) for each in found.groups),
        points=tuple(_row(each) for each in found.points),
        total=_row(found.total),
        totals=tuple(_row(each) for each in found.totals),
    )


def _row(sums: Sums) -> Utilization:
    numbers = sums.numbers
    seen = numbers.get("seen")
    possible = None if seen is None else seen - numbers["platform"]
    return Utilization(
        bucket=sums.bucket,
        group=sums.label,
        names=sums.names,
        **{name: gpu_hours(numbers[name]) for name in TIMES},
        **{name: gpu_hours(numbers[name]) if name in numbers else None for name in SUPPLY},
        held_share=share(numbers["held"], possible),
        serving_share=share(numbers["serving"], numbers["held"]),
    )
