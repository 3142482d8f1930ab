"""GPU time and the idle part of it, summed over endpoints: what a period by day of many endpoints is read by.

A row for each endpoint and day is read and summed by the database; only sums leave it.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import Any, Final

from billing.costs import reading
from billing.costs.dimensions import Narrow
from billing.costs.reading import HeldPart
from billing.costs.sums import attoseconds
from billing.quantities import HOUR, round_down

_MICROSECOND: Final = dt.timedelta(microseconds=1)

# Of an allocation only where it begins and ends is read. ``seconds`` are those of the pieces in which it does; ``step``
# is how many GPUs more or fewer are held all through each piece from this one on.
_STEPS: Final = """
WITH held AS (
    SELECT {project} AS whose, region, gpu_type, price_factor, gpus, since, until,
        width_bucket(since, %(edges)s::timestamptz[]) AS first, width_bucket(until, %(edges)s::timestamptz[]) AS last
    FROM (
        SELECT *, greatest(started_at, %(start)s) AS since, least(coalesce(ended_at, %(now)s), %(end)s) AS until
        FROM billing_allocation
        WHERE tenant_id = %(tenant)s AND started_at < %(end)s AND (ended_at IS NULL OR ended_at > %(start)s){only}
    ) AS period
    WHERE since < until
)
SELECT whose, region, gpu_type, price_factor, piece, sum(gpus * seconds), sum(step)
FROM (
    SELECT held.*, first AS piece, 0 AS step,
        extract(epoch FROM least(until, (%(bounds)s::timestamptz[])[first + 1]) - since) AS seconds FROM held
    UNION ALL
    SELECT held.*, last, 0, extract(epoch FROM until - (%(bounds)s::timestamptz[])[last]) FROM held WHERE last > first
    UNION ALL
    SELECT held.*, first + 1, gpus, 0 FROM held WHERE last > first + 1
    UNION ALL
    SELECT held.*, last, -gpus, 0 FROM held WHERE last > first + 1
) AS steps
GROUP BY whose, region, gpu_type, price_factor, piece
"""

# Idle time is of the project and at the factor of the endpoint's allocations; an endpoint with ``several`` of them in
# this period has no one sum.
_IDLE: Final = """
SELECT whose, region, gpu_type, price_factor, width_bucket(bucket, %(edges)s::timestamptz[]), sum(idle),
    bool_or(several)
FROM ({source}) AS held_time
JOIN (
    SELECT endpoint_id, region, gpu_type, {project} AS whose, price_factor,
        count(*) OVER (PARTITION BY endpoint_id, region, gpu_type) > 1 AS several
    FROM billing_allocation
    WHERE tenant_id = %(tenant)s AND started_at < %(end)s AND (ended_at IS NULL OR ended_at > %(start)s){only}
    GROUP BY endpoint_id, region, gpu_type, project_id, price_factor
) AS allocation USING (endpoint_id, region, gpu_type)
GROUP BY 1, 2, 3, 4, 5
"""


def held_sums(
    *,
    edges: Sequence[dt.datetime],
    end: dt.datetime,
    now: dt.datetime,
    projects: bool,
    narrow: Narrow | None = None,
    endpoint_ids: Collection[uuid.UUID] | None = None,
) -> list[tuple[HeldPart, int]] | None:
    """Sum GPU time by piece, region, GPU type and, with ``projects``, project, each with its idle part in attoseconds.

    The sums are those of :func:`reading.held` and :func:`reading.idle`. None where only an endpoint's own figures
    tell how much was idle: where a piece begins or ends amid an hour, or an endpoint changed its project or factor.
    """
    if not edges or edges[0] >= end:
        return []
    ends = [] if end >= now else [end]
    if any(edge != round_down(edge, HOUR) for edge in (*edges, *ends)):
        return None
    only, narrowed = reading.held_narrowed(narrow, endpoint_ids)
    project = "project_id" if projects else "NULL::uuid"
    parameters = reading.held_parameters(edges, end, now) | narrowed
    idle = _idle(edges, end, project, only, parameters)
    if idle is None:
        return None
    rows = reading.fetch(_STEPS.format(project=project, only=only), parameters)
    return _run_up(rows, [*edges, end], idle)


def _idle(
    edges: Sequence[dt.datetime], end: dt.datetime, project: str, only: str, parameters: dict[str, Any]
) -> dict[tuple, Decimal] | None:
    columns = "bucket, endpoint_id, gpu_type, region, idle"
    source, found = reading.sources(reading.HELD_TIME, edges, end, columns, f" AND idle > 0{only}")
    rows = reading.fetch(_IDLE.format(source=source, project=project, only=only), parameters | found)
    return None if any(row[-1] for row in rows) else {row[:5]: row[5] for row in rows}


def _run_up(
    rows: list[tuple], bounds: list[dt.datetime], idle: dict[tuple, Decimal]
) -> list[tuple[HeldPart, int]]:
    """Run up what is held from piece to piece; ``rows`` are those of :data:`_STEPS`, pieces counted from 1."""
    begun: defaultdict[tuple, dict[int, tuple[Decimal, int]]] = defaultdict(dict)
    for *key, piece, seconds, step in rows:
        begun[tuple(key)][piece] = seconds, step
    found = []
    for key, changes in begun.items():
        gpus = 0
        # What is held to the very end steps down behind the last piece.
        for piece in range(min(changes), min(max(changes) + 1, len(bounds))):
            seconds, step = changes.get(piece, (Decimal(0), 0))
            gpus += step
            since, till = bounds[piece - 1], bounds[piece]
            time = seconds + Decimal(gpus * ((till - since) // _MICROSECOND)).scaleb(-6)
            if not time:
                continue
            project, region, gpu_type, factor = key
            part = HeldPart(
                start=since, end=till, piece=piece - 1, project_id=project, endpoint_id=None, region=region,
                gpu_type=gpu_type, price_factor=factor, gpu_seconds=time,
            )  # fmt: skip
            without = attoseconds(idle.get((*key, piece), Decimal(0)))
            found.append((part, min(attoseconds(time), without)))
    return found
