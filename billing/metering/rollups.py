"""Rollups of usage by hour and by day, advanced by a watermark of transactions.

Segments carry the transaction that stored them. A page covers the transactions from the mark up to the
oldest that still runs, so that nothing can be committed behind the mark afterwards: each segment is
counted exactly once, in whatever order transactions end. Counting and advancing the mark are one
transaction, which a killed process leaves undone as a whole.
"""

from __future__ import annotations

from typing import Final

from django.db import connection

from billing.models import RollupMark
from gateway.contract import LATENCY_BOUNDS_MS
from tenants import locks, scope

MARK: Final = "usage"
PAGE: Final = 20_000

_BUCKETS = len(LATENCY_BOUNDS_MS) + 1
_DIMENSIONS = "tenant_id, project_id, endpoint_id, key_id, revision_id, model, slo_class, region, outcome"
_COUNTS = ("requests", "input_tokens", "output_tokens", "cached_tokens")

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


def _upsert(table: str, source: str) -> str:
    added = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in _COUNTS)
    return f"""
    INSERT INTO {table} ({_DIMENSIONS}, bucket, {", ".join(_COUNTS)}, ttft_ms)
    SELECT {_DIMENSIONS}, bucket, {", ".join(_COUNTS)}, ttft_ms FROM {source}
    ON CONFLICT ({_DIMENSIONS}, bucket)
    DO UPDATE SET {added}, ttft_ms = ARRAY(
        SELECT coalesce(old, 0) + coalesce(new, 0)
        FROM unnest({table}.ttft_ms, excluded.ttft_ms) WITH ORDINALITY AS place (old, new, number)
        ORDER BY number)
    """  # noqa: S608


def _sums(bucket: str, source: str) -> str:
    counts = ", ".join(f"sum({name})::bigint AS {name}" for name in _COUNTS)
    buckets = ", ".join(f"coalesce(sum(ttft_ms[{place}]), 0)::bigint" for place in range(1, _BUCKETS + 1))
    return f"""
    SELECT {_DIMENSIONS}, {bucket} AS bucket, {counts},
        CASE WHEN bool_or(cardinality(ttft_ms) > 0) THEN ARRAY[{buckets}] ELSE '{{}}'::bigint[] END AS ttft_ms
    FROM {source} GROUP BY {_DIMENSIONS}, {bucket}
    """  # noqa: S608


# The hour lies in the segment's day, also where the window was closed at midnight.
_HOUR = "least(date_trunc('hour', window_end, 'UTC'), (day + time '23:00') AT TIME ZONE 'UTC')"
_COUNT = f"""
WITH page AS MATERIALIZED (
    SELECT * FROM billing_usagesegment WHERE xact >= %(mark)s AND xact < %(end)s
), hours AS MATERIALIZED ({_sums(_HOUR, "page")}
), days AS ({_sums("date_trunc('day', bucket, 'UTC')", "hours")}
), hours_added AS ({_upsert("billing_usagehour", "hours")}
), days_added AS ({_upsert("billing_usageday", "days")})
SELECT count(*) FROM page
"""  # noqa: S608


class MarkAhead(RuntimeError):
    """The mark is ahead of the database's transactions: it was restored from a dump with its mark."""


def roll_up(*, wait: bool = True, page: int = PAGE) -> int:
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
            found, more = _count_page(page)
        counted += found
    return counted


def _count_page(page: int) -> tuple[int, bool]:
    mark, _ = RollupMark.objects.select_for_update().get_or_create(name=MARK)
    with connection.cursor() as cursor:
        cursor.execute(_PAGE_END, {"mark": mark.xact, "page": page})
        end, horizon = cursor.fetchone()
        if mark.xact > horizon:
            raise MarkAhead(f"The mark is at transaction {mark.xact}, this database at {horizon}.")
        if mark.xact == end:
            return 0, False
        cursor.execute(_COUNT, {"mark": mark.xact, "end": end})
        counted = cursor.fetchone()[0]
    if counted:
        mark.xact = end
        mark.save(update_fields=["xact"])
    return counted, end < horizon


def ttft_quantile(histogram: list[int], quantile: float) -> float | None:
    """Estimate a quantile of the time to first token, in milliseconds; None without requests.

    ``histogram`` counts requests per bucket of :data:`gateway.contract.LATENCY_BOUNDS_MS`. Within a bucket
    requests are taken to be spread evenly; above the last bound that bound is given.

    Raises:
        ValueError: ``quantile`` is not within 0 and 1.
    """
    if not 0 <= quantile <= 1:
        raise ValueError(f"{quantile} is not within 0 and 1")
    rank = quantile * sum(histogram)
    seen, lower = 0, 0.0
    for count, upper in zip(histogram, LATENCY_BOUNDS_MS, strict=False):
        if count and seen + count >= rank:
            return lower + (upper - lower) * max(rank - seen, 0.0) / count
        seen += count
        lower = float(upper)
    return lower if any(histogram) else None
