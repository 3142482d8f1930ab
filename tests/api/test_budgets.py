"""Budgets through the REST API."""

from __future__ import annotations

import datetime as dt
import uuid
import zoneinfo

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from billing.budgets import ledger
from billing.models import Budget, BudgetWindow
from gateway import contract
from tenants import scope
from tenants.keys import key_mint
from tenants.models import KeyScope, Role, Tenant
from tenants.models.people import PlatformRole
from tests.api.conftest import client_of
from tests.api.contract import API, EditContract, assert_problem
from tests.estate import MODEL
from tests.factories import default_project, make_user

pytestmark = pytest.mark.django_db


class TestBudgets(EditContract):
    path = "budgets"
    changes = ({"limit": "20"}, {"name": "Renamed", "alert_percents": [90]})
    may_create = frozenset({Role.OWNER, Role.ADMIN, Role.BILLING})

    def body(self, number: int = 0) -> dict:
        return {"name": f"Budget {number}", "unit": "money", "limit": "12.5", "period": "month"}


def create(client: APIClient, **more) -> dict:
    response = client.post(
        f"{API}/budgets", {"name": "All", "unit": "tokens", "limit": "1000", "period": "day"} | more
    )
    assert response.status_code == 201, response.content
    return response.json()


def spend(budget: dict, settled: str, *, held: str = "0", now: dt.datetime | None = None) -> None:
    """Report as a gateway would."""
    now = now or timezone.now()
    with scope.platform("a test"):
        row = Budget.objects.select_related("tenant").get(id=budget["id"])
    start, _ = contract.budget_window(contract.BudgetPeriod(row.period), row.tenant.time_zone, now)
    line = contract.LeaseLine(
        budget_id=budget["id"], window_start=start, granted="0", settled=settled, held=held
    )
    report = contract.LeaseReport(gateway="gw-de/1", sequence=int(now.timestamp() * 1e6), lines=(line,))
    ledger.take(report, now=now)


def test_a_budget_belongs_to_the_tenant_a_project_or_a_key(owner, tenant):
    with scope.tenant(tenant.id):
        key, _ = key_mint(name="app", key_scope=KeyScope.INFERENCE, project=default_project(tenant))
    whole = create(owner)
    project = create(owner, name="Project", project="default")
    narrow = create(owner, name="Key", key=str(key.id))

    assert (whole["owner_kind"], whole["owner_id"]) == ("tenant", str(tenant.id))
    assert whole["owner_name"] == tenant.name
    assert (project["owner_kind"], project["owner_name"]) == ("project", "Default")
    assert (narrow["owner_kind"], narrow["owner_name"]) == ("key", "app")
    listed = owner.get(f"{API}/budgets?owner_kind=key").json()["results"]
    assert [each["id"] for each in listed] == [narrow["id"]]


def test_an_owner_of_another_tenant_does_not_exist(owner, stranger):
    theirs = stranger.post(f"{API}/projects", {"slug": "theirs", "name": "Theirs"}).json()
    assert theirs["slug"] == "theirs"
    body = {"name": "X", "unit": "tokens", "limit": "1", "period": "day"}
    for field, value in (("project", "theirs"), ("key", str(uuid.uuid4()))):
        problem = assert_problem(owner.post(f"{API}/budgets", {**body, field: value}), 422, "invalid")
        assert list(problem["errors"]) == [field]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("limit", "-1"),
        ("limit", "1.5"),
        ("limit", "100000000001"),
        ("limit", "NaN"),
        ("unit", "hours"),
        ("period", "year"),
        ("alert_percents", [0]),
        ("alert_percents", [101]),
        ("name", ""),
    ],
)
def test_a_wrong_value_is_named(owner, field, value):
    body = {"name": "X", "unit": "tokens", "limit": "1", "period": "day", field: value}
    problem = assert_problem(owner.post(f"{API}/budgets", body), 422, "invalid")
    assert [name.partition(".")[0] for name in problem["errors"]] == [field]


def test_a_name_is_taken_once_per_tenant(owner, stranger):
    create(owner)
    create(stranger)
    body = {"name": "ALL", "unit": "tokens", "limit": "1", "period": "day"}
    problem = assert_problem(owner.post(f"{API}/budgets", body), 422, "invalid")
    assert "exists already" in problem["errors"]["name"][0]


