"""Usage over time: requests, tokens and latencies of the open tenant, from the rollups."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from django.db.models import Q, Sum
from django.db.models.functions import Coalesce

from billing.buckets import Width, buckets
from billing.costs import Dimension, Names, Narrow, reading
from billing.metering.rollups import quantile_ms
from billing.models import UsageHour, UsageMinute, UsageMinutes
from billing.quantities import HOUR, round_down
from gateway.contract import ITL_BOUNDS_MS, LATENCY_BOUNDS_MS, Outcome
from tenants import scope
from tenants.models import Tenant


@dataclasses.dataclass(frozen=True, kw_only=True)
class UsagePoint:
    """One bucket of one group, by how requests ended. ``input_tokens`` include ``cached_tokens``.

    The times to first token and between tokens are estimates from histograms, in milliseconds; None if no
    request gave enough tokens, or where they were not asked for.
    """

    start: dt.datetime
    end: dt.datetime
    group: tuple[str, ...]
    labels: tuple[str, ...]
    requests: int
    completed: int
    cancelled: int
    failed: int
    refused: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    ttft_p50_ms: float | None
    ttft_p95_ms: float | None
    itl_p50_ms: float | None
    itl_p95_ms: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadPoint:
    """The requests of an endpoint that were answered to the end, of one hour that begins at ``bucket`` (UTC).

    ``input_tokens`` include ``cached_tokens``. The squares are sums over requests: with ``completed`` and the
    tokens they give mean and variance of the lengths. ``busiest_minute`` is how many requests ended in the
    minute in which most did. The histograms count requests per bucket of
    :data:`gateway.contract.LATENCY_BOUNDS_MS` and :data:`gateway.contract.ITL_BOUNDS_MS`, one bucket more
    than bounds; points can be added place by place.
    """

    bucket: dt.datetime
    completed: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    input_tokens_squared: int
    output_tokens_squared: int
    busiest_minute: int
    ttft_ms: tuple[int, ...]
    itl_ms: tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MinutePoint:
    """The requests of one key to an endpoint that ended in one minute, which begins at ``bucket``, in the same way."""

    bucket: dt.datetime
    outcome: str
    requests: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    input_tokens_squared: int
    output_tokens_squared: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class RevisionUsage:
    """What a revision served: requests that were answered to the end, those that failed, tokens and histograms."""

    completed: int
    failed: int
    input_tokens: int
    output_tokens: int
    ttft_ms: tuple[int, ...]
    itl_ms: tuple[int, ...]


_COUNTS = ("requests", "input_tokens", "output_tokens", "cached_tokens")
_LOAD = ("input_tokens", "output_tokens", "cached_tokens", "input_tokens_squared", "output_tokens_squared")
_BOUNDS = {"ttft_ms": LATENCY_BOUNDS_MS, "itl_ms": ITL_BOUNDS_MS}
_PLACES = {
    f"{name}_{place}": Sum(f"{name}__{place}")
    for name, buckets_of in reading.HISTOGRAMS.items()
    for place in range(buckets_of)
}


class _Sums:
    def __init__(self) -> None:
        self.counts = dict.fromkeys(_COUNTS, 0)
        self.outcomes = [0] * len(reading.OUTCOMES)
        self.histograms: dict[str, list[int]] = {}

    def add(self, part: reading.UsedPart) -> None:
        for name in _COUNTS:
            self.counts[name] += getattr(part, name)
        self.outcomes = [a + b for a, b in zip(self.outcomes, part.outcomes, strict=True)]
        for name in _BOUNDS:
            more = getattr(part, name)
            if more:
                old = self.histograms.get(name) or [0] * len(more)
                self.histograms[name] = [a + b for a, b in zip(old, more, strict=True)]

    def quantile(self, name: str, quantile: float) -> float | None:
        return quantile_ms(self.histograms.get(name, ()), quantile, bounds=_BOUNDS[name])


def usage_series(
    *,
    start: dt.datetime,
    end: dt.datetime,
    width: Width = Width.HOUR,
    group_by: Sequence[Dimension] = (),
    narrow: Narrow | None = None,
    latency: bool = False,
    names: Names | None = None,
) -> list[UsagePoint]:
    """Give usage by bucket and group, in order of time; buckets without usage have no point.

    An hour belongs to the bucket in which it begins, and to ``[start, end)`` if it begins there. With ``latency`` the
    points have quantiles, which takes several times as long; minutes have none, and are kept for
    ``USAGE_MINUTE_DAYS`` days.
    """
    zone = Tenant.objects.get(id=scope.current_tenant_id()).time_zone
    intervals = buckets(start, end, width, zone)
    parts = reading.used(
        edges=[since for since, _ in intervals],
        end=end,
        by=group_by,
        narrow=narrow,
        tables=reading.MINUTES if width is Width.MINUTE else reading.USAGE,
        latency=latency and width is not Width.MINUTE,
    )
    names = names or Names()
    names.read_shared(part.endpoint_id for part in parts if part.endpoint_id)
    sums: dict[tuple[int, tuple[str, ...]], _Sums] = {}
    for part in parts:
        sums.setdefault((part.piece, part.group), _Sums()).add(part)
    points = [
        UsagePoint(
            start=intervals[piece][0],
            end=intervals[piece][1],
            group=group,
            labels=tuple(names.of(each, value) for each, value in zip(group_by, group, strict=True)),
            ttft_p50_ms=found.quantile("ttft_ms", 0.5),
            ttft_p95_ms=found.quantile("ttft_ms", 0.95),
            itl_p50_ms=found.quantile("itl_ms", 0.5),
            itl_p95_ms=found.quantile("itl_ms", 0.95),
            **{each.value: count for each, count in zip(reading.OUTCOMES, found.outcomes, strict=True)},
            **found.counts,
        )
        for (piece, group), found in sums.items()
    ]
    return sorted(points, key=lambda point: (point.start, point.labels, point.group))


def endpoint_load(*, endpoint_id: uuid.UUID, start: dt.datetime, end: dt.datetime) -> list[LoadPoint]:
    """Give the load of an endpoint by hour, in order of time; hours without a completed request have no point.

    An hour belongs to ``[start, end)`` if it begins there.
    """
    asked = {
        "endpoint_id": endpoint_id, "bucket__gte": start, "bucket__lt": end, "outcome": Outcome.COMPLETED,
    }  # fmt: skip
    busiest = {row.bucket: max(row.requests) for row in UsageMinutes.objects.filter(**asked)}
    sums = {f"sum_{name}": Sum(name) for name in ("requests", *_LOAD)}
    rows = UsageHour.objects.filter(**asked).values("bucket").order_by("bucket").annotate(**sums, **_PLACES)
    # An hour without minutes was rolled up between the two queries, or before minutes were kept.
    return [
        LoadPoint(
            bucket=row["bucket"],
            completed=row["sum_requests"],
            busiest_minute=busiest[row["bucket"]],
            ttft_ms=_histogram(row, "ttft_ms"),
            itl_ms=_histogram(row, "itl_ms"),
            **{name: row[f"sum_{name}"] for name in _LOAD},
        )
        for row in rows
        if row["bucket"] in busiest
    ]


def endpoint_minutes(*, endpoint_id: uuid.UUID, start: dt.datetime, end: dt.datetime) -> list[MinutePoint]:
    """Give the open tenant's requests to an endpoint by minute, in order of time, told apart by who asked.

    A minute belongs to ``[start, end)`` if it begins there. Minutes are kept for ``USAGE_MINUTE_DAYS`` days.
    """
    rows = UsageMinute.objects.filter(
        endpoint_id=endpoint_id, bucket__gte=start, bucket__lt=end, requests__gt=0
    )
    names = [field.name for field in dataclasses.fields(MinutePoint)]
    ordered = rows.order_by("bucket", "key_id", "outcome", "revision_id", "route_id", "id")
    return [MinutePoint(**row) for row in ordered.values(*names)]


def revision_usage(
    *, endpoint_id: uuid.UUID, revision_ids: Collection[uuid.UUID], start: dt.datetime
) -> dict[uuid.UUID, RevisionUsage]:
    """Sum what revisions of an endpoint served in all hours from the one of ``start`` on, of the open scope's tenants.

    Requests that the client left, or that were refused, say nothing of a revision and are not counted.
    """
    rows = (
        UsageHour.objects.filter(
            endpoint_id=endpoint_id,
            revision_id__in=list(revision_ids),
            bucket__gte=round_down(start, HOUR),
            outcome__in=(Outcome.COMPLETED, Outcome.FAILED),
        )
        .values("revision_id")
        .order_by("revision_id")
        .annotate(
            sum_completed=Coalesce(Sum("requests", filter=Q(outcome=Outcome.COMPLETED)), 0),
            sum_failed=Coalesce(Sum("requests", filter=Q(outcome=Outcome.FAILED)), 0),
            sum_input_tokens=Coalesce(Sum("input_tokens", filter=Q(outcome=Outcome.COMPLETED)), 0),
            sum_output_tokens=Coalesce(Sum("output_tokens", filter=Q(outcome=Outcome.COMPLETED)), 0),
            **_PLACES,
        )
    )
    return {
        row["revision_id"]: RevisionUsage(
            completed=row["sum_completed"],
            failed=row["sum_failed"],
            input_tokens=row["sum_input_tokens"],
            output_tokens=row["sum_output_tokens"],
            ttft_ms=_histogram(row, "ttft_ms"),
            itl_ms=_histogram(row, "itl_ms"),
        )
        for row in rows
    }


def _histogram(row: Mapping[str, Any], name: str) -> tuple[int, ...]:
    return tuple(row[f"{name}_{place}"] or 0 for place in range(reading.HISTOGRAMS[name]))
