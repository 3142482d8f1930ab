"""The SQL that turns intervals (allocations, phases, waits, supply, rates) into hours and days of GPU time.

Everything is numeric: seconds have six places, as the database's clock has, and nothing passes through a float.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_SECONDS: Final = "extract(epoch FROM {till} - {since})"

# Hours are cut where a rate changes, so that one rate holds for each piece.
_PIECES = """
hours AS MATERIALIZED (
    SELECT bucket, least(bucket + interval '1 hour', %(now)s) AS till
    FROM unnest(%(buckets)s::timestamptz[]) AS bucket WHERE bucket < %(now)s
), edges AS (
    SELECT bucket, bucket AS since FROM hours
    UNION
    SELECT bucket, effective_from FROM hours
    JOIN billing_assetrate ON effective_from > bucket AND effective_from < till
), pieces AS MATERIALIZED (
    SELECT bucket, since, lead(since, 1, till) OVER (PARTITION BY bucket ORDER BY since) AS till
    FROM edges JOIN hours USING (bucket)
)"""


def _clipped(table: str, columns: str) -> str:
    return f"""
    SELECT piece.bucket, piece.since AS piece, {columns}, region, cluster, pool, gpu_type, slice, share, gpus,
        greatest(started_at, piece.since) AS since, least(coalesce(ended_at, piece.till), piece.till) AS till
    FROM pieces AS piece
    JOIN {table} AS held ON started_at < piece.till AND (ended_at IS NULL OR ended_at > piece.since)
    WHERE started_at < %(last)s AND (ended_at IS NULL OR ended_at > %(first)s)
    """  # noqa: S608


_WHOSE = "tenant_id, project_id, endpoint_id, revision_id"

# Per moment of a pool: what its nodes show, what is held, what is the platform's. Whatever is held beyond what is
# shown raises what is seen; the platform has at most what nobody holds.
_CLUSTER = f"""
events AS (
    SELECT bucket, piece, cluster, pool, gpu_type, since AS at, gpus AS held, 0 AS shown, 0 AS platform FROM held
    UNION ALL
    SELECT bucket, piece, cluster, pool, gpu_type, till, -gpus, 0, 0 FROM held
    UNION ALL
    SELECT bucket, piece, cluster, pool, gpu_type, since, 0, gpus, platform FROM supply
    UNION ALL
    SELECT bucket, piece, cluster, pool, gpu_type, till, 0, -gpus, -platform FROM supply
), levels AS (
    SELECT bucket, piece, cluster, pool, gpu_type,
        {_SECONDS.format(till="lead(at) OVER moments", since="at")} AS seconds,
        sum(sum(held)) OVER moments AS held,
        sum(sum(shown)) OVER moments AS shown,
        sum(sum(platform)) OVER moments AS platform
    FROM events GROUP BY bucket, piece, cluster, pool, gpu_type, at
    WINDOW moments AS (PARTITION BY bucket, piece, cluster, pool, gpu_type ORDER BY at)
), parts AS (
    SELECT bucket, piece, cluster, pool, gpu_type,
        sum(seconds * held) AS held,
        sum(seconds * greatest(held - shown, 0)) AS excess,
        sum(seconds * least(platform, greatest(shown - held, 0))) AS platform,
        sum(seconds * greatest(shown - held - platform, 0)) AS idle
    FROM levels WHERE seconds > 0 GROUP BY bucket, piece, cluster, pool, gpu_type
), priced AS (
    SELECT parts.*, kind.region, kind.share, coalesce(kind.currency, '') AS currency,
        round(held * coalesce(hourly, 0) / 3600, 15) AS held_cost,
        round(idle * coalesce(hourly, 0) / 3600, 15) AS idle_cost,
        round(platform * coalesce(hourly, 0) / 3600, 15) AS platform_cost
    FROM parts JOIN rated AS kind USING (bucket, piece, cluster, pool, gpu_type)
    WHERE held + idle + platform > 0
)"""  # noqa: S608

_OVERLAP = _SECONDS.format(
    till="least(coalesce(phase.ended_at, held.till), held.till)",
    since="greatest(phase.started_at, held.since)",
)
_HELD = f"""
asked AS (
    SELECT DISTINCT endpoint_id, bucket FROM billing_usagehour
    WHERE bucket = ANY(%(buckets)s::timestamptz[]) AND endpoint_id IS NOT NULL AND requests > 0
), spent AS (
    SELECT bucket, piece, {_WHOSE}, cluster, pool, gpu_type, 0 AS queued,
        gpus * {_SECONDS.format(till="held.till", since="held.since")} AS held,
        gpus * coalesce(loading, 0) AS loading, gpus * coalesce(draining, 0) AS draining
    FROM held LEFT JOIN LATERAL (
        SELECT sum({_OVERLAP}) FILTER (WHERE phase = 'loading') AS loading,
            sum({_OVERLAP}) FILTER (WHERE phase = 'draining') AS draining
        FROM billing_allocationphase AS phase
        WHERE phase.allocation_id = held.id AND phase.phase IN ('loading', 'draining')
            AND phase.started_at < held.till AND (phase.ended_at IS NULL OR phase.ended_at > held.since)
    ) AS phases ON true
    UNION ALL
    SELECT bucket, piece, {_WHOSE}, cluster, pool, gpu_type, gpus * {_SECONDS.format(till="till", since="since")},
        0, 0, 0
    FROM waited
), summed AS (
    SELECT bucket, piece, {_WHOSE}, cluster, pool, gpu_type, sum(queued) AS queued, sum(held) AS held,
        sum(loading) AS loading, sum(draining) AS draining, sum(held - loading - draining) AS ready,
        EXISTS (
            SELECT 1 FROM asked WHERE asked.endpoint_id = spent.endpoint_id AND asked.bucket = spent.bucket
        ) AS was_asked
    FROM spent GROUP BY bucket, piece, {_WHOSE}, cluster, pool, gpu_type
), costed AS (
    SELECT summed.*, kind.region, kind.share, coalesce(kind.currency, '') AS currency,
        round(held * coalesce(hourly, 0) / 3600, 15) AS cost,
        CASE WHEN was_asked THEN 0 ELSE round(ready * coalesce(hourly, 0) / 3600, 15) END AS idle_cost
    FROM summed JOIN rated AS kind USING (bucket, piece, cluster, pool, gpu_type)
    WHERE held + queued > 0
), held_hours AS MATERIALIZED (
    SELECT tenant_id, bucket, cluster, max(region) AS region, pool, gpu_type, max(share) AS share,
        project_id, endpoint_id, revision_id, sum(queued) AS queued, sum(loading) AS loading,
        coalesce(sum(ready) FILTER (WHERE was_asked), 0) AS serving,
        coalesce(sum(ready) FILTER (WHERE NOT was_asked), 0) AS idle,
        sum(draining) AS draining, sum(held) AS held, currency, sum(cost) AS cost, sum(idle_cost) AS idle_cost
    FROM costed GROUP BY bucket, {_WHOSE}, cluster, pool, gpu_type, currency
)"""  # noqa: S608

# What was held comes from both: their sums must agree, which a constraint of the table holds.
_CLUSTER_HOURS = """
cluster_hours AS MATERIALIZED (
    SELECT bucket, cluster, max(region) AS region, pool, gpu_type, max(share) AS share, currency,
        sum(held + idle + platform) AS seen, sum(held) AS held, sum(idle) AS idle, sum(platform) AS platform,
        sum(excess) AS excess, sum(queued) AS queued, sum(loading) AS loading, sum(serving) AS serving,
        sum(unused) AS unused, sum(draining) AS draining, sum(held_cost + idle_cost + platform_cost) AS cost,
        sum(held_cost) AS held_cost, sum(idle_cost) AS idle_cost, sum(platform_cost) AS platform_cost,
        sum(unused_cost) AS unused_cost
    FROM (
        SELECT bucket, cluster, region, pool, gpu_type, share, currency, held, idle, platform, excess,
            0 AS queued, 0 AS loading, 0 AS serving, 0 AS unused, 0 AS draining,
            held_cost, idle_cost, platform_cost, 0 AS unused_cost
        FROM priced
        UNION ALL
        SELECT bucket, cluster, region, pool, gpu_type, share, currency, 0, 0, 0, 0,
            queued, loading, serving, idle, draining, 0, 0, 0, idle_cost
        FROM held_hours
    ) AS part GROUP BY bucket, cluster, pool, gpu_type, currency
)"""

# The rate in force when a piece begins; see billing.models.AssetRate for which one wins.
_RATED = """
kinds AS (
    SELECT bucket, piece, cluster, pool, gpu_type, max(region) AS region, max(slice) AS slice, max(share) AS share
    FROM (
        SELECT bucket, piece, cluster, pool, gpu_type, region, slice, share FROM held
        UNION ALL SELECT bucket, piece, cluster, pool, gpu_type, region, slice, share FROM waited
        UNION ALL SELECT bucket, piece, cluster, pool, gpu_type, region, slice, share FROM supply
    ) AS found GROUP BY bucket, piece, cluster, pool, gpu_type
), rated AS MATERIALIZED (
    SELECT kinds.*, rate.currency, rate.hourly
    FROM kinds LEFT JOIN LATERAL (
        SELECT found.currency,
            found.amount * CASE WHEN found.gpu_type = kinds.gpu_type THEN 1 ELSE kinds.share END AS hourly
        FROM billing_assetrate AS found
        WHERE found.effective_from <= kinds.piece AND found.cluster IN ('', kinds.cluster)
            AND found.gpu_type IN (
                '', kinds.gpu_type,
                CASE WHEN kinds.slice = '' THEN '' ELSE split_part(kinds.gpu_type, '-', 1) END
            )
        ORDER BY (found.cluster <> '')::integer + (found.gpu_type <> '')::integer DESC, found.gpu_type <> '' DESC,
            found.gpu_type = kinds.gpu_type DESC, found.effective_from DESC
        LIMIT 1
    ) AS rate ON true
)"""

CLUSTER_KEY: Final = ("bucket", "cluster", "pool", "gpu_type", "currency")
CLUSTER_SUMS: Final = (
    "seen", "held", "idle", "platform", "excess", "queued", "loading", "serving", "unused", "draining", "cost",
    "held_cost", "idle_cost", "platform_cost", "unused_cost",
)  # fmt: skip
HELD_KEY: Final = (
    "tenant_id", "bucket", "endpoint_id", "revision_id", "project_id", "cluster", "pool", "gpu_type", "currency",
)  # fmt: skip
HELD_SUMS: Final = ("queued", "loading", "serving", "idle", "draining", "held", "cost", "idle_cost")
_FACTS: Final = ("region", "share")


def _replaced(name: str, table: str, key: Sequence[str], sums: Sequence[str], buckets: str) -> str:
    """Bring ``table``'s rows of ``buckets`` to what the query ``name`` gives, writing only what differs."""
    values = (*_FACTS, *sums)
    columns = ", ".join((*key, *values))
    same = " AND ".join(f"{name}.{column} = old.{column}" for column in key)
    return f"""
{name}_gone AS (
    DELETE FROM {table} AS old WHERE bucket = ANY({buckets})
        AND NOT EXISTS (SELECT 1 FROM {name} WHERE {same})
    RETURNING 1
), {name}_put AS (
    INSERT INTO {table} AS old ({columns}) SELECT {columns} FROM {name}
    ON CONFLICT ({", ".join(key)}) DO UPDATE SET {", ".join(f"{value} = excluded.{value}" for value in values)}
    WHERE ({", ".join(f"old.{value}" for value in values)})
        IS DISTINCT FROM ({", ".join(f"excluded.{value}" for value in values)})
    RETURNING 1
)"""  # noqa: S608


