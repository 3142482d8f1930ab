"""Rollups of usage by minute, hour and day, advanced by a watermark of transactions.

Segments carry the transaction that stored them. A page covers the transactions from the mark up to the
oldest that still runs, so that nothing can be committed behind the mark afterwards: each segment is
counted exactly once, in whatever order transactions end. Counting and advancing the mark are one
transaction, which a killed process leaves undone as a whole.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Final

from django.conf import settings
from django.db import connection
from django.utils import timezone

from billing.metering import gateway_days, sequences
from billing.metering.partitions import ensure_minutes, first_minutes_day
from billing.models import RollupMark
from gateway.contract import ITL_BOUNDS_MS, LATENCY_BOUNDS_MS
from tenants import locks, scope

MARK: Final = "usage"
PAGE: Final = 20_000

_DIMENSIONS = (
    "tenant_id, project_id, endpoint_id, key_id, revision_id, route_id, model, slo_class, region, outcome"
)
_COUNTS = (
    "requests", "input_tokens", "output_tokens", "cached_tokens", "input_tokens_squared", "output_tokens_squared",
)  # fmt: skip
#: What a row holds at most. Sums end there: one that did not fit would stop the counting of all tenants' usage.
_MOST: Final = 2**63 - 1
_HISTOGRAMS = {"ttft_ms": len(LATENCY_BOUNDS_MS) + 1, "itl_ms": len(ITL_BOUNDS_MS) + 1}

# The horizon is the oldest transaction still running. The page ends there, or with the first transaction
# that does not fit any more; one transaction is never split, however many segments it brought.
_PAGE_END = """
WITH reach AS (
    SELECT xact FROM billing_usagesegment
    WHERE xact >= %(mark)s AND xact < pg_snapshot_xmin(pg_current_snapshot())::text::bigint
    ORDER BY xact LIMIT %(page)s + 1
)
SELECT CASE WHEN count(*) > %(page)s THEN greatest(max(xact), min(xact) + 1) ELSE horizon END, horizon
FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS horizon) AS now LEFT JOIN reach ON true
GROUP BY horizon
"""


def _upsert(
    table: str,
    dimensions: str,
    source: str,
    *,
    counts: Iterable[str],
    arrays: Iterable[str],
    masks: Iterable[str] = (),
    further: str = "",
) -> str:
    columns = ", ".join((dimensions, "bucket", *counts, *arrays, *masks))
    added = [f"{name} = {_added(f'{table}.{name}', f'excluded.{name}')}" for name in counts]
    added += [f"{name} = {_added_by_place(table, name)}" for name in arrays]
    added += [f"{name} = {table}.{name} | excluded.{name}" for name in masks]
    return f"""
    INSERT INTO {table} ({columns}) SELECT {columns} FROM {source}
    ON CONFLICT ({dimensions}, bucket) DO UPDATE SET {", ".join(added)}{further}
    """  # noqa: S608


def _added(old: str, new: str) -> str:
    return f"{old} + least({new}, {_MOST} - {old})"


def _sum(name: str) -> str:
    return f"least(sum({name}), {_MOST})::bigint AS {name}"


def _added_by_place(table: str, name: str) -> str:
    return f"""ARRAY(
        SELECT coalesce(old, 0) + coalesce(new, 0)
        FROM unnest({table}.{name}, excluded.{name}) WITH ORDINALITY AS place (old, new, number)
        ORDER BY number)
    """  # noqa: S608


def _sums(bucket: str, source: str, *, further: str = "") -> str:
    sums = [_sum(name) for name in _COUNTS]
    for name, buckets in _HISTOGRAMS.items():
        places = ", ".join(f"coalesce(sum({name}[{place}]), 0)::bigint" for place in range(1, buckets + 1))
        sums.append(
            f"CASE WHEN bool_or(cardinality({name}) > 0) THEN ARRAY[{places}] ELSE '{{}}'::bigint[] END AS {name}"
        )
    return f"""
    SELECT {_DIMENSIONS}, {bucket} AS bucket, {", ".join(sums)}{further}
    FROM {source} GROUP BY {_DIMENSIONS}, {bucket}
    """  # noqa: S608


# A bit for each of the day's hours in which there were requests.
_ASKED_HOURS = """, coalesce(
    bit_or(1 << extract(hour FROM bucket AT TIME ZONE 'UTC')::integer) FILTER (WHERE requests > 0), 0
) AS asked_hours"""
# The hour lies in the segment's day, also where the window was closed at midnight, and the minute in the hour.
_HOUR = "least(date_trunc('hour', window_end, 'UTC'), (day + time '23:00') AT TIME ZONE 'UTC')"
_MINUTE = "least(date_trunc('minute', window_end, 'UTC'), (day + time '23:59') AT TIME ZONE 'UTC')"
_PLACES = ", ".join(
    f"coalesce(sum(requests) FILTER (WHERE minute = {minute}), 0)::bigint" for minute in range(60)
)
# When keys were used last is told in the same step. One that somebody changes meanwhile is told with its next minute:
# waiting for it here, while others wait for keys that were told already, could have no end.
_COUNT = f"""
WITH page AS MATERIALIZED (
    SELECT * FROM billing_usagesegment WHERE xact >= %(mark)s AND xact < %(end)s
), minutes AS MATERIALIZED (
    SELECT {_DIMENSIONS}, {_MINUTE} AS bucket, {", ".join(map(_sum, _COUNTS))}
    FROM page GROUP BY {_DIMENSIONS}, {_MINUTE}
), by_minute AS (
    SELECT tenant_id, endpoint_id, outcome, date_trunc('hour', bucket, 'UTC') AS bucket,
        extract(minute FROM bucket AT TIME ZONE 'UTC') AS minute, sum(requests) AS requests
    FROM minutes WHERE endpoint_id IS NOT NULL GROUP BY 1, 2, 3, 4, 5
), places AS (
    SELECT tenant_id, endpoint_id, outcome, bucket, ARRAY[{
    _PLACES
}] AS requests FROM by_minute GROUP BY 1, 2, 3, 4
), kept_minutes AS (
    SELECT * FROM minutes WHERE bucket >= %(minutes_from)s
), hours AS MATERIALIZED ({_sums(_HOUR, "page")}
), days AS ({_sums("date_trunc('day', bucket, 'UTC')", "hours", further=_ASKED_HOURS)}
), minutes_added AS ({_upsert("billing_usageminute", _DIMENSIONS, "kept_minutes", counts=_COUNTS, arrays=())}
), places_added AS (
    {
    _upsert(
        "billing_usageminutes", "tenant_id, endpoint_id, outcome", "places", counts=(), arrays=("requests",)
    )
}
), hours_added AS ({_upsert("billing_usagehour", _DIMENSIONS, "hours", counts=_COUNTS, arrays=_HISTOGRAMS)}
), days_added AS ({
    _upsert(
        "billing_usageday",
        _DIMENSIONS,
        "days",
        counts=_COUNTS,
        arrays=_HISTOGRAMS,
        masks=("asked_hours",),
        further=", counted_at = now()",
    )
}), gateways_added AS ({gateway_days.COUNT}
), keys_free AS (
    SELECT id, used.at FROM tenants_apikey
    JOIN (SELECT tenant_id, key_id, max(bucket) AS at FROM minutes GROUP BY 1, 2) AS used
        ON tenants_apikey.id = used.key_id AND tenants_apikey.tenant_id = used.tenant_id
    WHERE last_used_at IS NULL OR last_used_at < used.at
    FOR NO KEY UPDATE OF tenants_apikey SKIP LOCKED
), keys_told AS (
    UPDATE tenants_apikey SET last_used_at = keys_free.at FROM keys_free WHERE tenants_apikey.id = keys_free.id
)
SELECT count(*), array_agg(DISTINCT gateway) FILTER (WHERE event = '') FROM page
"""  # noqa: S608
_DAYS = "SELECT DISTINCT day FROM billing_usagesegment WHERE xact >= %(mark)s AND xact < %(end)s"


class MarkAhead(RuntimeError):
    """The mark is ahead of the database's transactions: it was restored from a dump with its mark."""


