"""Quantities of a period: GPU time held and tokens used, summed by the database.

A period is cut into intervals where the caller says so (where prices change, at midnights); each sum is
of one interval, so that one price or one day holds for it. Rows are those of the open scope: one
tenant's, or in the platform scope all tenants'.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import uuid
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

from django.db import connection

from tenants import scope

HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)

Interval = tuple[dt.datetime, dt.datetime]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """GPU time held within one interval."""

    start: dt.datetime
    end: dt.datetime
    tenant_id: uuid.UUID
    project_id: uuid.UUID
    endpoint_id: uuid.UUID
    cluster: str
    region: str
    gpu_type: str
    price_factor: Decimal
    gpu_seconds: Decimal


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Used:
    """Requests and tokens within one interval; ``input_tokens`` include ``cached_tokens``."""

    start: dt.datetime
    end: dt.datetime
    tenant_id: uuid.UUID
    project_id: uuid.UUID
    endpoint_id: uuid.UUID | None
    model: str
    slo_class: str
    region: str
    requests: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int


# Whole time, in seconds with microseconds: PostgreSQL's numeric, no float on the way.
_HELD_UNTIL = "least(coalesce(ended_at, %(now)s), piece.till)"
_HELD_SECONDS = f"extract(epoch FROM {_HELD_UNTIL} - greatest(started_at, piece.since))"
_PIECES = "unnest(%(since)s::timestamptz[], %(till)s::timestamptz[]) AS piece (since, till)"

_HELD = f"""
SELECT piece.since, piece.till, tenant_id, project_id, endpoint_id, cluster, region, gpu_type,
    price_factor, sum(gpus * {_HELD_SECONDS}) AS gpu_seconds
FROM {_PIECES}
JOIN billing_allocation ON started_at < {_HELD_UNTIL} AND coalesce(ended_at, %(now)s) > piece.since
WHERE {{scope}}
GROUP BY 1, 2, tenant_id, project_id, endpoint_id, cluster, region, gpu_type, price_factor
ORDER BY 1, tenant_id, project_id, endpoint_id, cluster, region, gpu_type, price_factor
"""  # noqa: S608

_USED = f"""
SELECT piece.since, piece.till, tenant_id, project_id, endpoint_id, model, slo_class, region,
    sum(requests)::bigint, sum(input_tokens)::bigint, sum(output_tokens)::bigint, sum(cached_tokens)::bigint
FROM {_PIECES}
JOIN {{table}} AS rollup ON bucket >= piece.since AND bucket < piece.till
WHERE bucket >= %(first)s AND bucket < %(last)s AND {{scope}}
GROUP BY 1, 2, tenant_id, project_id, endpoint_id, model, slo_class, region
"""  # noqa: S608

# GPU time in hours during which the endpoint was asked at least once.
_BUSY = f"""
SELECT coalesce(sum(gpus * {_HELD_SECONDS}), 0)
FROM (
    SELECT DISTINCT endpoint_id AS asked, bucket, greatest(bucket, %(start)s) AS since,
        least(bucket + interval '1 hour', %(end)s) AS till
    FROM billing_usagehour
    WHERE bucket > %(start)s::timestamptz - interval '1 hour' AND bucket < %(end)s
        AND requests > 0 AND {{scope}}
) AS piece
JOIN billing_allocation ON endpoint_id = piece.asked
    AND started_at < {_HELD_UNTIL} AND coalesce(ended_at, %(now)s) > piece.since
