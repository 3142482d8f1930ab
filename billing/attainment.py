"""Whether endpoints kept the targets of their class: clusters writes it day by day, credits and pages read it.

A day is a UTC day, and a month those of the calendar. A tenant's row is about its own requests: who uses another
tenant's shared endpoint has rows of it, too. Requests count that were answered or failed; those that the client left
and those that were refused by a limit or a budget do not.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Collection, Mapping
from decimal import Decimal
from fractions import Fraction

from django.db import connection, transaction
from django.db.models import Max, Q, Sum

from billing.metering.rollups import quantile_ms
from billing.models import Attainment, Statement
from billing.quantities import DAY
from billing.rating.attainment import DayKept, Judgement, judge
from gateway.contract import ITL_BOUNDS_MS, LATENCY_BOUNDS_MS, Outcome
from tenants import scope

_COUNTS = ("requests", "failed", "hours", "ttft_met", "itl_met")
_PERCENTILE = 0.95
_FACTS = tuple(field.name for field in dataclasses.fields(DayKept))
_TARGETS = tuple(name for name in _FACTS if name != "day" and name not in _COUNTS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Promise:
    """What the class of an endpoint promises, as of now."""

    slo_class: str
    availability: Decimal
    ttft_p95_ms: int | None
    itl_p95_ms: int | None
    credit_percent: Decimal


@dataclasses.dataclass(frozen=True, kw_only=True)
class EndpointKept:
    """An endpoint's days, in order, and what they came to together. Class and targets are those of the last day.

    Where days were not asked for, ``days`` are sums over those with the same targets, each with its last day.
    """

    endpoint_id: uuid.UUID
    slo_class: str
    days: tuple[DayKept, ...]
    judgement: Judgement

    @property
    def last(self) -> DayKept:
        """The last day."""
        return self.days[-1]


# By hour, since a latency is met or missed by the hour. Requests of a class below the endpoint's are promised less and
# are not judged by it. A whole day is read, whatever was written of it before: late usage changes it.
_HOURS = """
SELECT tenant_id, endpoint_id, bucket, slo_class, project_id,
    sum(requests) FILTER (WHERE outcome = %(completed)s)::bigint AS completed,
    sum(requests) FILTER (WHERE outcome = %(failed)s)::bigint AS failed, {places}
FROM billing_usagehour
WHERE bucket >= %(start)s AND bucket < %(end)s AND outcome IN (%(completed)s, %(failed)s) AND endpoint_id IS NOT NULL
    AND tenant_id = ANY(%(tenants)s::uuid[])
GROUP BY tenant_id, endpoint_id, bucket, slo_class, project_id
"""
_HISTOGRAMS = {"ttft_ms": LATENCY_BOUNDS_MS, "itl_ms": ITL_BOUNDS_MS}
_PLACES = ", ".join(
    f"coalesce(sum({name}[{place}]), 0)::bigint"
    for name, bounds in _HISTOGRAMS.items()
    for place in range(1, len(bounds) + 2)
)

# Days whose requests are others than those that were judged: never looked at, or counted into since.
_CHANGED = """
SELECT used.tenant_id, used.day
FROM (
    SELECT tenant_id, endpoint_id, (bucket AT TIME ZONE 'UTC')::date AS day, slo_class, sum(requests) AS requests
    FROM billing_usageday
    WHERE bucket >= %(start)s AND bucket < %(end)s AND outcome IN (%(completed)s, %(failed)s)
        AND endpoint_id = ANY(%(endpoints)s::uuid[])
    GROUP BY 1, 2, 3, 4
) AS used
JOIN unnest(%(endpoints)s::uuid[], %(classes)s::text[]) AS promised (endpoint_id, slo_class)
    ON promised.endpoint_id = used.endpoint_id
LEFT JOIN billing_attainment AS kept
    ON kept.tenant_id = used.tenant_id AND kept.endpoint_id = used.endpoint_id AND kept.day = used.day