#: Run before it, for the open transaction: the planner guesses that what a common table expression gives is few rows,
#: and would go through them again for each row of the other side. Where there is no other way it still does.
PLANNED: Final = "SET LOCAL enable_nestloop = off; SET LOCAL enable_mergejoin = off; SET LOCAL jit = off"
_HOURS: Final = "%(buckets)s::timestamptz[]"
#: Computes ``buckets`` (hours of UTC) as of ``now``; gives how many rows changed. One statement, so one snapshot:
#: what is held is the same in both tables.
COMPUTE_HOURS: Final = f"""
WITH {_PIECES}, held AS MATERIALIZED ({_clipped("billing_allocation", f"held.id, {_WHOSE}")}
), waited AS MATERIALIZED ({_clipped("billing_gpuwait", _WHOSE)}
), supply AS MATERIALIZED ({_clipped("billing_gpusupply", "platform")}
), {_RATED}, {_CLUSTER}, {_HELD}, {_CLUSTER_HOURS},
{_replaced("cluster_hours", "billing_clusterhour", CLUSTER_KEY, CLUSTER_SUMS, _HOURS)},
{_replaced("held_hours", "billing_heldhour", HELD_KEY, HELD_SUMS, _HOURS)}
SELECT (SELECT count(*) FROM cluster_hours_gone) + (SELECT count(*) FROM cluster_hours_put)
    + (SELECT count(*) FROM held_hours_gone) + (SELECT count(*) FROM held_hours_put)
"""  # noqa: S608