WHERE {{scope}}
"""  # noqa: S608


def cut(start: dt.datetime, end: dt.datetime, at: Iterable[dt.datetime]) -> list[Interval]:
    """Cut ``[start, end)`` at those moments of ``at`` that lie within; nothing if it is empty."""
    if start >= end:
        return []
    edges = [start, *sorted({moment for moment in at if start < moment < end}), end]
    return list(itertools.pairwise(edges))


def midnights(start: dt.datetime, end: dt.datetime) -> Iterator[dt.datetime]:
    """Give the UTC midnights from the day of ``start`` until ``end``."""
    moment = start.astimezone(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    while moment < end:
        yield moment
        moment += DAY


def held(
    *, start: dt.datetime, end: dt.datetime, now: dt.datetime, cuts: Iterable[dt.datetime] = ()
) -> list[Held]:
    """Sum GPU time by interval, endpoint, cluster and GPU type; what is still held counts until ``now``."""
    pieces = cut(start, end, cuts)
    names = [field.name for field in dataclasses.fields(Held)]
    rows = _rows(_HELD, pieces, {"now": now}) if pieces else []
    return [Held(**dict(zip(names, row, strict=True))) for row in rows]


def used(
    *,
    start: dt.datetime,
    end: dt.datetime,
    cuts: Iterable[dt.datetime] = (),
    route_id: uuid.UUID | None = None,
    tenant_ids: Sequence[uuid.UUID] | None = None,
    endpoint_ids: Sequence[uuid.UUID] | None = None,
) -> list[Used]:
    """Sum requests and tokens by interval, endpoint, model, class and region.

    Usage is known by the hour: an hour belongs to the interval in which it begins. ``route_id`` narrows to what came
    by one named route, ``tenant_ids`` and ``endpoint_ids`` to these tenants and endpoints.
    """
    narrowed = "".join(
        f" AND {condition}"
        for condition, asked in (
            ("route_id = %(route)s", route_id),
            ("tenant_id = ANY(%(tenants)s)", tenant_ids is not None),
            ("endpoint_id = ANY(%(endpoints)s)", endpoint_ids is not None),
        )
        if asked
    )
    asked_for = {"route": route_id, "tenants": tenant_ids, "endpoints": endpoint_ids}
    hours, days = [], []
    for since, till in cut(start, end, cuts):
        # Whole UTC days are read from the day rollup, what is left at both ends from the hours.
        first, last = round_up(since, DAY), round_down(till, DAY)
        if first < last:
            days.append((first, last, since, till))
            hours += [(since, first, since, till), (last, till, since, till)]
        else:
            hours.append((since, till, since, till))
    sums: dict[tuple, list[int]] = {}
    for table, parts in (("billing_usagehour", hours), ("billing_usageday", days)):
        whole = {part[:2]: part[2:] for part in parts if part[0] < part[1]}
        statement = _USED.replace("{table}", table).replace("{scope}", "{scope}" + narrowed)
        for pieces in _touching(whole):
            # The planner sees these two moments: of a rollup of years it reads the hours in question alone.
            bounds = {"first": pieces[0][0], "last": pieces[-1][1]}
            for row in _rows(statement, pieces, {**asked_for, **bounds}):
                key = (*whole[row[0], row[1]], *row[2:8])
                found = sums.setdefault(key, [0, 0, 0, 0])
                sums[key] = [a + b for a, b in zip(found, row[8:], strict=True)]
    return [
        Used(
            start=key[0], end=key[1], tenant_id=key[2], project_id=key[3], endpoint_id=key[4], model=key[5],
            slo_class=key[6], region=key[7], requests=counts[0], input_tokens=counts[1], output_tokens=counts[2],
            cached_tokens=counts[3],
        )
        for key, counts in sorted(sums.items(), key=lambda item: _used_order(item[0]))
    ]  # fmt: skip


def _touching(intervals: Iterable[Interval]) -> Iterator[list[Interval]]:
    """Give intervals that do not overlap in order, those together between which there is no gap."""
    together: list[Interval] = []
    for interval in sorted(intervals):
        if together and together[-1][1] < interval[0]:
            yield together
            together = []
        together.append(interval)
    if together:
        yield together


def _used_order(key: tuple) -> tuple:
    start, end, tenant_id, project_id, endpoint_id, *texts = key
    return (start, end, tenant_id.int, project_id.int, endpoint_id.int if endpoint_id else -1, *texts)


def busy_gpu_seconds(*, start: dt.datetime, end: dt.datetime, now: dt.datetime) -> Decimal:
    """Sum the GPU time held in hours in which the endpoint got at least one request."""
    with connection.cursor() as cursor:
        parameters = {"start": start, "end": end, "now": now, "tenant": scope.current().tenant_id}
        cursor.execute(_scoped(_BUSY), parameters)
        return Decimal(cursor.fetchone()[0])


def round_down(moment: dt.datetime, unit: dt.timedelta) -> dt.datetime:
    """Give the last whole hour or UTC day that is not after ``moment``."""
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return epoch + (moment - epoch) // unit * unit


def round_up(moment: dt.datetime, unit: dt.timedelta) -> dt.datetime:
    """Give the first whole hour or UTC day that is not before ``moment``."""
    lower = round_down(moment, unit)
    return moment if lower == moment else lower + unit


def _rows(statement: str, pieces: list[Interval], more: dict[str, object]) -> list[tuple]:
    parameters = {
        "since": [since for since, _ in pieces],
        "till": [till for _, till in pieces],
        "tenant": scope.current().tenant_id,
        **more,
    }
    with connection.cursor() as cursor:
        cursor.execute(_scoped(statement), parameters)
        return cursor.fetchall()


def _scoped(statement: str) -> str:
    # Row-level security says the same; the explicit filter lets the planner use the tenant's index.
    return statement.replace("{scope}", "true" if scope.current().is_platform else "tenant_id = %(tenant)s")