WHERE used.slo_class = coalesce(kept.slo_class, promised.slo_class) AND used.requests IS DISTINCT FROM kept.requests
GROUP BY 1, 2
"""


def attainment_changed(
    *, since: dt.date, until: dt.date, promises: Mapping[uuid.UUID, Promise]
) -> list[tuple[uuid.UUID, dt.date]]:
    """Give tenants and days from ``since`` until ``until`` (not in it) that are to be judged, or to be judged anew.

    Days of months whose statement is final stay as they are. Call it in the platform's scope.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            _CHANGED,
            {
                "start": _midnight(since),
                "end": _midnight(until),
                "endpoints": list(promises),
                "classes": [promise.slo_class for promise in promises.values()],
                "completed": Outcome.COMPLETED,
                "failed": Outcome.FAILED,
            },
        )
        found = cursor.fetchall()
    final = set(
        Statement.objects.filter(state=Statement.State.FINAL, month__gte=since.replace(day=1)).values_list(
            "tenant_id", "month"
        )
    )
    return sorted((tenant, day) for tenant, day in found if (tenant, day.replace(day=1)) not in final)


@transaction.atomic
def attainment_write(
    *, day: dt.date, tenant_ids: Collection[uuid.UUID], promises: Mapping[uuid.UUID, Promise]
) -> int:
    """Judge one UTC day of these tenants' endpoints from their usage; give how many rows changed.

    Writing a day again changes what was counted and nothing else: it keeps the targets that held when it was first
    written. Endpoints that are not in ``promises`` are passed over. Call it in the platform's scope.
    """
    counted = _counted(day, tenant_ids, promises)
    old = {
        (row.tenant_id, row.endpoint_id): row
        for row in Attainment.objects.filter(day=day, tenant_id__in=tenant_ids)
    }
    new, changed = [], []
    for key, hours in counted.items():
        row = old.get(key)
        if row is None:
            promise = promises[key[1]]
            row = Attainment(tenant_id=key[0], endpoint_id=key[1], day=day, **vars(promise))
            row.project_id = max(sorted(hours.projects), key=lambda project: hours.projects[project])
            new.append(row)
        elif any(getattr(row, name) != value for name, value in hours.counts(row).items()):
            changed.append(row)
        for name, value in hours.counts(row).items():
            setattr(row, name, value)
    Attainment.objects.bulk_create(new, ignore_conflicts=True)
    Attainment.objects.bulk_update(changed, _COUNTS, batch_size=500)
    return len(new) + len(changed)


class _Hours:
    """What was counted of an endpoint's day, hour by hour, by class."""

    def __init__(self) -> None:
        self.projects: dict[uuid.UUID, int] = defaultdict(int)
        self._hours: dict[tuple[str, dt.datetime], list[int]] = {}

    def add(self, row: tuple) -> None:
        numbers = [count or 0 for count in row[5:]]
        self.projects[row[4]] += numbers[0] + numbers[1]
        old = self._hours.get((row[3], row[2]))
        self._hours[row[3], row[2]] = [a + b for a, b in zip(old, numbers, strict=True)] if old else numbers

    def counts(self, targets: Attainment) -> dict[str, int]:
        """Count against the targets of a row: requests of its class, and the hours in which each was met."""
        found = dict.fromkeys(_COUNTS, 0)
        first = 2 + len(LATENCY_BOUNDS_MS) + 1
        for (slo_class, _), numbers in self._hours.items():
            if slo_class != targets.slo_class:
                continue
            completed, failed = numbers[:2]
            found["requests"] += completed + failed
            found["failed"] += failed
            found["hours"] += 1
            found["ttft_met"] += _met(completed, numbers[2:first], LATENCY_BOUNDS_MS, targets.ttft_p95_ms)
            found["itl_met"] += _met(completed, numbers[first:], ITL_BOUNDS_MS, targets.itl_p95_ms)
        return found