def roll_up(*, wait: bool = True, page: int = PAGE, now: dt.datetime | None = None) -> int:
    """Count all segments whose transactions are over and give how many were counted.

    ``page`` bounds how many segments one transaction counts. Without ``wait`` nothing is done while
    another worker is at it.

    Raises:
        MarkAhead: the mark lies in the future of this database.
    """
    counted = 0
    more = True
    while more:
        with (
            scope.platform("roll up usage of all tenants"),
            locks.held(locks.Lock.USAGE_ROLLUPS, wait=wait) as mine,
        ):
            if not mine:
                return counted
            found, more = _count_page(page, now or timezone.now())
        counted += found
    return counted


def _count_page(page: int, now: dt.datetime) -> tuple[int, bool]:
    mark, _ = RollupMark.objects.select_for_update().get_or_create(name=MARK)
    with connection.cursor() as cursor:
        cursor.execute(_PAGE_END, {"mark": mark.xact, "page": page})
        end, horizon = cursor.fetchone()
        if mark.xact > horizon:
            raise MarkAhead(f"The mark is at transaction {mark.xact}, this database at {horizon}.")
        if mark.xact == end:
            return 0, False
        first = first_minutes_day(now.date())
        reach = {
            "mark": mark.xact,
            "end": end,
            "now": now,
            "late_days": settings.USAGE_LATE_DAYS,
            "minutes_from": dt.datetime.combine(first, dt.time(), dt.UTC),
        }
        cursor.execute(_DAYS, reach)
        ensure_minutes(day for (day,) in cursor.fetchall() if day >= first)
        cursor.execute(_COUNT, reach)
        counted, gateways = cursor.fetchone()
    sequences.advance(mark=mark.xact, end=end, gateways=gateways or [], now=now)
    if counted:
        mark.xact = end
        mark.save(update_fields=["xact"])
    return counted, end < horizon


def quantile_ms(histogram: Sequence[int], quantile: float, *, bounds: Sequence[float]) -> float | None:
    """Estimate a quantile of a latency, in milliseconds; None without requests.

    ``histogram`` counts requests per bucket of ``bounds``, those of :mod:`gateway.contract`. Within a bucket
    requests are taken to be spread evenly; above the last bound that bound is given.

    Raises:
        ValueError: ``quantile`` is not within 0 and 1.
    """
    if not 0 <= quantile <= 1:
        raise ValueError(f"{quantile} is not within 0 and 1")
    rank = quantile * sum(histogram)
    seen, lower = 0, 0.0
    for count, upper in zip(histogram, bounds, strict=False):
        if count and seen + count >= rank:
            return lower + (upper - lower) * max(rank - seen, 0.0) / count
        seen += count
        lower = float(upper)
    return lower if any(histogram) else None
