"""Statements as CSV for spreadsheets."""

from __future__ import annotations

import csv
import io
from decimal import Decimal

import pytest

from billing.documents.lines_csv import statement_csv
from billing.models import StatementLine
from tenants import scope
from tests.billing.statements import Draft, Kind, every_kind
from tests.factories import default_project, make_tenant


@pytest.fixture
def tenant(db):
    return make_tenant("acme", time_zone="Europe/Berlin")


def read(statement) -> list[dict[str, str]]:
    with scope.tenant(statement.tenant_id):
        return list(csv.DictReader(io.StringIO(statement_csv(statement), newline="")))


def test_every_field_of_a_line_is_there(tenant):
    rows = read(every_kind(tenant, default_project(tenant)))
    named = {"position": "line", "project_name": "project", "endpoint_name": "endpoint"}
    fields = [field.attname for field in StatementLine._meta.fields]
    told = {named.get(name, name) for name in fields} - {"id", "tenant_id", "statement_id", "created_at"}
    assert told <= set(rows[0])


def test_charged_lines_add_up(tenant):
    statement = every_kind(tenant, default_project(tenant))
    rows = read(statement)
    assert sum(Decimal(row["amount"]) for row in rows if row["charged"] == "yes") == statement.total
    assert {row["statement"] for row in rows} == {"2026-05-000001"}
    late = [row for row in rows if row["correction"] == "yes"]
    assert {(row["month"], row["service_month"], row["service_start"]) for row in late} == {
        ("2026-05", "2026-04", "2026-03-31T22:00:00Z")
    }
    assert late[1]["amount"] == "-1.8000"


@pytest.mark.parametrize("text", ["=cmd", "+1", "-1", "@x", "\tx", "\rx"])
def test_no_text_is_a_formula(tenant, text):
    draft = Draft(tenant, default_project(tenant))
    draft.put(Kind.GPU_TIME, "1", "1", "1", endpoint_name=text, cost_centre=text, description=text)
    (row,) = read(draft.write())
    assert {row[name] for name in ("endpoint", "cost_centre", "description")} == {f"'{text}"}
