"""``python -m bench.tools.year SCALE EMAIL``: fill the database with a year of rollups that stands for 100 M segments.

Runs in a process of its own because Django is set up for one database. Everything is made by the database from hashes
of numbers, so that each run makes the same.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import django
import psycopg

DAYS: Final = 365
#: Hours of GPU time by revision are kept for so many days; reports read older ones by day.
HELD_DAYS: Final = 9
SEGMENTS: Final = 100_000_000
TENANTS: Final = 1_000
ENDPOINTS: Final = 5_000
CLUSTERS: Final = 20
MODELS: Final = 20
GPU_TYPES: Final = ("h100_sxm", "a100_sxm", "l4")
CLASSES: Final = ("interactive", "standard", "batch")
#: How many hours of an active day have requests.
BUSY_HOURS: Final = 8

#: A number from 0 to 1 that belongs to a text.
_RANDOM: Final = """
CREATE OR REPLACE FUNCTION pg_temp.chance(text) RETURNS float8 LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT (hashtext($1)::bigint + 2147483648) / 4294967296.0 $$
"""


@dataclasses.dataclass(frozen=True)
class Size:
    """How much of a year is made."""

    tenants: int
    endpoints: int
    segments: int

    @classmethod
    def of(cls, scale: float) -> Size:
        return cls(
            max(10, round(TENANTS * scale)), max(50, round(ENDPOINTS * scale)), round(SEGMENTS * scale)
        )


# The first endpoints are one of each tenant's; of the others the first tenant gets the most, about 8 % of all.
_WORLD: Final = """
CREATE TEMP TABLE world_tenant AS
SELECT n, md5('tenant ' || n)::uuid AS id FROM generate_series(1, %(tenants)s) AS n;
CREATE TEMP TABLE world AS
SELECT e, tenant.id AS tenant_id, md5('endpoint ' || e)::uuid AS endpoint_id,
    md5('revision ' || e)::uuid AS revision_id,
    md5('project ' || tenant.n || ' ' || e %% 3)::uuid AS project_id, md5('key ' || e)::uuid AS key_id,
    'cluster-' || lpad((e * 7 %% %(clusters)s)::text, 2, '0') AS cluster, 'eu-year-1'::text AS region,
    (%(types)s::text[])[1 + e / 7 %% %(type_count)s] AS gpu_type,
    (%(types)s::text[])[1 + e / 7 %% %(type_count)s] AS pool,
    'model-with-a-long-name-' || lpad((e * 11 %% %(models)s)::text, 2, '0') AS model,
    (%(classes)s::text[])[1 + e * 5 %% 3] AS slo_class, (ARRAY[1, 1, 2, 4, 8])[1 + e %% 5] AS gpus
FROM generate_series(1, %(endpoints)s) AS e
JOIN world_tenant AS tenant ON tenant.n =
    CASE WHEN e <= %(tenants)s THEN e ELSE 1 + floor(%(tenants)s * pow(pg_temp.chance('owner ' || e), 3)) END;
ANALYZE world
"""

_PEOPLE: Final = """
INSERT INTO tenants_tenant (id, created_at, name, slug, time_zone, currency, state, files_days, share)
SELECT id, now(), 'Tenant number ' || n || CASE WHEN n %% 7 = 0 THEN ' with quite a long name of its own' ELSE '' END,
    'year-' || n, 'Europe/Berlin', 'EUR', 'active', 7, 1
FROM world_tenant;
INSERT INTO tenants_project (id, created_at, tenant_id, name, slug, cost_centre)
SELECT md5('project ' || n || ' ' || p)::uuid, now(), id, 'Project ' || p, 'project-' || p, 'CC-' || p
FROM world_tenant CROSS JOIN generate_series(0, 2) AS p;
INSERT INTO billing_endpointlabel (id, created_at, tenant_id, project_id, endpoint_id, name, model, slo_class)
SELECT gen_random_uuid(), now(), tenant_id, project_id, endpoint_id, 'endpoint-' || e, model, slo_class FROM world;
INSERT INTO billing_allocation (id, created_at, tenant_id, project_id, endpoint_id, revision_id, replica_id, cluster,
    region, pool, gpu_type, gpus, slice, share, price_factor, started_at, ended_at)
