"""``python -m bench.tools.row_security ROWS``: list pages' own queries, bound by row-level security and not, measured.

Runs in a process of its own because Django is set up for one database.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

import django
import psycopg

from bench.tools.figures import Figures, quantile

SLUG: Final = "bench"
TENANTS: Final = 100
ROUNDS: Final = 200
PAGES: Final = {"endpoints": "", "keys": "keys", "usage": "usage?range=30d"}

#: A row as it is, again and again, under other ids and of other tenants.
_COPIES: Final = """
INSERT INTO {table}
SELECT copy.*
FROM {table} AS origin
CROSS JOIN generate_series(1, %(each)s) AS number
CROSS JOIN (SELECT id, row_number() OVER () AS place FROM tenants_tenant) AS tenant
CROSS JOIN LATERAL jsonb_populate_record(
    NULL::{table}, to_jsonb(origin) || jsonb_build_object('tenant_id', tenant.id, {own})) AS copy
WHERE origin.{key} = %(origin)s
"""
_OWN: Final = {
    "clusters_endpoint": "'id', gen_random_uuid(), 'name', 'copy-' || tenant.place || '-' || number",
    "tenants_apikey": "'id', gen_random_uuid(), 'digest', encode(sha256((tenant.id::text || number)::bytea), 'hex')",
    "billing_usagehour": "'id', 1000000 + tenant.place * 100000 + number, 'endpoint_id', gen_random_uuid(), "
    "'bucket', date_trunc('hour', now()) - number * interval '1 hour'",
}

Statement = tuple[str, Any]


def main(rows: int) -> Figures:
    """Give the figures of one run over tables of ``rows`` rows."""
    from tenants.models import User
    from tenants.services import tenant_create

    begun = time.perf_counter()
    superuser = psycopg.connect(os.environ["BENCH_SUPERUSER_URL"], autocommit=True)
    owner = User.objects.create_user("bench@example.org", secrets.token_hex(20))
    tenant = tenant_create(name="Bench", slug=SLUG, owner=owner, gpus=8)
    tenant_id = str(tenant.id)
    _fill(superuser, tenant, rows)
    figures: Figures = {"rows": rows, "tenants": TENANTS, "generate_s": time.perf_counter() - begun}
    application = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
    asked = {name: _statements(owner, path) for name, path in PAGES.items()}
    for name, statements in asked.items():
        bound, free = [], []
        for _ in range(ROUNDS):
            bound.append(_timed(application, tenant_id, statements))
            free.append(_timed(superuser, tenant_id, statements))
        figures[f"{name}_statements"] = len(statements)
        figures[f"{name}_with_p50_ms"] = quantile(bound, 0.5)
        figures[f"{name}_without_p50_ms"] = quantile(free, 0.5)
        figures[f"{name}_ratio"] = quantile(bound, 0.5) / quantile(free, 0.5)
    return figures


def _fill(superuser: psycopg.Connection[Any], tenant: Any, rows: int) -> None:
    """Make one row in each table and copy it for every tenant."""
    from tenants import scope
    from tenants.keys import key_mint
    from tenants.models import KeyScope, Project

    with scope.tenant(tenant.id):
        project = Project.objects.order_by("created_at").first()
        key, _ = key_mint(name="bench", key_scope=KeyScope.INFERENCE, project=project)
        endpoint_id = _endpoint(project)
    with superuser.transaction():
        # Neither triggers nor foreign keys: what is copied is sound, and no act that would be audited.
        superuser.execute("SET LOCAL session_replication_role = replica")
        superuser.execute(
            "INSERT INTO tenants_tenant SELECT (jsonb_populate_record(NULL::tenants_tenant, to_jsonb(origin) || "
            "jsonb_build_object('id', gen_random_uuid(), 'slug', 'copy-' || number))).* "
            "FROM tenants_tenant AS origin, generate_series(1, %s) AS number WHERE origin.id = %s",
            [TENANTS - superuser.execute("SELECT count(*) FROM tenants_tenant").fetchone()[0], tenant.id],
        )
        superuser.execute(
            "INSERT INTO billing_usagehour (tenant_id, bucket, project_id, key_id, endpoint_id, model, slo_class, "
            "region, outcome, requests, input_tokens, output_tokens, cached_tokens, input_tokens_squared, "
            "output_tokens_squared, ttft_ms, itl_ms) VALUES (%s, date_trunc('hour', now()), %s, %s, %s, "
            "'berth-docs-ngram', 'standard', 'eu-de-1', 'completed', 40, 17000, 9000, 2000, 0, 0, '{}', '{}')",
            [tenant.id, project.id, key.id, endpoint_id],
        )
        for table, column, origin in (
            ("clusters_endpoint", "id", endpoint_id),
            ("tenants_apikey", "id", key.id),
            ("billing_usagehour", "endpoint_id", endpoint_id),
        ):
            statement = _COPIES.format(table=table, own=_OWN[table], key=column)
            superuser.execute(statement, {"each": rows // TENANTS, "origin": origin})
    superuser.execute("VACUUM (ANALYZE)")


def _endpoint(project: Any) -> Any:
    from clusters.endpoints.planning import OrderTerms
    from clusters.endpoints.services import endpoint_order
    from clusters.models import CatalogModel, SloClass

    terms = OrderTerms(
        model=CatalogModel.objects.get(name="berth-docs-ngram"),
        slo_class=SloClass.objects.get(name="standard"),
        residency="global", input_tokens=100, output_tokens=50,
    )  # fmt: skip
    return endpoint_order(project=project, name="bench", terms=terms, actor="bench").id


def _statements(owner: Any, path: str) -> list[Statement]:
    """Open a page and give what it asked of tenants' tables."""
    from django.db import connection
    from django.test import Client

    browser = Client(headers={"host": "127.0.0.1"})
    browser.force_login(owner)
    found: list[Statement] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("SELECT") and "tenant_id" in sql and "FOR " not in sql:
            found.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        answer = browser.get(f"/t/{SLUG}/{path}")
    if answer.status_code != 200 or not found:
        raise RuntimeError(
            f"the page {path!r} answered {answer.status_code} and asked {len(found)} statements"
        )
    return found


def _timed(connection: psycopg.Connection[Any], tenant_id: str, statements: Sequence[Statement]) -> float:
    begun = time.perf_counter()
    with connection.transaction():
        connection.execute("SELECT set_config('berth.tenant', %s, true)", [tenant_id])
        for sql, params in statements:
            connection.execute(sql, params).fetchall()
    return (time.perf_counter() - begun) * 1000


if __name__ == "__main__":
    django.setup()
    print(json.dumps(main(int(sys.argv[1]))))
