"""Named routes through the REST API."""

from __future__ import annotations

import datetime as dt
import uuid

import pytest
from django.utils import timezone

from tenants import scope
from tenants.models import Project, Role
from tests.api.conftest import client_of
from tests.api.contract import API, EditContract, assert_problem
from tests.api.orders import order
from tests.billing.usage import add_usage

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("estate")]


def rule(*ids: str, **conditions) -> dict:
    """Give a rule to endpoints with equal weights."""
    return {"targets": [{"endpoint_id": each, "weight": 1} for each in ids], **conditions}


class TestRoutes(EditContract):
    path = "routes"
    may_create = frozenset({Role.OWNER, Role.ADMIN, Role.DEVELOPER})
    changes = ({"name": "other"}, {"name": "another"})

    @pytest.fixture(autouse=True)
    def _endpoint(self, owner, estate):
        self.endpoint = order(owner, "target")["id"]

    def body(self, number: int = 0) -> dict:
        return {"name": f"route-{number}", "project": "default", "rules": [rule(self.endpoint)]}


@pytest.fixture
def large(owner) -> str:
    return order(owner, "large")["id"]


@pytest.fixture
def small(owner) -> str:
    return order(owner, "small")["id"]


def make(client, *rules, name: str = "smart") -> dict:
    body = {"name": name, "project": "default", "rules": list(rules)}
    response = client.post(f"{API}/routes", body)
    assert response.status_code == 201, response.content
    return response.json()


def test_rules_come_back_whole(owner, large, small):
    key = owner.post(f"{API}/keys", {"name": "app", "scope": "inference", "project": "default"}).json()["id"]
    first = rule(
        small, slo_class="batch", min_input_tokens=10, max_input_tokens=2000, key_ids=[key], header="x-tier",
        header_value="cheap",
    )  # fmt: skip
    last = {"targets": [{"endpoint_id": large, "weight": 9}, {"endpoint_id": small, "weight": 1}]}
    made = make(owner, first, last)
    assert made["rules"][0] == first
    assert made["rules"][1]["targets"] == last["targets"]
    assert made["rules"][1]["max_input_tokens"] is None
    assert (made["project"], made["warnings"]) == ("default", [])


def test_what_is_hardly_meant_is_told(owner, large):
    assert (
        "No rule takes every request" in make(owner, rule(large, header="a", header_value="b"))["warnings"][0]
    )
    made = make(owner, rule(large), rule(large, min_input_tokens=5), name="other")
    assert made["warnings"] == ["Rule 1 takes every request; the rules after it are never reached."]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"targets": [{"endpoint_id": str(uuid.UUID(int=7)), "weight": 1}]}, "there is no endpoint"),
        ({"key_ids": [str(uuid.UUID(int=7))]}, "there is no inference key"),
        ({"slo_class": "gold"}, "there is no SLO class 'gold'"),
        ({"min_input_tokens": 9, "max_input_tokens": 8}, "the longest prompt cannot be shorter"),
        ({"header": "X-Tier", "header_value": "a"}, "lower-case"),
        ({"header": "authorization", "header_value": "a"}, "holds a secret"),
        ({"header": "x-tier"}, "printable text"),
        ({"header_value": "a"}, "needs its name"),
    ],
)
def test_a_wrong_rule_is_told_by_its_number(owner, large, changes, told):
    body = {"name": "smart", "project": "default", "rules": [rule(large), rule(large) | changes]}
    problem = assert_problem(owner.post(f"{API}/routes", body), 422, "invalid")
    assert problem["errors"]["rules"][0].startswith("Rule 2: ")
    assert told in problem["detail"]


@pytest.mark.parametrize(
    "rules",
    [
        [], [{}], [{"targets": []}], "x", [{"targets": [{"endpoint_id": "x"}]}],
        [{"targets": [{"endpoint_id": str(uuid.UUID(int=7)), "colour": 1}]}],
        [{"targets": [{"endpoint_id": str(uuid.UUID(int=7)), "weight": -1}]}],
    ],
)  # fmt: skip
def test_rules_are_read_strictly(owner, rules):
    body = {"name": "smart", "project": "default", "rules": rules}
    errors = assert_problem(owner.post(f"{API}/routes", body), 422, "invalid")["errors"]
    assert all(field.startswith("rules") for field in errors)


