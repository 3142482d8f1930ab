"""Data from before money was kept comes through the migrations, and what ran then is charged rightly after them."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import uuid
from decimal import Decimal

import pytest
from django.db import connection
from django.db.migrations.loader import MigrationLoader

from billing.models import (
    Allocation,
    Budget,
    GpuClaim,
    LateChange,
    Price,
    SharedPeriod,
    Statement,
    UsageDay,
    UsageSegment,
)  # fmt: skip
from clusters.models import Endpoint
from embedded.postgres import Postgres
from tenants import scope
from tests import databases

BEFORE = [("billing", "0006_routes"), ("clusters", "0011_tool_parser"), ("tenants", "0004_gateway_policies")]
MAY = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
NOON = MAY + dt.timedelta(days=9, hours=12)
D = Decimal


def migrate(name: str, *target: str) -> None:
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "portal.settings.test",
        "DATABASE_URL": Postgres(databases.data_dir()).app_url(name),
        "DATABASE_OWNER_URL": databases.owner_url(name),
    }
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "-v0", "--skip-checks", *target],
        cwd=databases.ROOT, env=environment, check=True, timeout=300,
    )  # fmt: skip


@pytest.fixture
def old_db(django_db_setup, django_db_blocker):
    """A database with the schema of before, as the default connection; gives its name."""
    name = f"upgrade_{os.getpid()}"
    postgres = Postgres(databases.data_dir())
    postgres.drop_database(name)
    postgres.create_database(name)
    for target in BEFORE:
        migrate(name, *target)
    before = connection.settings_dict["NAME"]
    with django_db_blocker.unblock():
        connection.close()
        connection.settings_dict["NAME"] = name
        try:
            yield name
        finally:
            connection.close()
            connection.settings_dict["NAME"] = before
    databases.drop(name)


def least(kind_of, /, **facts):
    """Make a row with whatever its columns must have."""
    for field in kind_of._meta.fields:
        if field.name in facts or field.attname in facts or field.has_default() or field.null:
            continue
        kind = field.get_internal_type()
        if kind in ("CharField", "TextField", "SlugField"):
            facts[field.name] = ""
        elif kind == "DateTimeField":
            facts[field.name] = NOON
        elif kind.endswith("IntegerField"):
            facts[field.name] = 1
        elif kind == "JSONField":
            facts[field.name] = {}
        elif kind == "ArrayField":
            facts[field.name] = []
        elif kind == "DecimalField":
            facts[field.name] = 1
    return kind_of.objects.create(**facts)


def fill() -> dict[str, uuid.UUID]:
    """Write rows as there were, in every table that changes."""
    apps = MigrationLoader(connection).project_state(BEFORE).apps
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('berth.platform', 'on', false)")
    new = uuid.uuid4

    def make(label, /, **facts):
        kind_of = apps.get_model(label)
        if kind_of._meta.pk.name == "id" and kind_of._meta.pk.get_internal_type() == "UUIDField":
            facts.setdefault("id", new())
        return least(kind_of, **facts)

    tenant = make("tenants.Tenant", slug="acme", name="Acme", time_zone="Europe/Berlin", currency="EUR")
    own = {"tenant_id": tenant.id}
    project = make("tenants.Project", **own, slug="default", name="Default")
    region = make("clusters.Region", code="de-1", name="de-1", country="DE")
    cluster = make("clusters.Cluster", name="berlin", region=region, driver="local")
    gpu = make("clusters.GpuType", name="h100_sxm")
    pool = make("clusters.NodePool", cluster=cluster, name="h100", gpu_type=gpu)
    model = make("clusters.CatalogModel", name="guide")
    slo = make("clusters.SloClass", name="standard")
    found = {"tenant": tenant.id}
    for name, shared in (("chat", False), ("sold", True)):
        endpoint = make(
            "clusters.Endpoint", **own, project=project, name=name, model=model, slo_class=slo, shared=shared
        )
        found[name] = endpoint.id
        for number, retired in ((1, NOON), (2, None)):
            revision = make(
                "clusters.Revision", **own, endpoint=endpoint, number=number, cluster=cluster, pool=pool,
                gpu_type="h100_sxm", tensor_parallel=2, pipeline_parallel=1, replicas=3, price_factor=D("1.5"),
                retired_at=retired, deployment=f"{name}-{number}",
            )  # fmt: skip
        make(
            "billing.Allocation", **own, project=project, endpoint_id=endpoint.id, revision_id=revision.id,
            replica_id=name, cluster="berlin", region="de-1", gpu_type="h100_sxm", gpus=2, started_at=MAY,
        )  # fmt: skip
        make("billing.EndpointLabel", **own, project=project, endpoint_id=endpoint.id, name=name, model="guide",
             slo_class="standard")  # fmt: skip
    event = make(
        "clusters.EndpointEvent", **own, endpoint_id=found["sold"], kind="shared", message="Published"
    )
    apps.get_model("clusters.EndpointEvent").objects.filter(id=event.id).update(created_at=NOON)
    used = {
        **own, "project_id": project.id, "endpoint_id": found["chat"], "key_id": new(), "model": "guide",
        "slo_class": "standard", "region": "de-1", "outcome": "completed", "requests": 3, "input_tokens": 100,
    }  # fmt: skip
    make("billing.UsageHour", **used, bucket=NOON)
    make("billing.UsageDay", **used, bucket=NOON - dt.timedelta(hours=12))
    make("billing.UsageMinutes", **own, endpoint_id=found["chat"], bucket=NOON, outcome="completed",
         requests=[0] * 60)  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("SELECT berth_usage_partition(%s)", [NOON.date()])
        cursor.execute(
            "INSERT INTO billing_usagesegment (tenant_id, day, gateway, sequence, key_id, project_id, endpoint_id,"
            " model, slo_class, region, outcome, window_start, window_end, requests, input_tokens, output_tokens,"
            " cached_tokens, input_tokens_squared, output_tokens_squared, ttft_ms, itl_ms, received_at, xact)"
            " VALUES (%s, %s, 'gw', 1, %s, %s, %s, 'guide', 'standard', 'de-1', 'completed', %s, %s, 3, 100, 0, 0,"
            " 4000, 0, '{}', '{}', %s, 1)",
            [tenant.id, NOON.date(), new(), project.id, found["chat"], NOON, NOON, NOON],
        )
    make("billing.RollupMark", name="usage", xact=5)
    statement = make("billing.Statement", **own, month=MAY.date(), currency="EUR", period_start=MAY,
                     period_end=NOON, total=D("3.60"))  # fmt: skip
    make("billing.StatementLine", **own, statement=statement, project=project, endpoint_id=found["chat"],
         charged=True, basis="allocation", amount=D("3.60"))  # fmt: skip
    make("billing.Price", kind="gpu_hour", amount=D("3.60"), currency="EUR", effective_from=MAY)
    budget = make("billing.Budget", **own, name="All", owner_kind="tenant", owner_id=tenant.id, unit="money",
                  currency="EUR", limit=100, period="month", alert_percents=[50])  # fmt: skip
    window = make("billing.BudgetWindow", **own, budget=budget, start=MAY, end=NOON, limit=100, granted=10)
    make("billing.BudgetLease", **own, window=window, lessee="gw/1", granted=10)
    make("billing.BudgetAlert", **own, window=window, percent=50, reached_at=NOON)
    return found


def test_an_installation_with_data_is_upgraded(old_db):
    found = fill()
    connection.close()
    migrate(old_db)
    with scope.platform("a test"):
        sold = SharedPeriod.objects.get()
        assert (sold.endpoint_id, sold.owner_id, sold.name) == (found["sold"], found["tenant"], "sold")
        assert (sold.model, sold.slo_class, sold.started_at, sold.ended_at) == (
            "guide",
            "standard",
            NOON,
            None,
        )
        assert {
            (claim.endpoint_id, claim.region, claim.gpu_type, claim.gpus, claim.price_factor)
            for claim in GpuClaim.objects.all()
        } == {(found[name], "de-1", "h100_sxm", 6, D("1.5")) for name in ("chat", "sold")}
        assert Endpoint.objects.count() == 2
        assert Allocation.objects.filter(share=1, ended_at=None).count() == 2
        assert UsageDay.objects.get().asked_hours == 1 << NOON.hour
        assert UsageSegment.objects.get().event == ""
        assert (Price.objects.get().tenant, Budget.objects.get().basis) == (None, "tokens")
        assert not Statement.objects.exists()
        assert not LateChange.objects.exists()
