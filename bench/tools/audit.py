"""``python -m bench.tools.audit ENTRIES``: write and verify a chain, and measure what the triggers cost.

Runs in a process of its own because Django is set up for one database.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import django
import psycopg
from psycopg import sql

AT_A_TIME: Final = 10_000
ROUNDS: Final = 8
MINTED: Final = 40
TOUCHED: Final = 500

_NOTES = """
SELECT berth_audit_note(%s, 'bench.act', 'thing', md5(n::text), 'thing ' || n, jsonb_build_object('round', n),
                        '{"kind": "person", "id": "7", "name": "bench@example.org", "address": "192.0.2.7"}')
FROM generate_series(1, %s) AS n
"""


def main(entries: int) -> None:
    """Print the figures as one line of JSON."""
    django.setup()
    from tenants.services import tenant_open

    tenant = tenant_open(
        name="Audit",
        slug="audit-bench",
        owner_email="audit-bench@example.org",
        password="a long enough secret",
    )
    # The triggers first: on a database that is still small, as their share is then largest.
    figures = {**_mint(tenant), **_touch(tenant), **_chain(tenant, entries)}
    print(json.dumps(figures))


def _chain(tenant: Any, entries: int) -> dict[str, float | int]:
    from django.db import connection

    from tenants import scope
    from tenants.audit.verifying import verify_stored

    begun = time.perf_counter()
    for first in range(0, entries, AT_A_TIME):
        with scope.tenant(tenant.id), connection.cursor() as cursor:
            cursor.execute(_NOTES, [tenant.id, min(AT_A_TIME, entries - first)])
            cursor.fetchall()
    written = time.perf_counter() - begun
    before = _peak_mib()
    begun = time.perf_counter()
    verdict = verify_stored(str(tenant.id))
    took = time.perf_counter() - begun
    if verdict.broken:
        raise RuntimeError(verdict.broken.message)
    return {
        "entries": verdict.entries,
        "written_per_s": entries / written,
        "verify_s": took,
        "verified_per_s": verdict.entries / took,
        "verify_for_a_million_s": took / verdict.entries * 1_000_000,
        "peak_before_mib": before,
        "peak_after_mib": _peak_mib(),
    }


def _mint(tenant: Any) -> dict[str, float]:
    from tenants import scope
    from tenants.keys import key_mint
    from tenants.models import Project

    with scope.tenant(tenant.id):
        project = Project.objects.get()

    def mint() -> None:
        with scope.tenant(tenant.id):
            key_mint(name="bench", key_scope="inference", project=project)

    return _compare("mint", "tenants_apikey", mint, MINTED)


def _touch(tenant: Any) -> dict[str, float]:
    """Writes that no entry comes of: what the reconciler does all the time, on a table with many audited columns."""
    from django.utils import timezone

    from tenants import scope
    from tenants.models import Tenant

    def touch() -> None:
        with scope.tenant(tenant.id):
            Tenant.objects.filter(id=tenant.id).update(created_at=timezone.now())

    return _compare("unaudited_update", "tenants_tenant", touch, TOUCHED)


def _compare(name: str, table: str, work: Callable[[], None], times: int) -> dict[str, float]:
    """Time ``work`` with the table's trigger and without, in turns; medians in ms, and their ratio."""
    took: dict[bool, list[float]] = {True: [], False: []}
    with _owner() as owner:
        for round_ in range(2 * ROUNDS):
            audited = round_ % 2 == 0
            verb = sql.SQL("ENABLE" if audited else "DISABLE")
            owner.execute(
                sql.SQL("ALTER TABLE {} {} TRIGGER berth_audit").format(sql.Identifier(table), verb)
            )
            for _ in range(times):
                begun = time.perf_counter()
                work()
                took[audited].append(time.perf_counter() - begun)
        owner.execute(sql.SQL("ALTER TABLE {} ENABLE TRIGGER berth_audit").format(sql.Identifier(table)))
    with_it, without = (statistics.median(took[audited]) * 1000 for audited in (True, False))
    return {f"{name}_audited_ms": with_it, f"{name}_alone_ms": without, f"{name}_ratio": with_it / without}


def _owner() -> psycopg.Connection[Any]:
    from django.conf import settings

    found = settings.DATABASE_OWNER
    return psycopg.connect(
        host=found["HOST"], port=found["PORT"], user=found["USER"], password=found["PASSWORD"],
        dbname=found["NAME"], autocommit=True,
    )  # fmt: skip


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main(int(sys.argv[1]))