def test_targets_without_any_weight_or_named_twice_are_refused(owner, large):
    idle = {"targets": [{"endpoint_id": large, "weight": 0}]}
    for wrong, told in ((idle, "weight above 0"), (rule(large, large), "each endpoint once")):
        body = {"name": "smart", "project": "default", "rules": [wrong]}
        assert told in assert_problem(owner.post(f"{API}/routes", body), 422, "invalid")["detail"]


def test_a_name_is_an_endpoints_or_a_routes(owner, large):
    body = {"name": "large", "project": "default", "rules": [rule(large)]}
    assert (
        "endpoint is called large"
        in assert_problem(owner.post(f"{API}/routes", body), 422, "invalid")["detail"]
    )
    made = make(owner, rule(large))
    twice = owner.post(f"{API}/routes", {**body, "name": "smart"})
    assert "exists already" in assert_problem(twice, 422, "invalid")["errors"]["name"][0]
    taken = owner.post(
        f"{API}/endpoints",
        {"name": "smart", "project": "default", "model": "berth-docs-ngram", "slo_class": "standard"},
    )
    assert "named route is called smart" in assert_problem(taken, 422, "invalid")["errors"]["name"][0]
    path = f"{API}/routes/{made['id']}"
    assert_problem(owner.patch(path, {"name": "large"}), 422, "invalid")
    assert owner.delete(path).status_code == 204
    assert_problem(owner.get(path), 404, "not-found")
    make(owner, rule(large))


def test_another_tenants_endpoint_reads_as_missing(owner, stranger, large):
    make(owner, rule(large))
    body = {"name": "smart", "project": "default", "rules": [rule(large)]}
    assert (
        "there is no endpoint"
        in assert_problem(stranger.post(f"{API}/routes", body), 422, "invalid")["detail"]
    )


def test_changing_and_deleting_want_the_role_and_the_tenant(owner, stranger, tenant, large):
    path = f"{API}/routes/{make(owner, rule(large))['id']}"
    for verb in ("patch", "delete"):
        body = {"name": "mine"} if verb == "patch" else None
        assert_problem(getattr(client_of(tenant, Role.VIEWER), verb)(path, body), 403, "forbidden")
        assert_problem(getattr(stranger, verb)(path, body), 404, "not-found")
    stale = owner.delete(path, headers={"If-Match": 'W/"gone"'})
    assert_problem(stale, 412, "stale")
    assert owner.get(path).json()["name"] == "smart"


def test_costs_tell_shares_and_the_saving(owner, stranger, tenant, large, small):
    made = make(owner, rule(small, max_input_tokens=100), rule(large))
    with scope.tenant(tenant.id):
        project = Project.objects.get()
    at = timezone.now() - dt.timedelta(hours=2)
    used = {"model": "berth-docs-ngram", "slo_class": "standard", "route_id": uuid.UUID(made["id"])}
    add_usage(project, at=at, endpoint_id=uuid.UUID(small), requests=3, input_tokens=1_000_000, **used)
    add_usage(project, at=at, endpoint_id=uuid.UUID(large), requests=1, input_tokens=1_000_000, **used)
    add_usage(
        project, at=at, endpoint_id=uuid.UUID(large), requests=50, input_tokens=7_000_000,
        model="berth-docs-ngram", slo_class="standard",
    )  # fmt: skip
    start = (at - dt.timedelta(hours=1)).isoformat()
    path = f"{API}/routes/{made['id']}/costs"
    found = owner.get(path, {"start": start}).json()
    assert found["total"]["requests"] == 4
    assert [each["endpoint"] for each in found["targets"]] == ["small", "large"]
    assert [each["request_share"] for each in found["targets"]] == ["0.7500", "0.2500"]
    assert [each["token_share"] for each in found["targets"]] == ["0.5000", "0.5000"]
    assert float(found["saving"]) == 0.0
    assert_problem(client_of(tenant, Role.VIEWER).get(path), 403, "forbidden")
    assert_problem(stranger.get(path), 404, "not-found")
    assert list(assert_problem(owner.get(f"{path}?colour=1"), 422, "invalid")["errors"]) == ["colour"]