def _met(completed: int, histogram: list[int], bounds: tuple[float, ...], target: int | None) -> bool:
    if target is None:
        return True
    if not completed:
        return False  # every request failed: nothing came in time
    percentile = quantile_ms(histogram, _PERCENTILE, bounds=bounds)
    return percentile is None or percentile <= target


def _counted(
    day: dt.date, tenant_ids: Collection[uuid.UUID], promises: Mapping[uuid.UUID, Promise]
) -> dict[tuple[uuid.UUID, uuid.UUID], _Hours]:
    start = _midnight(day)
    with connection.cursor() as cursor:
        cursor.execute(
            _HOURS.replace("{places}", _PLACES),
            {
                "start": start, "end": start + DAY, "tenants": list(tenant_ids), "completed": Outcome.COMPLETED,
                "failed": Outcome.FAILED,
            },
        )  # fmt: skip
        rows = cursor.fetchall()
    counted: dict[tuple[uuid.UUID, uuid.UUID], _Hours] = defaultdict(_Hours)
    for row in rows:
        promise = promises.get(row[1])
        if promise is not None:
            counted[row[0], row[1]].add(row)
    return counted


def attainment_month(*, endpoint_id: uuid.UUID, month: dt.date) -> Judgement:
    """Judge one endpoint of the open tenant in the calendar month of ``month``."""
    return attainment_months(month=month, endpoint_ids=[endpoint_id]).get(endpoint_id) or judge([])


def attainment_months(
    *, month: dt.date, endpoint_ids: Collection[uuid.UUID] | None = None
) -> dict[uuid.UUID, Judgement]:
    """Judge the open tenant's endpoints in the calendar month of ``month``; one query."""
    first = month.replace(day=1)
    following = (first + dt.timedelta(days=32)).replace(day=1)
    kept = attainments(start=first, end=following, endpoint_ids=endpoint_ids)
    return {each.endpoint_id: each.judgement for each in kept}


def attainments(
    *,
    start: dt.date,
    end: dt.date,
    endpoint_ids: Collection[uuid.UUID] | None = None,
    by_day: bool = True,
) -> list[EndpointKept]:
    """Judge the open tenant's endpoints on the UTC days from ``start`` until ``end`` (not in it); one query.

    An endpoint without requests in that time is left out. Without ``by_day`` days are summed by the database.
    """
    rows = Attainment.objects.filter(tenant_id=scope.current_tenant_id(), day__gte=start, day__lt=end)
    if endpoint_ids is not None:
        rows = rows.filter(endpoint_id__in=endpoint_ids)
    if by_day:
        found = rows.order_by("day").values_list("endpoint_id", "slo_class", *_FACTS)
    else:
        # Days without requests change no judgement: they stay apart, so that the others' last day is known.
        found = (
            rows.annotate(asked=Q(requests__gt=0))
            .values("endpoint_id", "slo_class", *_TARGETS, "asked")
            .annotate(last=Max("day"), **{f"sum_{name}": Sum(name) for name in _COUNTS})
            .order_by("last")
            .values_list("endpoint_id", "slo_class", "last", *_TARGETS, *(f"sum_{name}" for name in _COUNTS))
        )
    by_endpoint: dict[uuid.UUID, list[DayKept]] = defaultdict(list)
    classes: dict[uuid.UUID, str] = {}
    for endpoint_id, slo_class, *facts in found:
        by_endpoint[endpoint_id].append(DayKept(**dict(zip(_FACTS, facts, strict=True))))
        classes[endpoint_id] = slo_class
    return [
        EndpointKept(
            endpoint_id=endpoint_id, slo_class=classes[endpoint_id], days=tuple(days), judgement=judge(days)
        )
        for endpoint_id, days in by_endpoint.items()
    ]


def rounded_down(share: Fraction | None) -> float | None:
    """Give an exact share with five places, never rounded up to a target that it misses."""
    return None if share is None else int(share * 10**5) / 10**5


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), dt.UTC)
