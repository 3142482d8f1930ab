"""``python -m bench.tools.statements TENANTS``: fill a month of rollups, compute and close its statements, measured.

Runs in a process of its own because Django is set up for one database.
"""

from __future__ import annotations

import datetime as dt
import json
import resource
import sys
import time
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Final

import django

MONTH: Final = dt.date(2026, 4, 1)
DAYS: Final = 30
SHARED: Final = 4
ZONES: Final = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata")
KINDS: Final = ("input_tokens", "output_tokens", "cached_tokens")
WORKERS: Final = 2

_SKUS = """
CREATE TEMPORARY TABLE sku ON COMMIT DROP AS
SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::text[], %s::timestamptz[])
    AS sku (tenant_id, project_id, endpoint_id, model, since)
"""
_ROWS = """
INSERT INTO {table} (tenant_id, bucket, project_id, key_id, endpoint_id, model, slo_class, region, outcome, requests,
    input_tokens, output_tokens, cached_tokens, input_tokens_squared, output_tokens_squared, ttft_ms, itl_ms{further})
SELECT tenant_id, bucket, project_id, project_id, endpoint_id, model, 'standard', 'de-1', 'completed', 40 * {hours},
    17713 * {hours}, 9173 * {hours}, 2311 * {hours}, 0, 0, '{{}}', '{{}}'{values}
FROM sku CROSS JOIN generate_series(%s::timestamptz, %s::timestamptz, {step}) AS bucket
WHERE bucket + {step} > since
"""


def main(count: int) -> dict[str, float | int]:
    """Give the figures of one run over ``count`` tenants."""
    from django.db import connection

    from billing.ledger import ledger_check
    from billing.models import Statement, StatementLine, StatementNumber
    from billing.statements import statement_run
    from tenants import scope

    figures: dict[str, float | int] = {"tenants": count}

    def timed(name: str, work: Callable[[], object]) -> None:
        begun = time.perf_counter()
        work()
        figures[f"{name}_s"] = time.perf_counter() - begun

    def run(now: str, *, close: bool = False) -> Callable[[], object]:
        moment = dt.datetime.fromisoformat(now).replace(tzinfo=dt.UTC)
        return lambda: statement_run(month=MONTH, now=moment, close=close, workers=WORKERS)

    timed("generated", lambda: _fill(count))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    timed("drafts_first", run("2026-04-28"))
    timed("drafts_unchanged", run("2026-04-28"))
    timed("grace", run("2026-05-02"))
    timed("closing", run("2026-05-05", close=True))
    figures["closing_per_s"] = count / figures["closing_s"]
    with scope.platform("count what was measured"):
        figures["final"] = Statement.objects.filter(state="final").count()
        figures["lines"] = StatementLine.objects.count()
        timed("ledger_check", lambda: _require(not ledger_check(), "the ledger does not add up"))
    _require(figures["final"] >= count, "not every statement was closed")
    _require(StatementNumber.objects.get(month=MONTH).last == figures["final"], "numbers have gaps")
    figures["python_cpu_s"] = sum(
        resource.getrusage(whose).ru_utime for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    figures["python_most_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return figures


def _require(held: bool, otherwise: str) -> None:
    if not held:
        raise RuntimeError(otherwise)


def _fill(count: int) -> None:
    from billing.models import Allocation, EndpointLabel, Price, SharedPeriod
    from tenants import scope
    from tenants.models import Project, Tenant

    began = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
    with scope.platform("fill a database to measure"):
        tenants = [
            Tenant(
                name=f"Tenant {number}",
                slug=f"t{number}",
                currency="EUR",
                time_zone=ZONES[number % len(ZONES)],
            )
            for number in range(count + 1)
        ]  # the first owns what is shared
        Tenant.objects.bulk_create(tenants, batch_size=1_000)
        projects = [
            Project(tenant=tenant, name="Default", slug="default", cost_centre="4711") for tenant in tenants
        ]
        Project.objects.bulk_create(projects, batch_size=1_000)
        houses = [uuid.uuid4() for _ in range(SHARED)]
        own = [uuid.uuid4() for _ in projects]
        SharedPeriod.objects.bulk_create(
            SharedPeriod(
                owner=tenants[0], endpoint_id=house, name=f"house-{number}", model=f"model-{number}",
                slo_class="standard", started_at=began,
            )
            for number, house in enumerate(houses)
        )  # fmt: skip
        held = [(projects[0], house) for house in houses] + list(zip(projects[1:], own[1:], strict=True))
        EndpointLabel.objects.bulk_create(
            (
                EndpointLabel(
                    tenant_id=project.tenant_id, project=project, endpoint_id=endpoint_id, name="chat", model="own",
                    slo_class="standard",
                )
                for project, endpoint_id in held
            ),
            batch_size=1_000,
        )  # fmt: skip
        Allocation.objects.bulk_create(
            (
                Allocation(
                    tenant_id=project.tenant_id, project=project, endpoint_id=endpoint_id, revision_id=uuid.uuid4(),
                    replica_id=str(uuid.uuid4()), cluster="berlin", region="de-1", gpu_type="h100_sxm", gpus=2,
                    started_at=_begins(project.tenant.time_zone),
                )
                for project, endpoint_id in held
            ),
            batch_size=1_000,
        )  # fmt: skip
        prices = [Price(kind="gpu_hour", amount=Decimal("3.60"), currency="EUR", effective_from=began)]
        prices += [
            Price(kind=kind, amount=Decimal("0.57"), currency="EUR", effective_from=began) for kind in KINDS
        ]
        Price.objects.bulk_create(prices)
    _fill_usage(projects[1:], own[1:], houses)


def _begins(zone: str) -> dt.datetime:
    """Give the first moment of the month in a zone: nothing happens before."""
    from billing.rating.periods import month_of

    return month_of(MONTH.year, MONTH.month, zone).start


def _fill_usage(projects: list, own: list[uuid.UUID], houses: list[uuid.UUID]) -> None:
    from django.db import connection

    from tenants import scope

    skus = [
        (
            project.tenant_id,
            project.id,
            endpoint_id,
            "own" if place == 0 else f"model-{place - 1}",
            _begins(project.tenant.time_zone),
        )
        for project, mine in zip(projects, own, strict=True)
        for place, endpoint_id in enumerate([mine, *houses])
    ]
    for number in range(-1, DAYS + 1):  # months of other zones reach into the days before and after
        day = dt.datetime.combine(MONTH, dt.time(), dt.UTC) + dt.timedelta(days=number)
        with scope.platform("fill a database to measure"), connection.cursor() as cursor:
            cursor.execute(_SKUS, [list(column) for column in zip(*skus, strict=True)])
            for table, hours, step, further, values in (
                ("billing_usagehour", 1, "interval '1 hour'", "", ""),
                ("billing_usageday", 24, "interval '1 day'", ", asked_hours", ", 16777215"),
            ):
                statement = _ROWS.format(table=table, hours=hours, step=step, further=further, values=values)
                cursor.execute(statement, [day, day + dt.timedelta(hours=23)])


if __name__ == "__main__":
    django.setup()
    print(json.dumps(main(int(sys.argv[1]))))
