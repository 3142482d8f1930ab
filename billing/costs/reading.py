"""Usage and GPU time of the open tenant, summed by the database: one statement a table, whatever the period.

A period is cut by ``edges``, the moments at which its pieces begin, in order, the first being the period's start; a
row belongs to the piece in which its hour begins. Whole UTC days are read from the day rollup; days in which a piece
begins amid, and what is left at both ends, from the hours.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

from django.db import connection

from billing.costs.dimensions import Dimension, Narrow
from billing.quantities import DAY, Interval, round_down, round_up
from gateway.contract import ITL_BOUNDS_MS, LATENCY_BOUNDS_MS, Outcome
from tenants import scope

OUTCOMES = tuple(Outcome)
HISTOGRAMS = {"ttft_ms": len(LATENCY_BOUNDS_MS) + 1, "itl_ms": len(ITL_BOUNDS_MS) + 1}
_PRICED = (Dimension.MODEL, Dimension.SLO_CLASS, Dimension.REGION)
_COUNTS = ("requests", "input_tokens", "output_tokens", "cached_tokens")


@dataclasses.dataclass(frozen=True, kw_only=True)
class UsedPart:
    """Usage of one piece. ``group`` are the values of the dimensions that were asked for, in that order.

    ``endpoint_id`` is None where it was not asked for; ``foreign`` usage is of none of the endpoints that were given.
    ``outcomes`` are requests in the order of :data:`OUTCOMES`; the histograms are empty unless they were asked for.
    """

    start: dt.datetime
    end: dt.datetime
    piece: int
    group: tuple[str, ...]
    endpoint_id: uuid.UUID | None
    foreign: bool
    model: str
    slo_class: str
    region: str
    requests: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    outcomes: tuple[int, ...]
    ttft_ms: tuple[int, ...] = ()
    itl_ms: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldPart:
    """GPU time in one piece; project and endpoint are None where it is not told apart by them."""

    start: dt.datetime
    end: dt.datetime
    piece: int
    project_id: uuid.UUID | None
    endpoint_id: uuid.UUID | None
    region: str
    gpu_type: str
    price_factor: Decimal
    gpu_seconds: Decimal


# GROUP BY sees the table's columns first, which is why the sums have names of their own.
_SUMS = ", ".join(
    [f"sum({name})::bigint AS sum_{name}" for name in _COUNTS]
    + [f"coalesce(sum(requests) FILTER (WHERE outcome = '{each}'), 0)::bigint AS {each}" for each in OUTCOMES]
)
_PLACES = ", ".join(
    f"coalesce(sum({name}[{place}]), 0)::bigint AS {name}_{place}"
    for name, places in HISTOGRAMS.items()
    for place in range(1, places + 1)
)


class Tables(NamedTuple):
    """Where sums of days and of hours are kept; none of days: everything is read from the hours."""

    days: str
    hours: str


USAGE: Final = Tables("billing_usageday", "billing_usagehour")
MINUTES: Final = Tables("", "billing_usageminute")
HELD_TIME: Final = Tables("billing_heldday", "billing_heldhour")


def sources(
    tables: Tables, edges: Sequence[dt.datetime], end: dt.datetime, columns: str, where: str
) -> tuple[str, dict[str, Any]]:
    """Give SQL for the rows of ``[edges[0], end)``, each exactly once, and its parameters."""
    start = edges[0]
    first, last = round_up(start, DAY), round_down(end, DAY)
    if not tables.days or first >= last:
        first = last = end
    amid = sorted(
        {round_down(edge, DAY) for edge in edges if first <= edge < last and edge != round_down(edge, DAY)}
    )
    hours = [(start, first), *((day, day + DAY) for day in amid), (last, end)]
    texts: list[str] = []
    parameters: dict[str, Any] = {"first": first, "last": last, "amid": amid}
    select, tenant = f"SELECT {columns} FROM", "WHERE tenant_id = %(tenant)s"
    if first < last:
        without = " AND bucket <> ALL(%(amid)s)" if amid else ""
        texts.append(
            f"{select} {tables.days} {tenant} AND bucket >= %(first)s AND bucket < %(last)s{without}{where}"
        )
    for number, (since, till) in enumerate(hours):
        if since < till:
            parameters |= {f"since{number}": since, f"till{number}": till}
            within = f"bucket >= %(since{number})s AND bucket < %(till{number})s"
            texts.append(f"{select} {tables.hours} {tenant} AND {within}{where}")
    return " UNION ALL ".join(texts), parameters


def used(
    *,
    edges: Sequence[dt.datetime],
    end: dt.datetime,
    by: Sequence[Dimension] = (),
    narrow: Narrow | None = None,
    own: Collection[uuid.UUID] = (),
    tables: Tables = USAGE,
    latency: bool = False,
) -> list[UsedPart]:
    """Sum usage by piece, by what prices depend on (model, class, region) and by ``by``.

    What is of none of the endpoints ``own`` is told apart. With ``latency`` the parts have histograms, too, which
    takes several times as long.
    """
    if not edges or edges[0] >= end:
        return []
    wanted = [*_PRICED, *(each for each in by if each not in _PRICED)]
    columns = [each.column for each in wanted]
    where, narrowed = narrow.where() if narrow else ("", {})
    arrays = ", ttft_ms, itl_ms" if latency else ""
    apart = "coalesce(endpoint_id <> ALL(%(own)s::uuid[]), false) AS apart"
    read = f"bucket, outcome, {apart}, {', '.join(columns)}, {', '.join(_COUNTS)}{arrays}"
    source, parameters = sources(tables, edges, end, read, where)
    statement = f"""
    SELECT width_bucket(bucket, %(edges)s::timestamptz[]) AS piece, apart, {", ".join(columns)}, {_SUMS}
        {f", {_PLACES}" if latency else ""}
    FROM ({source}) AS rollup
    GROUP BY piece, apart, {", ".join(columns)}
    """  # noqa: S608
    rows = fetch(statement, parameters | narrowed | {"edges": list(edges), "own": list(own)})
    pieces = _pieces(edges, end)
    first = 2 + len(columns)
    return [_used_part(row, pieces, wanted, by, first) for row in rows]


def _used_part(
    row: tuple, pieces: list[Interval], wanted: list[Dimension], by: Sequence[Dimension], first: int
) -> UsedPart:
    found = dict(zip(wanted, row[2:first], strict=True))
    start, end = pieces[row[0] - 1]
    counts, after = row[first : first + 4], first + 4 + len(OUTCOMES)
    ttft, rest = HISTOGRAMS["ttft_ms"], row[after:]
    return UsedPart(
        start=start, end=end, piece=row[0] - 1,
        group=tuple(str(found[each] or "") for each in by),
        endpoint_id=found.get(Dimension.ENDPOINT), foreign=row[1], model=found[Dimension.MODEL],
        slo_class=found[Dimension.SLO_CLASS], region=found[Dimension.REGION],
        requests=counts[0], input_tokens=counts[1], output_tokens=counts[2], cached_tokens=counts[3],
        outcomes=tuple(row[first + 4 : after]), ttft_ms=tuple(rest[:ttft]), itl_ms=tuple(rest[ttft:]),
    )  # fmt: skip


# Each allocation is cut by itself, so that it costs what it overlaps and not what there is.
HELD = """
SELECT piece, project_id, endpoint_id, region, gpu_type, price_factor, sum(gpus * seconds) AS gpu_seconds
FROM (
    SELECT held.*, piece, extract(epoch FROM
        least(until, (%(bounds)s::timestamptz[])[piece + 1]) - greatest(since, (%(bounds)s::timestamptz[])[piece])
    ) AS seconds
    FROM (
        SELECT project_id, endpoint_id, region, gpu_type, price_factor, gpus,
            greatest(started_at, %(start)s) AS since, least(coalesce(ended_at, %(now)s), %(end)s) AS until
        FROM billing_allocation
        WHERE tenant_id = %(tenant)s AND started_at < %(end)s AND (ended_at IS NULL OR ended_at > %(start)s){only}
    ) AS held
    CROSS JOIN LATERAL generate_series(
        width_bucket(since, %(edges)s::timestamptz[]), width_bucket(until, %(edges)s::timestamptz[])
    ) AS piece
    WHERE since < until
) AS cut
WHERE seconds > 0
GROUP BY piece, project_id, endpoint_id, region, gpu_type, price_factor
"""


def held(
    *,
    edges: Sequence[dt.datetime],
    end: dt.datetime,
    now: dt.datetime,
    narrow: Narrow | None = None,
    endpoint_ids: Collection[uuid.UUID] | None = None,
) -> list[HeldPart]:
    """Sum GPU time by piece, endpoint, region and GPU type; what is still held counts until ``now``.

    Of ``narrow`` projects, endpoints and regions count; ``endpoint_ids`` narrows further.
    """
    if not edges or edges[0] >= end:
        return []
    only, narrowed = held_narrowed(narrow, endpoint_ids)
    rows = fetch(HELD.replace("{only}", only), held_parameters(edges, end, now) | narrowed)
    pieces = _pieces(edges, end)
    return [
        HeldPart(
            start=pieces[row[0] - 1][0], end=pieces[row[0] - 1][1], piece=row[0] - 1, project_id=row[1],
            endpoint_id=row[2], region=row[3], gpu_type=row[4], price_factor=row[5], gpu_seconds=row[6],
        )
        for row in rows
    ]  # fmt: skip


def held_parameters(edges: Sequence[dt.datetime], end: dt.datetime, now: dt.datetime) -> dict[str, Any]:
    """Give what :data:`HELD` is asked with."""
    return {"edges": list(edges), "bounds": [*edges, end], "start": edges[0], "end": end, "now": now}


def held_narrowed(
    narrow: Narrow | None, endpoint_ids: Collection[uuid.UUID] | None
) -> tuple[str, dict[str, Any]]:
    """Give the condition on allocations, beginning with AND, and its parameters."""
    texts, parameters = [], {}
    for dimension in (Dimension.PROJECT, Dimension.ENDPOINT, Dimension.REGION):
        values = narrow.values(dimension) if narrow else None
        if values is not None:
            kind = "uuid[]" if dimension.is_id else "text[]"
            texts.append(f" AND {dimension.column} = ANY(%(held_{dimension.column})s::{kind})")
            parameters[f"held_{dimension.column}"] = list(values)
    if endpoint_ids is not None:
        texts.append(" AND endpoint_id = ANY(%(held_only)s::uuid[])")
        parameters["held_only"] = list(endpoint_ids)
    return "".join(texts), parameters


def idle_statement(edges: Sequence[dt.datetime], end: dt.datetime, only: str) -> tuple[str, dict[str, Any]]:
    """Give SQL for idle GPU-seconds by piece, endpoint, GPU type and region, and its parameters."""
    columns = "bucket, endpoint_id, gpu_type, region, idle"
    source, parameters = sources(HELD_TIME, edges, end, columns, f" AND idle > 0{only}")
    statement = f"""
    SELECT width_bucket(bucket, %(edges)s::timestamptz[]) AS piece, endpoint_id, gpu_type, region, sum(idle) AS idle
    FROM ({source}) AS held_time GROUP BY piece, endpoint_id, gpu_type, region
    """  # noqa: S608
    return statement, parameters


def idle(
    *,
    edges: Sequence[dt.datetime],
    end: dt.datetime,
    narrow: Narrow | None = None,
    endpoint_ids: Collection[uuid.UUID] | None = None,
) -> dict[tuple[int, uuid.UUID, str, str], Decimal]:
    """Sum GPU-seconds held in hours without a request, by piece, endpoint, GPU type and region."""
    if not edges or edges[0] >= end:
        return {}
    only, narrowed = held_narrowed(narrow, endpoint_ids)
    statement, parameters = idle_statement(edges, end, only)
    rows = fetch(statement, {"edges": list(edges)} | parameters | narrowed)
    return {(row[0] - 1, row[1], row[2], row[3]): row[4] for row in rows}


def _pieces(edges: Iterable[dt.datetime], end: dt.datetime) -> list[Interval]:
    starts = list(edges)
    return list(zip(starts, [*starts[1:], end], strict=True))


# Row-level security makes the planner expect a hundredth of the rows: to group them it would sort them all, on disk.
_IN_MEMORY: Final = "SET LOCAL enable_sort TO off; SET LOCAL work_mem TO '64MB'; "
_AS_BEFORE: Final = "; SET LOCAL enable_sort TO DEFAULT; SET LOCAL work_mem TO DEFAULT"


def fetch(statement: str, parameters: dict[str, Any]) -> list[tuple]:
    """Ask the database for rows of the open tenant, which it sums in memory."""
    with connection.cursor() as cursor:
        cursor.execute(
            _IN_MEMORY + statement + _AS_BEFORE, {"tenant": scope.current_tenant_id(), **parameters}
        )
        cursor.nextset()
        cursor.nextset()
        return cursor.fetchall()
