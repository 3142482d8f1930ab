"""Statements through the REST API: the tenant's own, and everybody's for operators."""

from __future__ import annotations

import csv
import io
import uuid
from decimal import Decimal

import pyarrow.parquet as pq
import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from billing.models import Statement
from tenants.models import PlatformRole
from tests.billing.prices import hold, label, list_prices, utc
from tests.billing.statements import Draft, Kind, every_kind
from tests.billing.usage import add_usage
from tests.factories import default_project, make_tenant, make_user, management_key

pytestmark = pytest.mark.django_db
FILES = ["pdf", "csv", "focus.csv", "focus.parquet"]


@pytest.fixture
def tenant():
    list_prices()
    return make_tenant("acme", name="Acme", time_zone="Europe/Berlin")


@pytest.fixture
def statement(tenant):
    return every_kind(tenant, default_project(tenant))


@pytest.fixture
def operator():
    caller = APIClient()
    caller.force_login(make_user("operator@berth.example", platform_role=PlatformRole.OPERATOR))
    return caller


def client(tenant, role: str = "owner") -> APIClient:
    caller = APIClient()
    caller.credentials(HTTP_AUTHORIZATION=f"Bearer {management_key(tenant, role)}")
    return caller


def get(caller: APIClient, path: str, **query):
    answer = caller.get(f"/api/v1/{path}", query)
    assert answer.status_code == 200, answer.content
    return answer.json()


def content(caller: APIClient, path: str) -> bytes:
    answer = caller.get(f"/api/v1/{path}")
    assert answer.status_code == 200, answer
    body = b"".join(answer.streaming_content)
    assert answer["Content-Length"] == str(len(body))
    return body


def test_final_statement_and_what_it_is_made_of(tenant, statement):
    owner = client(tenant)
    found = get(owner, f"statements/{statement.id}")
    assert (found["month"], found["state"], found["number"]) == ("2026-05", "final", "2026-05-000001")
    assert (found["charges"], found["credits"], found["total"]) == ("2244.8000", "-62.5000", "2182.3000")
    assert (found["line_count"], found["document_sha256"]) == (14, "2" * 64)
    assert sum(Decimal(part["amount"]) for part in found["summary"]) == statement.total
    assert found["summary"][1] == {"label": "Idle GPU time", "amount": "45.0000"}
    (listed,) = get(owner, "statements")["results"]
    assert listed == {name: found[name] for name in found if name not in ("summary", "line_count")}


def test_lines_come_by_the_page_in_their_order(tenant, statement):
    owner = client(tenant)
    first = get(owner, f"statements/{statement.id}/lines", page_size=8)
    second = owner.get(first["next"]).json()
    assert second["next"] is None
    lines = first["results"] + second["results"]
    assert [line["position"] for line in lines] == list(range(1, 15))
    assert sum(Decimal(line["amount"]) for line in lines if line["charged"]) == statement.total
    late = get(owner, f"statements/{statement.id}/lines", correction="true")["results"]
    assert {line["service_month"] for line in late} == {"2026-04"}
    idle = get(owner, f"statements/{statement.id}/lines", kind="idle_gpu_time")["results"]
    assert [line["quantity"] for line in idle] == ["44.0000000000", "12.5000000000"]
    assert len(get(owner, f"statements/{statement.id}/lines", charged="false")["results"]) == 3


def test_downloads_agree(tenant, statement):
    owner = client(tenant)
    base = f"statements/{statement.id}"
    assert content(owner, f"{base}/pdf").startswith(b"%PDF-")
    lines = list(csv.DictReader(io.StringIO(content(owner, f"{base}/csv").decode())))
    assert sum(Decimal(row["amount"]) for row in lines if row["charged"] == "yes") == statement.total
    focus = list(csv.DictReader(io.StringIO(content(owner, f"{base}/focus.csv").decode())))
    assert sum(Decimal(row["BilledCost"]) for row in focus) == statement.total
    table = pq.read_table(io.BytesIO(content(owner, f"{base}/focus.parquet")))
    assert sum(table["BilledCost"].to_pylist()) == statement.total
    named = owner.get(f"/api/v1/{base}/focus.parquet")["Content-Disposition"]
    assert named == 'attachment; filename="focus-acme-2026-05.parquet"'