SELECT gen_random_uuid(), now(), tenant_id, project_id, endpoint_id, revision_id, e || '-' || part, cluster, region,
    pool, gpu_type, gpus, '', 1, 1, %(start)s::timestamptz + part * interval '91 days',
    CASE WHEN part < 3 THEN %(start)s::timestamptz + (part + 1) * interval '91 days' END
FROM world CROSS JOIN generate_series(0, 3) AS part
"""

_USED: Final = """
INSERT INTO {table} (tenant_id, bucket, project_id, key_id, endpoint_id, revision_id, route_id, model, slo_class,
    region, outcome, requests, input_tokens, output_tokens, cached_tokens, input_tokens_squared, output_tokens_squared,
    ttft_ms, itl_ms)
SELECT tenant_id, {bucket}, project_id, key_id, endpoint_id, revision_id, NULL, model, slo_class, region, outcome,
    requests, requests * 500, requests * 200, requests * 90, requests * 300000, requests * 50000,
    CASE WHEN outcome = 'completed' THEN ARRAY[0, 0, 0, 0, 0, 0, requests / 8, requests / 4, requests / 4, requests / 8,
        requests / 8, requests / 16, requests / 16, 0, 0, 0, 0, 0, 0, 0, 0, 0]::bigint[] ELSE '{{}}' END,
    CASE WHEN outcome = 'completed' THEN ARRAY[0, 0, 0, 0, 0, requests / 8, requests / 4, requests / 4, requests / 8,
        requests / 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]::bigint[] ELSE '{{}}' END
FROM (
    SELECT world.*, day, outcome, %(each)s * {share} / CASE outcome WHEN 'failed' THEN 20 ELSE 1 END AS requests
    FROM generate_series(%(start)s::timestamptz, %(end)s::timestamptz - interval '1 day', interval '1 day') AS day
    CROSS JOIN world
    JOIN (VALUES ('completed', 0.6), ('failed', 0.1)) AS part (outcome, share)
        ON pg_temp.chance('active ' || e || day::date) < part.share
) AS used {more}
"""

_DAYS: Final = """
INSERT INTO billing_endpointday (tenant_id, day, project_id, endpoint_id, revision_id, cluster, region, pool, gpu_type,
    model, slo_class, currency, asset_currency, queued, loading, serving, idle, draining, held, requests, input_tokens,
    output_tokens, cached_tokens, planned_tokens, planned_seconds, amount, asset_cost,
    idle_asset_cost)
SELECT tenant_id, day::date, project_id, endpoint_id, revision_id, cluster, region, pool, gpu_type, model, slo_class,
    'EUR', 'EUR', 0, 0, gpus * 3600 * hours, gpus * 3600 * (24 - hours), 0, gpus * 86400, hours * requests,
    hours * requests * 500, hours * requests * 200, hours * requests * 90, gpus * 3600 * hours * 50,
    gpus * 3600 * hours,
    gpus * 24 * 2.5, gpus * 24 * 1.25, gpus * (24 - hours) * 1.25
FROM (
    SELECT world.*, day, %(each)s AS requests,
        CASE WHEN pg_temp.chance('active ' || e || day::date) < 0.6 THEN %(hours)s ELSE 0 END AS hours
    FROM generate_series(%(start)s::timestamptz, %(end)s::timestamptz - interval '1 day', interval '1 day') AS day
    CROSS JOIN world
) AS held
"""

_CLUSTER_SUMS: Final = (
    "seen", "held", "idle", "platform", "excess", "queued", "loading", "serving", "unused", "draining", "cost",
    "held_cost", "idle_cost", "platform_cost", "unused_cost",
)  # fmt: skip
_HOURS: Final = """
INSERT INTO billing_heldhour (tenant_id, bucket, cluster, region, pool, gpu_type, share, project_id, endpoint_id,
    revision_id, queued, loading, serving, idle, draining, held, currency, cost, idle_cost)
SELECT tenant_id, bucket, cluster, region, pool, gpu_type, 1, project_id, endpoint_id, revision_id, 0, 0,
    gpus * 3600 * asked, gpus * 3600 * (1 - asked), 0, gpus * 3600, 'EUR', gpus * 1.25, gpus * 1.25 * (1 - asked)
