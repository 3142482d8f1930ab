"""Configuration as code through the REST API: a tenant's and the platform's, by role, as YAML and as JSON."""

from __future__ import annotations

import pytest
import yaml

from clusters.models import AppliedObject, AppliedPlatformObject, Endpoint, SloClass
from tenants import scope
from tenants.keys import key_mint
from tenants.models import KeyScope, Project, Role
from tests.api.conftest import client_of
from tests.api.contract import API, assert_problem
from tests.api.orders import order
from tests.factories import audit_entries, make_tenant

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("estate")]

CHAT = """\
apiVersion: berth/v1
kind: Endpoint
metadata: {name: chat, project: default}
spec:
  model: berth-docs-ngram
  slo_class: standard
  residency: zone:EU
"""
BUDGET = """\
apiVersion: berth/v1
kind: Budget
metadata: {name: All}
spec: {unit: money, limit: 250, period: month}
"""
KNOBS = """\
apiVersion: berth/v1
kind: EngineSettings
metadata: {name: batch}
spec: {drain_s: 7}
"""


def send(client, path: str, text: str = CHAT, **headers):
    return client.generic("POST", f"{API}/{path}", text, content_type="application/yaml", headers=headers)


def names(tenant) -> list[str]:
    with scope.tenant(tenant.id):
        return list(Endpoint.objects.live().values_list("name", flat=True))


def test_a_diff_tells_what_would_be_done_and_does_nothing(owner, tenant):
    told = send(owner, "configuration:diff").json()
    assert (told["dry_run"], told["differs"]) == (True, True)
    (found,) = told["results"]
    assert (found["kind"], found["name"], found["tenant"], found["project"]) == (
        "Endpoint",
        "chat",
        "acme",
        "default",
    )
    assert (found["result"], found["line"]) == ("created", 1)
    assert "+slo_class: standard" in found["diff"]
    assert found["price_per_hour"]["currency"] == "EUR"
    assert float(found["price_per_hour"]["after"]) > 0
    assert names(tenant) == []


def test_only_what_was_compared_is_applied(owner, tenant):
    expected = send(owner, "configuration:diff").json()["digest"]
    assert send(owner, "configuration:apply", f"{CHAT}  tokens_per_minute: 9000\n").status_code == 200
    refused = send(owner, f"configuration:apply?expect={expected}")
    assert "look again" in assert_problem(refused, 409, "conflict")["detail"]
    with scope.tenant(tenant.id):
        assert Endpoint.objects.get().tokens_per_minute == 9000
    same = send(owner, "configuration:diff", BUDGET).json()["digest"]
    assert send(owner, f"configuration:apply?expect={same}", BUDGET).json()["digest"] == same


def test_only_so_many_orders_hold_capacity_at_once(owner, tenant, monkeypatch):
    monkeypatch.setattr("portal.api.configuration.MOST_ORDERS", 1)
    two = f"{CHAT}---\n{CHAT.replace('chat', 'other')}"
    refused = send(owner, "configuration:diff", two)
    assert_problem(refused, 422, "invalid")
    (problem,) = refused.json()["problems"]
    assert (problem["line"], problem["message"].split(" endpoints")[0]) == (10, "With this one more than 1")
    assert send(owner, "configuration:apply").status_code == 200
    assert send(owner, "configuration:apply", two).status_code == 200  # what is so already does not count
    assert sorted(names(tenant)) == ["chat", "other"]


def test_applying_makes_it_so_and_again_changes_nothing(owner, tenant):
    assert send(owner, "configuration:apply?owner=team-x").json()["differs"] is True
    assert names(tenant) == ["chat"]
    told = send(owner, "configuration:apply?owner=team-x").json()
    assert told == {"dry_run": False, "differs": False, "digest": told["digest"], "results": told["results"]}
    assert told["results"][0]["result"] == "unchanged"
    with scope.tenant(tenant.id):
        assert AppliedObject.objects.get().applied_as == "key owner key"
    (entry,) = audit_entries(tenant, target_kind="applied-object")
    assert (entry.actor_kind, entry.actor_name) == ("key", "owner key")


def test_what_is_exported_is_yaml_or_json_and_applies_to_nothing(owner):
    order(owner)
    text = owner.get(f"{API}/configuration")
    assert text["Content-Type"] == "application/yaml"
    (document,) = [each for each in yaml.safe_load_all(text.content) if each["kind"] == "Endpoint"]
    assert document["metadata"] == {"name": "chat", "tenant": "acme", "project": "default"}
    assert send(owner, "configuration:diff", text.content.decode()).json()["differs"] is False
    same = owner.get(f"{API}/configuration?kind=Endpoint", headers={"Accept": "application/json"})
    assert [each["metadata"] for each in same.json()["documents"]] == [document["metadata"]]
    body = {"documents": same.json()["documents"]}
    assert owner.post(f"{API}/configuration:diff", body).json()["results"][0]["result"] == "unchanged"