def test_how_it_stands(owner, tenant):
    with scope.platform("a test"):
        Tenant.objects.filter(id=tenant.id).update(time_zone="Europe/Berlin")
    made = create(owner, unit="money", limit="10", period="month", alert_percents=[50, 80])
    assert made["window"]["left"] == "10"
    spend(made, "5.25", held="1.0000000000000001")

    window = owner.get(f"{API}/budgets/{made['id']}").json()["window"]

    assert (window["settled"], window["held"], window["limit"]) == ("5.25", "1.0000000000000001", "10")
    assert window["left"] == "3.7499999999999999"
    assert window["percent"] == 52
    assert [alert["percent"] for alert in window["alerts"]] == [50]
    assert [(each["gateway"], each["settled"]) for each in window["gateways"]] == [("gw-de/1", "5.25")]
    resets = dt.datetime.fromisoformat(window["resets_at"])
    local = resets.astimezone(zoneinfo.ZoneInfo("Europe/Berlin"))
    assert (local.day, local.hour) == (1, 0)


def test_an_alert_is_written_once(owner):
    made = create(owner, alert_percents=[50, 80])
    for settled in ("500", "700", "900", "950"):
        spend(made, settled, now=timezone.now())
    alerts = owner.get(f"{API}/budgets/{made['id']}").json()["window"]["alerts"]
    assert [alert["percent"] for alert in alerts] == [50, 80]


def test_spending_does_not_make_an_edit_stale(owner):
    made = create(owner)
    seen = owner.get(f"{API}/budgets/{made['id']}")["ETag"]
    spend(made, "500")
    changed = owner.patch(f"{API}/budgets/{made['id']}", {"limit": "400"}, headers={"If-Match": seen})
    assert changed.status_code == 200, changed.content
    window = changed.json()["window"]
    assert (window["limit"], window["settled"], window["left"], window["percent"]) == ("400", "500", "0", 125)
    assert changed["ETag"] != seen


def test_a_deleted_budget_is_gone_with_its_windows(owner):
    made = create(owner)
    spend(made, "500")
    assert owner.delete(f"{API}/budgets/{made['id']}").status_code == 204
    assert_problem(owner.get(f"{API}/budgets/{made['id']}"), 404, "not-found")
    with scope.platform("a test"):
        assert not BudgetWindow.objects.filter(budget=made["id"]).exists()
    # What gateways still report of it is left out, and nothing breaks.
    with scope.platform("a test"):
        assert not Budget.objects.exists()


@pytest.mark.parametrize("method", ["patch", "delete"])
def test_changing_wants_the_role_and_the_tenant(owner, stranger, tenant, method):
    path = f"{API}/budgets/{create(owner)['id']}"
    body = {"limit": "1"} if method == "patch" else None
    for role in (Role.DEVELOPER, Role.VIEWER):
        assert_problem(getattr(client_of(tenant, role), method)(path, body), 403, "forbidden")
    assert_problem(getattr(stranger, method)(path, body), 404, "not-found")
    assert owner.get(path).json()["window"]["limit"] == "1000"


def test_operators_read_the_budgets_of_all_tenants_and_others_do_not_know_of_them(owner, stranger, client):
    made = create(owner)
    create(stranger)
    client.force_login(make_user(platform_role=PlatformRole.OPERATOR))

    found = client.get(f"{API}/tenant-budgets").json()["results"]
    assert {each["tenant"] for each in found} == {owner.tenant.slug, stranger.tenant.slug}
    (only,) = client.get(f"{API}/tenant-budgets?tenant={owner.tenant.slug}").json()["results"]
    assert only["id"] == made["id"]
    assert client.get(f"{API}/tenant-budgets/{made['id']}").json()["window"]["limit"] == "1000"
    assert_problem(owner.get(f"{API}/tenant-budgets"), 404, "not-found")
    assert_problem(APIClient().get(f"{API}/tenant-budgets"), 401, "not-authenticated")


def gpu_budget(owner, **more) -> dict:
    body = {"name": "GPUs", "unit": "gpu_hours", "limit": "100000", "period": "month"} | more
    answer = owner.post(f"{API}/budgets", body)
    assert answer.status_code == 201, answer.content
    return answer.json()