FROM (
    SELECT world.*, bucket, (extract(hour FROM bucket) >= 8 AND extract(hour FROM bucket) < 8 + %(hours)s
        AND pg_temp.chance('active ' || e || bucket::date) < 0.6)::int AS asked
    FROM generate_series(%(held)s::timestamptz, %(end)s::timestamptz - interval '1 hour', interval '1 hour') AS bucket
    CROSS JOIN world
) AS held;
INSERT INTO billing_clusterhour (bucket, cluster, region, pool, gpu_type, share, seen, held, idle, platform, excess,
    queued, loading, serving, unused, draining, currency, cost, held_cost, idle_cost, platform_cost, unused_cost)
SELECT bucket, cluster, region, pool, gpu_type, 1, held + free + platform, held, free, platform, 0, 0, 0, held * busy,
    held * (1 - busy), 0, 'EUR', (held + free + platform) / 2880, held / 2880, free / 2880, platform / 2880,
    held * (1 - busy) / 2880
FROM (
    SELECT pool.*, bucket, (gpus * 3600)::numeric AS held, ceil(gpus * 0.2) * 3600 AS free,
        ceil(gpus * 0.02) * 3600 AS platform, CASE WHEN extract(hour FROM bucket) >= 8
            AND extract(hour FROM bucket) < 8 + %(hours)s THEN 0.6 ELSE 0 END AS busy
    FROM generate_series(%(start)s::timestamptz, %(end)s::timestamptz - interval '1 hour', interval '1 hour') AS bucket
    CROSS JOIN (SELECT cluster, region, pool, gpu_type, sum(gpus) AS gpus FROM world GROUP BY 1, 2, 3, 4) AS pool
) AS hours;
INSERT INTO billing_clusterday (bucket, cluster, region, pool, gpu_type, share, currency, {sums})
SELECT date_trunc('day', bucket, 'UTC'), cluster, region, pool, gpu_type, share, currency, {summed}
FROM billing_clusterhour GROUP BY 1, 2, 3, 4, 5, 6, 7;
INSERT INTO billing_heldday (tenant_id, bucket, cluster, region, pool, gpu_type, share, project_id, endpoint_id,
    revision_id, queued, loading, serving, idle, draining, held, currency, cost, idle_cost)
SELECT tenant_id, day::timestamp AT TIME ZONE 'UTC', cluster, region, pool, gpu_type, 1, project_id, endpoint_id,
    revision_id, queued, loading, serving, idle, draining, held, asset_currency, asset_cost, idle_asset_cost
FROM billing_endpointday;
INSERT INTO billing_reportday (day, kept_at) SELECT day::date, now()
FROM generate_series(%(start)s::timestamptz, %(end)s::timestamptz - interval '1 day', interval '1 day') AS day
"""

_STATEMENTS: Final = """
INSERT INTO billing_statement (id, created_at, tenant_id, month, state, number, currency, period_start, period_end,
    charges, credits, total, computed_at, inputs_sha256, document_sha256)
SELECT md5('statement ' || n || month)::uuid, now(), id, month::date, 'draft', '', 'EUR', month,
    month + interval '1 month', gpus * 1800, 0, gpus * 1800, now(), '', ''
FROM world_tenant
JOIN (SELECT tenant_id, sum(gpus) AS gpus FROM world GROUP BY 1) AS held ON held.tenant_id = id
CROSS JOIN generate_series(
    date_trunc('month', %(start)s::timestamptz), %(end)s::timestamptz, interval '1 month'
) AS month;
INSERT INTO billing_statementline (id, created_at, tenant_id, statement_id, position, kind, basis, charged, correction,
    service_month, service_start, service_end, project_id, project_name, cost_centre, endpoint_id, endpoint_name, model,
    slo_class, gpu_type, region, sku, description, quantity, unit, unit_price, list_unit_price, amount, list_amount,
    effective_amount, price_id, how)
SELECT gen_random_uuid(), now(), world.tenant_id, statement.id, e, 'gpu_time', 'allocation', true, false,
    statement.month, statement.period_start, statement.period_end, world.project_id, '', '', world.endpoint_id,
    'endpoint-' || e, model,
    slo_class, gpu_type, region, 'GPU ' || gpu_type, 'GPU time', gpus * 720, 'GPU-hour', 2.5, 2.5, gpus * 1800,
    gpus * 1800, gpus * 1800, '', '[]'
