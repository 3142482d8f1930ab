"""Usage over time: requests, tokens and time to first token of the open tenant, from the rollups."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import uuid

from django.db.models import Sum

from billing.costs import Names
from billing.metering.rollups import ttft_quantile
from billing.models import UsageDay, UsageHour
from gateway.contract import LATENCY_BOUNDS_MS, Outcome
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

    The times to first token are estimates from a histogram, in milliseconds; None if no token was given.
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


_COLUMNS = {
    Group.ENDPOINT: "endpoint_id",
    Group.PROJECT: "project_id",
    Group.MODEL: "model",
    Group.KEY: "key_id",
}
_COUNTS = ("requests", "input_tokens", "output_tokens", "cached_tokens")


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
    histogram = {f"ttft_{place}": Sum(f"ttft_ms__{place}") for place in range(len(LATENCY_BOUNDS_MS) + 1)}
    labels = _Labels(Group(group_by))
    merged: dict[tuple[dt.datetime, str], dict[str, int]] = {}
    for row in rows.values(*by).order_by(*by).annotate(**sums, **histogram):
        group = str(row[column] or "") if column else ""
        found = merged.setdefault(
            (row["bucket"], group), dict.fromkeys((*_COUNTS, "completed", *histogram), 0)
        )
        for name in _COUNTS:
            found[name] += row[f"sum_{name}"]
        for name in histogram:
            found[name] += row[name] or 0
        if row["outcome"] == Outcome.COMPLETED:
            found["completed"] += row["sum_requests"]
    return [
        UsagePoint(
            bucket=moment,
            group=group,
            label=labels.of(group),
            ttft_p50_ms=ttft_quantile([found[name] for name in histogram], 0.5),
            ttft_p95_ms=ttft_quantile([found[name] for name in histogram], 0.95),
            completed=found["completed"],
            **{name: found[name] for name in _COUNTS},
        )
        for (moment, group), found in merged.items()
    ]


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