@pytest.mark.usefixtures("estate")
def test_a_quote_shows_what_an_order_would_reserve_and_an_order_that_does_not_fit_says_why(owner):
    budget = gpu_budget(owner)
    plan = {"model": MODEL, "slo_class": "standard", "project": "default", "replicas": 2}
    (effect,) = owner.post(f"{API}/endpoints:plan", plan).json()["budgets"]
    assert (effect["budget_id"], effect["fits"], effect["refuses"]) == (budget["id"], True, False)
    assert float(effect["asked"]) > 0
    order = plan | {"name": "chat"}
    made = owner.post(f"{API}/endpoints", order).json()
    window = owner.get(f"{API}/budgets/{budget['id']}").json()["window"]
    (share,) = window["endpoints"]
    assert (share["endpoint_id"], share["name"], share["held"]) == (made["id"], "chat", window["held"])
    assert (window["gateways"], window["settled"]) == ([], "0")
    assert abs(float(window["held"]) - float(effect["asked"])) < 1

    owner.patch(f"{API}/budgets/{budget['id']}", {"limit": window["held"]})
    (effect,) = owner.post(f"{API}/endpoints:plan", plan).json()["budgets"]
    assert (effect["fits"], effect["refuses"]) == (False, True)
    problem = assert_problem(owner.post(f"{API}/endpoints", order | {"name": "more"}), 403, "over-budget")
    assert (problem["budget"], problem["owner"], problem["unit"]) == ("GPUs", "tenant Acme", "gpu_hours")
    assert set(problem) >= {"limit", "spent", "reserved", "asked", "resets_at"}
    owner.patch(f"{API}/budgets/{budget['id']}", {"policy": "warn"})
    (effect,) = owner.post(f"{API}/endpoints:plan", plan).json()["budgets"]
    assert (effect["fits"], effect["refuses"]) == (False, False)
    assert owner.post(f"{API}/endpoints", order | {"name": "more"}).status_code == 201


def test_a_forecast_and_the_windows_are_told_to_the_owner_alone(owner, stranger):
    made = gpu_budget(owner)
    forecast = owner.get(f"{API}/budgets/{made['id']}/forecast").json()
    assert (forecast["method"], forecast["expected"], forecast["reached_at"]) == ("running", "0", None)
    (window,) = owner.get(f"{API}/budgets/{made['id']}/windows").json()["results"]
    assert (window["settled"], window["limit"]) == ("0", "100000")
    requests = owner.post(
        f"{API}/budgets", {"name": "Tokens", "unit": "tokens", "limit": "5", "period": "day"}
    ).json()
    forecast = owner.get(f"{API}/budgets/{requests['id']}/forecast").json()
    assert (forecast["method"], forecast["expected"]) == ("none", None)
    for path in ("forecast", "windows"):
        assert_problem(stranger.get(f"{API}/budgets/{made['id']}/{path}"), 404, "not-found")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"basis": "tokens"}, "basis"), ({"policy": "shout"}, "policy"), ({"recipients": ["nobody"]}, "recipients"),
        ({"unit": "tokens", "basis": "gpu_time"}, "basis"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_named(owner, change, field):
    body = {"name": "X", "unit": "gpu_hours", "limit": "1", "period": "day"} | change
    problem = assert_problem(owner.post(f"{API}/budgets", body), 422, "invalid")
    assert [name.partition(".")[0] for name in problem["errors"]] == [field]


def test_a_key_has_neither_gpus_nor_endpoints(owner, tenant):
    with scope.tenant(tenant.id):
        key, _ = key_mint(name="k", key_scope=KeyScope.INFERENCE, project=default_project(tenant))
    body = {"name": "X", "limit": "1", "period": "day", "key": str(key.id)}
    for more, field in (
        ({"unit": "gpu_hours"}, "unit"),
        ({"unit": "money", "basis": "gpu_time"}, "basis"),
        ({"unit": "tokens", "policy": "stop"}, "policy"),
    ):
        problem = assert_problem(owner.post(f"{API}/budgets", body | more), 422, "invalid")
        assert list(problem["errors"]) == [field]