FROM world JOIN billing_statement AS statement ON statement.tenant_id = world.tenant_id;
INSERT INTO billing_attainment (id, created_at, tenant_id, endpoint_id, project_id, day, slo_class, availability,
    ttft_p95_ms, itl_p95_ms, credit_percent, requests, failed, hours, ttft_met, itl_met)
SELECT gen_random_uuid(), now(), tenant_id, endpoint_id, project_id, day::date, slo_class, 0.999, 500, 40, 10,
    %(each)s * %(hours)s, 0, %(hours)s, %(hours)s - 1, %(hours)s
FROM generate_series(%(start)s::timestamptz, %(end)s::timestamptz - interval '1 day', interval '1 day') AS day
CROSS JOIN world WHERE pg_temp.chance('active ' || e || day::date) < 0.6
"""

_BIG: Final = (
    "billing_usageday", "billing_usagehour", "billing_endpointday", "billing_heldhour", "billing_clusterhour",
    "billing_heldday", "billing_attainment", "billing_statementline",
)  # fmt: skip


def fill(scale: float, owner_url: str) -> dict[str, Any]:
    """Fill it; give sizes, seconds and the slugs of the largest and a median tenant.

    The year ends with yesterday: today is what the worker would make of it.
    """
    from django.db import connection

    from billing.reports.keeping import sums_make
    from tenants import scope

    begun = time.perf_counter()
    size = Size.of(scale)
    end = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start = end - dt.timedelta(days=DAYS)
    active = size.endpoints * 0.6 * DAYS * BUSY_HOURS
    values = {
        **dataclasses.asdict(size),
        "clusters": CLUSTERS,
        "models": MODELS,
        "types": list(GPU_TYPES),
        "type_count": len(GPU_TYPES),
        "classes": list(CLASSES),
        "start": start,
        "end": end,
        "held": end - dt.timedelta(days=HELD_DAYS),
        "hours": BUSY_HOURS,
        "each": max(20, round(size.segments * 5 / active)),  # five requests for each segment
    }
    day_rows = {"bucket": "day", "share": str(BUSY_HOURS), "more": ""}
    hour_rows = {
        "bucket": "day + hour * interval '1 hour'",
        "share": "1",
        "more": f"CROSS JOIN generate_series(8, {8 + BUSY_HOURS - 1}) AS hour",
    }
    steps = [
        _WORLD,
        _PEOPLE,
        _USED.format(table="billing_usageday", **day_rows),
        _USED.format(table="billing_usagehour", **hour_rows),
        _DAYS,
        _HOURS.format(
            sums=", ".join(_CLUSTER_SUMS), summed=", ".join(f"sum({name})" for name in _CLUSTER_SUMS)
        ),
        _STATEMENTS,
    ]
    with psycopg.connect(owner_url, autocommit=True) as owner:
        _give_defaults(owner)
    with (
        psycopg.connect(owner_url, autocommit=True) as owner,
        _without_indexes(owner),
        scope.platform("make a year of rollups to measure on"),
        connection.cursor() as cursor,
    ):
        cursor.execute("SET LOCAL work_mem = '256MB'")
        cursor.execute("SET LOCAL TIME ZONE 'UTC'")
        cursor.execute(_RANDOM)
        for step in steps:
            cursor.execute(step, values)
            print(f"{time.perf_counter() - begun:6.1f} s", file=sys.stderr, flush=True)
    with scope.platform("make the reports' sums of a year"):
        sums_make(first=start.date(), until=end.date())
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute("VACUUM (ANALYZE)")
        return {**_sizes(owner), **_chosen(owner), "generate_s": time.perf_counter() - begun}


#: What stands in a column that the statements above do not name, by its type.
_DEFAULTS: Final = {
    "character varying": "''", "text": "''", "boolean": "false", "integer": "0", "bigint": "0", "smallint": "0",
    "numeric": "0", "double precision": "0", "jsonb": "'[]'", "ARRAY": "'{}'", "timestamp with time zone": "now()",
}  # fmt: skip


def _give_defaults(owner: psycopg.Connection) -> None:
    """Give every column a default: Django has its own in Python, where the database does not see them."""
    found = owner.execute(
        "SELECT table_name, column_name, data_type FROM information_schema.columns "
        "JOIN information_schema.tables USING (table_schema, table_name) "
        "WHERE table_schema = 'public' AND table_type = 'BASE TABLE' AND is_nullable = 'NO' "
        "AND column_default IS NULL AND is_identity = 'NO' "
        "AND (table_name LIKE 'billing_%' OR table_name LIKE 'tenants_%')"
    ).fetchall()
    for table, column, kind in found:
        if kind in _DEFAULTS:
            owner.execute(f'ALTER TABLE {table} ALTER COLUMN "{column}" SET DEFAULT {_DEFAULTS[kind]}')


@contextmanager
def _without_indexes(owner: psycopg.Connection) -> Iterator[None]:
    """Take the unique constraints off the large tables, and put them back afterwards: that is faster by far."""
    found = owner.execute(
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE contype = 'u' AND conrelid::regclass::text = ANY(%s)",
        [list(_BIG)],
    ).fetchall()
    for table, name, _ in found:
        owner.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    try:
        yield
    finally:
        owner.execute("SET maintenance_work_mem = '1GB'")
        for table, name, definition in found:
            owner.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}")


def _sizes(owner: psycopg.Connection) -> dict[str, Any]:
    rows = owner.execute(
        "SELECT relname, reltuples::bigint FROM pg_class WHERE relname = ANY(%s) ORDER BY 1",
        [[*_BIG, "billing_endpointmonth", "billing_clusterday", "billing_modelday", "billing_statement"]],
    ).fetchall()
    (size,) = owner.execute("SELECT pg_database_size(current_database())").fetchone() or (0,)
    return {f"rows_{name.removeprefix('billing_')}": count for name, count in rows} | {"gib": size / 2**30}


def _chosen(owner: psycopg.Connection) -> dict[str, Any]:
    """Give the tenants with the most endpoints and with a median number, with one endpoint of the largest."""
    owner.execute("SELECT set_config('berth.platform', 'on', false)")
    rows = owner.execute(
        "SELECT tenant.slug, tenant.id::text, count(*) FROM billing_endpointlabel AS label "
        "JOIN tenants_tenant AS tenant ON tenant.id = label.tenant_id WHERE tenant.slug LIKE 'year-%' "
        "GROUP BY 1, 2 ORDER BY 3 DESC, 1"
    ).fetchall()
    largest, median = rows[0], rows[len(rows) // 2]
    endpoint = owner.execute(
        "SELECT endpoint_id::text FROM billing_endpointlabel WHERE tenant_id = %s ORDER BY 1 LIMIT 1",
        [largest[1]],
    ).fetchone()
    return {
        "largest": largest[0],
        "largest_endpoints": largest[2],
        "median": median[0],
        "median_endpoints": median[2],
        "endpoint": endpoint[0] if endpoint else "",
    }


def _estate(pools: int) -> None:
    """Register the clusters whose GPU time is made up, with free GPUs, for what is told of now."""
    from clusters.inventory import services
    from clusters.models import GpuType

    region = services.region_register(
        code="eu-year-1", name="A year", country="DE", zones=["EU"], certifications=[]
    )
    for number in range(CLUSTERS):
        cluster = services.cluster_register(
            name=f"cluster-{number:02}",
            region=region,
            driver="local",
            runtimes=["triton-python"],
            declared=True,
        )
        for gpu_type in GPU_TYPES:
            row = GpuType.objects.get(name=gpu_type)
            services.pool_add(cluster=cluster, name=gpu_type, gpu_type=row, nodes=pools, gpus_per_node=8)


def _admit(email: str, slugs: list[str]) -> None:
    """Make a person an owner of some tenants."""
    from tenants import scope
    from tenants.models import Membership, Role, Tenant, User

    with scope.platform("admit who looks at the pages"):
        user = User.objects.get(email=email)
        for tenant in Tenant.objects.filter(slug__in=slugs):
            Membership.objects.create(tenant=tenant, user=user, role=Role.OWNER)


def main(scale: float, email: str) -> None:
    """Fill the database of the environment and print what was made as JSON; ``email`` may look at it."""
    _estate(max(1, round(25 * scale)))
    made = fill(scale, os.environ["DATABASE_OWNER_URL"])
    _admit(email, [made["largest"], made["median"]])
    print(json.dumps(made))


if __name__ == "__main__":
    django.setup()
    main(float(sys.argv[1]), sys.argv[2])