def _day_sums(hours: str, key: Sequence[str], sums: Sequence[str]) -> str:
    kept = ", ".join(column for column in key if column != "bucket")
    added = ", ".join(f"sum({column}) AS {column}" for column in sums)
    return f"""
    SELECT date_trunc('day', bucket, 'UTC') AS bucket, {kept}, max(region) AS region, max(share) AS share, {added}
    FROM {hours} WHERE bucket >= %(first)s AND bucket < %(last)s
        AND date_trunc('day', bucket, 'UTC') = ANY(%(days)s::timestamptz[])
    GROUP BY 1, {kept}
    """  # noqa: S608


_DAYS: Final = "%(days)s::timestamptz[]"
#: Sums the hours of ``days`` (midnights of UTC), which lie in [``first``, ``last``).
SUM_DAYS: Final = f"""
WITH cluster_days AS MATERIALIZED ({_day_sums("billing_clusterhour", CLUSTER_KEY, CLUSTER_SUMS)}
), held_days AS MATERIALIZED ({_day_sums("billing_heldhour", HELD_KEY, HELD_SUMS)}
), {_replaced("cluster_days", "billing_clusterday", CLUSTER_KEY, CLUSTER_SUMS, _DAYS)},
{_replaced("held_days", "billing_heldday", HELD_KEY, HELD_SUMS, _DAYS)}
SELECT (SELECT count(*) FROM cluster_days_gone) + (SELECT count(*) FROM cluster_days_put)
    + (SELECT count(*) FROM held_days_gone) + (SELECT count(*) FROM held_days_put)
"""  # noqa: S608

# What asks an endpoint is its own tenant, and where it is shared anyone: only there all tenants' hours are read.
#: Gives the idle hours from ``since`` on in which the endpoint was asked after all: usage that came late.
ASKED_AFTER_ALL: Final = """
SELECT DISTINCT bucket FROM billing_heldhour AS hour
WHERE idle > 0 AND bucket >= %(since)s AND bucket < %(before)s AND (
    EXISTS (
        SELECT 1 FROM billing_usagehour AS usage
        WHERE usage.tenant_id = hour.tenant_id AND usage.bucket = hour.bucket
            AND usage.project_id = hour.project_id AND usage.endpoint_id = hour.endpoint_id AND usage.requests > 0
    )
    OR EXISTS (
        SELECT 1 FROM billing_sharedperiod AS shared
        JOIN billing_usagehour AS usage ON usage.endpoint_id = shared.endpoint_id
        WHERE shared.endpoint_id = hour.endpoint_id AND usage.bucket = hour.bucket AND usage.requests > 0
            AND shared.started_at < hour.bucket + interval '1 hour'
            AND (shared.ended_at IS NULL OR shared.ended_at > hour.bucket)
    )
)
"""