def test_month_that_runs_is_drawn_as_it_stands(tenant):
    project = default_project(tenant)
    chat = label(project, "chat")
    hold(project, chat, "2026-05-03T09:00", "2026-05-03T11:00")
    add_usage(project, at=utc("2026-05-03T09:30"), endpoint_id=chat, output_tokens=2_000_000)
    owner = client(tenant)
    drawn = get(owner, "statements/current", month="2026-05")
    assert (drawn["state"], drawn["number"], drawn["total"]) == ("grace", "", "7.2000")
    lines = get(owner, f"statements/{drawn['id']}/lines")["results"]
    assert sum(Decimal(line["amount"]) for line in lines if line["charged"]) == Decimal("7.20")
    assert get(owner, "statements/current")["month"] == f"{timezone.now():%Y-%m}"


def test_final_month_is_given_as_it_is(tenant, statement):
    assert get(client(tenant), "statements/current", month="2026-05")["id"] == str(statement.id)


def test_looking_at_a_month_in_which_nothing_happened_makes_no_statement(tenant):
    owner = client(tenant)
    answer = owner.get("/api/v1/statements/current", {"month": "2001-01"})
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
    assert "nothing was held or used" in answer.json()["detail"]
    assert get(owner, "statements")["results"] == []


def test_newest_month_comes_first(tenant, statement):
    later = Draft(tenant, default_project(tenant), month=utc("2026-06-01").date())
    later.put(Kind.GPU_TIME, "1", "1", "1")
    later.write(state=Statement.State.GRACE)
    owner = client(tenant)
    assert [each["month"] for each in get(owner, "statements")["results"]] == ["2026-06", "2026-05"]
    assert [each["month"] for each in get(owner, "statements", state="final")["results"]] == ["2026-05"]


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("statements/current", {"month": "2026-13"}, "month"),
        ("statements/current", {"month": "2999-01"}, "month"),
        ("statements/current", {"month": "0001-01"}, "month"),
        ("statements", {"state": "lost"}, "state"),
        ("statements/{id}/lines", {"kind": "magic"}, "kind"),
        ("statements/{id}/lines", {"colour": "red"}, "colour"),
        ("statements/{id}/lines", {"page_size": "0"}, "page_size"),
    ],
)
def test_wrong_parameter_is_named(tenant, statement, path, query, field):
    answer = client(tenant).get(f"/api/v1/{path.format(id=statement.id)}", query)
    assert answer.status_code == 422, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    assert field in answer.json()["errors"]


def paths(statement) -> list[str]:
    base = f"/api/v1/statements/{statement.id}"
    return [base, f"{base}/lines", *(f"{base}/{kind}" for kind in FILES)]


def test_who_may_read(tenant, statement):
    for path in ["/api/v1/statements", "/api/v1/statements/current", *paths(statement)]:
        for role, status in (("owner", 200), ("developer", 200), ("billing", 200), ("viewer", 403)):
            assert client(tenant, role).get(path).status_code == status, (path, role)
        assert APIClient().get(path).status_code == 401


def test_nothing_can_be_written(tenant, statement):
    owner = client(tenant)
    for path in ["/api/v1/statements", "/api/v1/statements/current", *paths(statement)]:
        for method in ("post", "put", "patch", "delete"):
            assert getattr(owner, method)(path, {}).status_code == 405, (method, path)


def test_other_tenants_statement_reads_as_missing(tenant, statement):
    stranger = client(make_tenant())
    missing = stranger.get(f"/api/v1/statements/{uuid.uuid4()}")
    for path in paths(statement):
        answer = stranger.get(path)
        assert (answer.status_code, answer.json()["detail"]) == (404, missing.json()["detail"]), path
    assert get(stranger, "statements")["results"] == []


def test_operators_see_all_tenants_of_a_month(tenant, statement, operator):
    other = make_tenant("zenith")
    every_kind(other, default_project(other), number="2026-05-000002")
    found = get(operator, "tenant-statements", month="2026-05")["results"]
    assert {(each["tenant"], each["number"], each["total"]) for each in found} == {
        ("acme", "2026-05-000001", "2182.3000"),
        ("zenith", "2026-05-000002", "2182.3000"),
    }
    assert get(operator, "tenant-statements", month="2026-04")["results"] == []
    (one,) = get(operator, "tenant-statements", tenant="acme")["results"]
    assert get(operator, f"tenant-statements/{one['id']}")["line_count"] == 14
    for kind in FILES:
        assert content(operator, f"tenant-statements/{one['id']}/{kind}")
    bad = operator.get("/api/v1/tenant-statements", {"month": "May"})
    assert (bad.status_code, list(bad.json()["errors"])) == (422, ["month"])


def test_operators_door_is_for_operators(tenant, statement):
    for path in (
        "tenant-statements",
        f"tenant-statements/{statement.id}",
        f"tenant-statements/{statement.id}/pdf",
    ):
        assert client(tenant).get(f"/api/v1/{path}").status_code == 404
        assert APIClient().get(f"/api/v1/{path}").status_code == 401