def test_prune_takes_away_what_is_in_no_document(owner, tenant):
    send(owner, "configuration:apply?owner=team-x")
    told = send(owner, "configuration:apply?owner=team-x&prune=true&dry_run=true", BUDGET).json()
    assert [(each["name"], each["result"]) for each in told["results"]] == [
        ("All", "created"),
        ("chat", "removed"),
    ]
    send(owner, "configuration:apply?owner=team-x&prune=true", BUDGET)
    with scope.tenant(tenant.id):
        assert [each.wanted for each in Endpoint.objects.all()] == ["deleted"]


def test_a_repeat_is_answered_as_before(owner, tenant):
    first = send(owner, "configuration:apply", **{"Idempotency-Key": "one"})
    again = send(owner, "configuration:apply", **{"Idempotency-Key": "one"})
    assert again["Idempotent-Replayed"] == "true"
    assert again.json() == first.json()
    other = send(owner, "configuration:apply?dry_run=true", **{"Idempotency-Key": "one"})
    assert_problem(other, 422, "idempotency-key-reused")


@pytest.mark.parametrize("role", Role.values)
def test_each_kind_asks_for_its_own_right(tenant, role):
    client = client_of(tenant, role)
    assert client.get(f"{API}/configuration").status_code == 200
    orders = send(client, "configuration:diff")
    budgets = send(client, "configuration:diff", BUDGET)
    may = {
        "order": role in ("owner", "admin", "developer"),
        "budgets": role in ("owner", "admin", "billing"),
    }
    assert (orders.status_code == 200, budgets.status_code == 200) == (may["order"], may["budgets"])
    if not may["order"]:
        problem = assert_problem(orders, 422, "invalid")["problems"][0]
        assert (problem["document"], problem["message"]) == (
            "Endpoint chat",
            f"key {role} key may not order.",
        )


def test_a_key_of_some_projects_or_verbs_does_not_reach_around_them(tenant):
    with scope.tenant(tenant.id):
        project = Project.objects.get(slug="default")
        _, narrow = key_mint(
            name="n", key_scope=KeyScope.MANAGEMENT, role="owner", narrowed={"projects": [project.id]}
        )
        _, reader = key_mint(
            name="r", key_scope=KeyScope.MANAGEMENT, role="owner", narrowed={"verbs": ["view"]}
        )
    client = client_of(tenant)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {narrow}")
    assert_problem(client.get(f"{API}/configuration"), 403, "forbidden")
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {reader}")
    assert client.get(f"{API}/configuration").status_code == 200
    assert_problem(send(client, "configuration:apply"), 422, "invalid")
    assert names(tenant) == []


def test_another_tenant_and_the_platforms_kinds_are_out_of_reach(owner):
    make_tenant("other")
    foreign = send(owner, "configuration:apply", CHAT.replace("project:", "tenant: other, project:"))
    missing = send(owner, "configuration:apply", CHAT.replace("project:", "tenant: nobody, project:"))
    assert "There is no tenant 'other'." in assert_problem(foreign, 422, "invalid")["detail"]
    assert "There is no tenant 'nobody'." in assert_problem(missing, 422, "invalid")["detail"]
    assert (
        "is the platform's"
        in assert_problem(send(owner, "configuration:apply", KNOBS), 422, "invalid")["detail"]
    )


def test_what_is_wrong_comes_with_its_line(owner):
    body = assert_problem(
        send(owner, "configuration:apply", CHAT.replace("standard", "golden")), 422, "invalid"
    )
    (problem,) = body["problems"]
    assert (problem["line"], problem["path"], problem["source"]) == (6, "spec.slo_class", "body")
    assert problem["message"] == "There is no SLO class 'golden'."
    assert_problem(send(owner, "configuration:apply", "a: [b"), 422, "invalid")
    assert_problem(send(owner, "configuration:apply", "#" * (1024 * 1024 + 1)), 413, "body-too-large")
    assert_problem(owner.post(f"{API}/configuration:apply", {"documents": 5}), 422, "invalid")
    assert_problem(owner.post(f"{API}/configuration:apply", {"docs": []}), 422, "invalid")
    assert_problem(send(owner, "configuration:apply?colour=blue"), 422, "invalid")
    assert_problem(owner.get(f"{API}/configuration?kind=Teapot"), 422, "invalid")


def test_operators_apply_the_platforms(operator, finance):
    assert send(operator, "platform/configuration:apply?owner=ops", KNOBS).json()["differs"] is True
    assert SloClass.objects.get(name="batch").tuning.drain_s == 7
    with scope.platform("a test"):
        assert AppliedPlatformObject.objects.get().owner == "ops"
    (entry,) = audit_entries(action="configuration.apply")
    assert "olga@example.org" in str(entry.__dict__)
    assert_problem(send(finance, "platform/configuration:apply", KNOBS), 422, "invalid")
    kinds = {
        each["kind"] for each in yaml.safe_load_all(operator.get(f"{API}/platform/configuration").content)
    }
    assert kinds == {"SloClass", "EngineSettings", "EngineImage", "CatalogModel", "PriceBook", "AdvicePolicy"}
    money = {
        each["kind"] for each in yaml.safe_load_all(finance.get(f"{API}/platform/configuration").content)
    }
    assert money == {"PriceBook"}
    assert "is a tenant's" in send(operator, "platform/configuration:diff").json()["detail"]
