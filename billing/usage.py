"""Usage over time: requests, tokens and latencies of the open tenant, from the rollups."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import uuid
from collections.abc import Mapping
from typing import Any

from django.db.models import Sum

from billing.costs import Names
from billing.metering.rollups import quantile_ms
from billing.models import UsageDay, UsageHour, UsageMinutes
from gateway.contract import ITL_BOUNDS_MS, LATENCY_BOUNDS_MS, Outcome
from tenants.models import ApiKey


class Width(enum.StrEnum):
    """How long one bucket is."""

    HOUR = "hour"
    DAY = "day"


class Group(enum.StrEnum):
    """What usage may be told apart by."""

    NONE = ""
    ENDPOINT = "endpoint"
    PROJECT = "project"
    MODEL = "model"
    KEY = "key"


@dataclasses.dataclass(frozen=True, kw_only=True)
class UsagePoint:
    """One bucket of one group, by how requests ended. ``input_tokens`` include ``cached_tokens``.

    The times to first token and between tokens are estimates from histograms, in milliseconds; None if no
    request gave enough tokens.
    """

    bucket: dt.datetime
    group: str
    label: str
    requests: int
    completed: int
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


_COLUMNS = {
    Group.ENDPOINT: "endpoint_id",
    Group.PROJECT: "project_id",
    Group.MODEL: "model",
    Group.KEY: "key_id",
}
_COUNTS = ("requests", "input_tokens", "output_tokens", "cached_tokens")
_LOAD = ("input_tokens", "output_tokens", "cached_tokens", "input_tokens_squared", "output_tokens_squared")
_BUCKETS = {"ttft_ms": len(LATENCY_BOUNDS_MS) + 1, "itl_ms": len(ITL_BOUNDS_MS) + 1}
_PLACES = {
    f"{name}_{place}": Sum(f"{name}__{place}")
    for name, buckets in _BUCKETS.items()
    for place in range(buckets)
}


def usage_series(
    *,
    start: dt.datetime,
    end: dt.datetime,
    bucket: str = Width.HOUR,
    group_by: str = Group.NONE,
    endpoint_id: uuid.UUID | None = None,
) -> list[UsagePoint]:
    """Give usage by bucket and group, in order of time; buckets without usage have no point.

    A bucket belongs to ``[start, end)`` if it begins there. ``endpoint_id`` narrows to one endpoint.

    Raises:
        ValueError: no such bucket width or group.
    """
    model = {Width.HOUR: UsageHour, Width.DAY: UsageDay}[Width(bucket)]
    column = _COLUMNS.get(Group(group_by))
    rows = model.objects.filter(bucket__gte=start, bucket__lt=end)
    if endpoint_id:
        rows = rows.filter(endpoint_id=endpoint_id)
    by = ["bucket", *([column] if column else []), "outcome"]
    sums = {f"sum_{name}": Sum(name) for name in _COUNTS}
    labels = _Labels(Group(group_by))
    merged: dict[tuple[dt.datetime, str], dict[str, int]] = {}
    for row in rows.values(*by).order_by(*by).annotate(**sums, **_PLACES):
        group = str(row[column] or "") if column else ""
        found = merged.setdefault((row["bucket"], group), dict.fromkeys((*_COUNTS, "completed", *_PLACES), 0))
        for name in _COUNTS:
            found[name] += row[f"sum_{name}"]
        for name in _PLACES:
            found[name] += row[name] or 0
        if row["outcome"] == Outcome.COMPLETED:
            found["completed"] += row["sum_requests"]
    return [
        UsagePoint(
            bucket=moment,
            group=group,
            label=labels.of(group),
            ttft_p50_ms=quantile_ms(_histogram(found, "ttft_ms"), 0.5, bounds=LATENCY_BOUNDS_MS),
            ttft_p95_ms=quantile_ms(_histogram(found, "ttft_ms"), 0.95, bounds=LATENCY_BOUNDS_MS),
            itl_p50_ms=quantile_ms(_histogram(found, "itl_ms"), 0.5, bounds=ITL_BOUNDS_MS),
            itl_p95_ms=quantile_ms(_histogram(found, "itl_ms"), 0.95, bounds=ITL_BOUNDS_MS),
            completed=found["completed"],
            **{name: found[name] for name in _COUNTS},
        )
        for (moment, group), found in merged.items()
    ]


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


def _histogram(row: Mapping[str, Any], name: str) -> tuple[int, ...]:
    return tuple(row[f"{name}_{place}"] or 0 for place in range(_BUCKETS[name]))


class _Labels:
    """Names for groups, read once and only those asked for."""

    def __init__(self, group_by: Group) -> None:
        self._names: dict[str, str] = {}
        if group_by == Group.KEY:
            self._names = {str(key.id): str(key) for key in ApiKey.objects.all()}
        elif group_by in (Group.ENDPOINT, Group.PROJECT):
            self._names = Names().by_id()
            self._names[""] = "(no endpoint)"

    def of(self, group: str) -> str:
        return self._names.get(group, group)
