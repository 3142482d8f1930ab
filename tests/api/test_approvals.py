"""Policy, rules, requests and exceptions through the REST API: roles, keys, versions, repeats, other tenants."""

from __future__ import annotations

import datetime as dt

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from clusters.models import ApprovalRequest, TenantPolicy
from tenants import scope
from tenants.keys import key_mint
from tenants.members import member_add
from tenants.models import KeyScope, Role, User
from tenants.service_accounts import service_account_create
from tests.api.conftest import client_of
from tests.api.contract import API, assert_problem
from tests.api.orders import ORDER, order

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("estate")]

RULE = {"kind": "price-above", "amount": "0.01"}


def person(tenant, role: str) -> APIClient:
    """Give a client with a management key that a member of this role made."""
    with scope.tenant(tenant.id):
        email = f"{role}-{User.objects.count()}@acme.example"
        member = member_add(email=email, role=role, granter_role=Role.OWNER)
        _, text = key_mint(
            name=f"key of {email}", key_scope=KeyScope.MANAGEMENT, role=role, created_by=member.user
        )
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    client.user = member.user
    return client


@pytest.fixture
def admin(tenant):
    return person(tenant, "admin")


@pytest.fixture
def developer(tenant):
    return person(tenant, "developer")


@pytest.fixture
def asked(owner, developer) -> dict:
    """An order that waits for approval, as the developer sees it."""
    assert owner.post(f"{API}/approval-rules", RULE).status_code == 201
    response = developer.post(f"{API}/endpoints", {**ORDER, "name": "chat"})
    assert response.status_code == 201, response.content
    return response.json()


def decide(client, endpoint: dict, how: str, **body):
    return client.post(f"{API}/approval-requests/{endpoint['approval']['id']}:{how}", body)


def test_an_order_that_needs_approval_says_so_and_where(asked, developer):
    assert asked["state"] == "waiting-for-approval"
    approval = asked["approval"]
    assert (approval["state"], approval["waits_for"]) == ("pending", "an owner or admin")
    found = developer.get(f"{API}/approval-requests/{approval['id']}").json()
    assert found["trips"] == [
        {"kind": "price-above", "reason": found["trips"][0]["reason"], "decides": "admin"}
    ]
    assert found["quote"]["region"].startswith("eu-")
    assert found["may_decide"] is False
    listed = developer.get(f"{API}/approval-requests", {"state": "pending", "what": "order"}).json()
    assert [each["id"] for each in listed["results"]] == [approval["id"]]


def test_a_plan_says_what_would_need_approval(owner, developer):
    owner.post(f"{API}/approval-rules", RULE)
    plan = developer.post(f"{API}/endpoints:plan", ORDER).json()
    assert [each["kind"] for each in plan["approvals"]] == ["price-above"]
    assert plan["policy_version"] == 0


def test_approving_places_it_and_a_repeat_is_answered_alike(asked, admin):
    body = {"comment": "fine", "round": 1}
    path = f"{API}/approval-requests/{asked['approval']['id']}:approve"
    first = admin.post(path, body, HTTP_IDEMPOTENCY_KEY="once")
    assert (first.status_code, first.json()["state"]) == (200, "approved")
    again = admin.post(path, body, HTTP_IDEMPOTENCY_KEY="once")
    assert again.content == first.content
    assert_problem(admin.post(path, body), 409, "conflict")
    endpoint = admin.get(f"{API}/endpoints/{asked['id']}").json()
    assert endpoint["revision"] is not None
    assert endpoint["approval"]["state"] == "approved"


def test_the_asker_may_not_decide_by_any_key_or_service_account_of_theirs(owner, tenant):
    owner.post(f"{API}/approval-rules", RULE)
    asker = person(tenant, "admin")
    endpoint = asker.post(f"{API}/endpoints", {**ORDER, "name": "own"}).json()
    with scope.tenant(tenant.id):
        _, text = key_mint(name="2nd", key_scope=KeyScope.MANAGEMENT, role="admin", created_by=asker.user)
    second = APIClient()
    second.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    for client in (asker, second):
        assert_problem(decide(client, endpoint, "approve"), 403, "forbidden")
    robot = robot_of(tenant, asker.user)
    assert_problem(decide(robot, endpoint, "approve"), 403, "forbidden")
    asked_by_robot = robot.post(f"{API}/endpoints", {**ORDER, "name": "robot"}).json()
    assert_problem(decide(asker, asked_by_robot, "approve"), 403, "forbidden")
    assert decide(person(tenant, "admin"), asked_by_robot, "approve").json()["state"] == "approved"


def robot_of(tenant, maker: User) -> APIClient:
    with scope.tenant(tenant.id):
        account = service_account_create(name="robot", role="admin", created_by=maker, granter_role="owner")
        _, text = key_mint(
            name="robot key", key_scope=KeyScope.MANAGEMENT, service_account=account, created_by=maker
        )
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    return client


def test_roles_without_the_right_and_keys_without_a_person_do_not_decide(asked, tenant, owner):
    for role in ("developer", "viewer", "billing"):
        assert_problem(decide(person(tenant, role), asked, "approve"), 403, "forbidden")
    assert_problem(decide(owner, asked, "approve"), 403, "forbidden")  # nobody made that key
    with scope.tenant(tenant.id):
        made_by = person(tenant, "admin").user
        _, text = key_mint(
            name="narrow",
            key_scope=KeyScope.MANAGEMENT,
            role="admin",
            created_by=made_by,
            narrowed={"verbs": ["view"]},
        )
    narrow = APIClient()
    narrow.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    assert "may not approve" in assert_problem(decide(narrow, asked, "approve"), 403, "forbidden")["detail"]


def test_refused_it_may_be_asked_for_again_with_other_terms(asked, admin, developer, owner):
    assert decide(admin, asked, "refuse", comment="no").json()["state"] == "refused"
    seen = developer.get(f"{API}/endpoints/{asked['id']}").json()
    assert "no" in seen["reason"]
    path = f"{API}/endpoints/{asked['id']}:ask-again"
    assert_problem(developer.post(path, {}, HTTP_IF_MATCH='W/"77"'), 412, "stale")
    again = developer.post(path, {"changes": {"replicas": 2}})
    assert (again.status_code, again.json()["approval"]["state"]) == (202, "pending")
    changed = decide(admin, again.json(), "change", changes={"replicas": 1}).json()
    assert (changed["state"], changed["changed"]) == ("changed", {"replicas": {"from": 2, "to": 1}})
    assert_problem(developer.post(path, {}), 409, "conflict")


def test_a_change_that_names_nothing_changeable_is_refused(asked, admin):
    for changes in ({}, {"colour": "red"}, {"slo_class": "gold"}, {"replicas": 0}):
        assert_problem(decide(admin, asked, "change", changes=changes), 422, "invalid")


def test_scaling_that_waits_is_answered_202(owner, developer, admin):
    endpoint = order(developer)
    owner.post(f"{API}/approval-rules", {"kind": "quota-above", "gpus": 1})
    path = f"{API}/endpoints/{endpoint['id']}"
    response = developer.patch(path, {"replicas": 2})
    assert (response.status_code, response.json()["approval"]["what"]) == (202, "scale")
    assert response.json()["generation"] == endpoint["generation"]
    assert decide(developer, response.json(), "withdraw").json()["state"] == "withdrawn"
    assert developer.patch(path, {"replicas": 1}).status_code == 200


def test_the_policy_is_versioned_and_edited_for_the_version_seen(owner, developer):
    first = owner.get(f"{API}/policy")
    assert (first.json()["version"], first["ETag"]) == (0, 'W/"0"')
    assert_problem(developer.put(f"{API}/policy", {}), 403, "forbidden")
    set_ = owner.put(f"{API}/policy", {"allowed_zones": ["EU"], "note": "law"}, HTTP_IF_MATCH='W/"0"')
    assert (set_.status_code, set_.json()["version"]) == (200, 1)
    stale = owner.put(f"{API}/policy", {"allowed_zones": ["US"]}, HTTP_IF_MATCH='W/"0"')
    assert_problem(stale, 412, "stale")
    wrong = owner.put(f"{API}/policy", {"allowed_zones": ["MARS"]})
    assert "allowed_zones" in assert_problem(wrong, 422, "invalid")["errors"]
    versions = developer.get(f"{API}/policy/versions").json()["results"]
    assert [(each["version"], each["note"]) for each in versions] == [(1, "law")]
    refused = developer.post(f"{API}/endpoints", {**ORDER, "name": "us", "residency": "zone:US"})
    assert assert_problem(refused, 403, "policy-refused")["policy_version"] == 1


def test_loosening_the_policy_waits_for_a_second_person(tenant, admin):
    second = person(tenant, "admin")
    admin.put(f"{API}/policy", {"allowed_zones": ["EU"]})
    loose = admin.put(f"{API}/policy", {})
    assert (loose.status_code, loose.json()["version"]) == (202, 1)
    path = f"{API}/approval-requests/{loose.json()['pending_request']}"
    assert_problem(admin.post(f"{path}:approve", {}), 403, "forbidden")
    assert second.post(f"{path}:approve", {}).json()["state"] == "approved"
    assert admin.get(f"{API}/policy").json()["allowed_zones"] == []


def test_rules_are_made_changed_and_removed(tenant, admin, developer):
    assert_problem(developer.post(f"{API}/approval-rules", RULE), 403, "forbidden")
    assert (
        "amount"
        in assert_problem(admin.post(f"{API}/approval-rules", {"kind": "price-above"}), 422, "invalid")[
            "errors"
        ]
    )
    made = admin.post(f"{API}/approval-rules", {**RULE, "decides": "owner"})
    assert made.json()["text"] == "Costs more than 0.01 EUR per hour"
    path = f"{API}/approval-rules/{made.json()['id']}"
    seen = developer.get(path)
    assert seen.status_code == 200
    assert admin.patch(path, {"amount": "0.005"}, HTTP_IF_MATCH=seen["ETag"]).status_code == 200
    assert_problem(admin.patch(path, {"amount": "0.001"}, HTTP_IF_MATCH=seen["ETag"]), 412, "stale")
    loose = admin.delete(path)
    assert (loose.status_code, loose.json()["pending_request"] is not None) == (202, True)
    second = person(tenant, "admin")
    done = second.post(f"{API}/approval-requests/{loose.json()['pending_request']}:approve", {})
    assert done.json()["state"] == "approved"
    assert_problem(developer.get(path), 404, "not-found")


def test_exceptions_are_asked_for_listed_and_ended(admin, developer, tenant):
    admin.put(f"{API}/policy", {"allowed_zones": ["EU"]})
    wish = {
        "restriction": "zone", "value": "US", "reason": "a trial",
        "ends_at": (timezone.now() + dt.timedelta(days=10)).isoformat(),
    }  # fmt: skip
    asked = developer.post(f"{API}/policy-exceptions", wish)
    assert (asked.status_code, asked.json()["what"]) == (202, "exception")
    assert_problem(
        developer.post(f"{API}/policy-exceptions", wish | {"ends_at": "2100-01-01T00:00:00Z"}), 422, "invalid"
    )
    assert admin.post(f"{API}/approval-requests/{asked.json()['id']}:approve", {}).status_code == 200
    (held,) = developer.get(f"{API}/policy-exceptions", {"in_force": "true"}).json()["results"]
    us = developer.post(f"{API}/endpoints", {**ORDER, "name": "us", "residency": "zone:US"})
    assert us.status_code == 201
    assert_problem(developer.post(f"{API}/policy-exceptions/{held['id']}:end"), 403, "forbidden")
    ended = admin.post(f"{API}/policy-exceptions/{held['id']}:end")
    assert ended.json()["ended_as"].startswith("key key of admin")
    assert developer.get(f"{API}/endpoints/{us.json()['id']}").json()["wanted"] == "paused"


def test_another_tenant_sees_nothing_of_it(asked, stranger, admin):
    request = asked["approval"]["id"]
    for method, path in (
        ("get", f"approval-requests/{request}"),
        ("post", f"approval-requests/{request}:approve"),
        ("post", f"approval-requests/{request}:refuse"),
        ("post", f"approval-requests/{request}:change"),
        ("post", f"approval-requests/{request}:withdraw"),
        ("post", f"endpoints/{asked['id']}:ask-again"),
        ("get", f"approval-rules/{admin.get(f'{API}/approval-rules').json()['results'][0]['id']}"),
    ):
        body = {"changes": {"replicas": 1}} if path.endswith("change") else {}
        response = getattr(stranger, method)(f"{API}/{path}", body)
        assert_problem(response, 404, "not-found")
    for path in ("approval-requests", "approval-rules", "policy/versions", "policy-exceptions"):
        assert stranger.get(f"{API}/{path}").json()["results"] == []
    assert stranger.get(f"{API}/policy").json()["version"] == 0


def test_operators_decide_upon_reserved_gpus_and_on_nothing_else(owner, developer, admin, operator, tenant):
    owner.post(
        f"{API}/approval-rules", {"kind": "reserved-gpus", "gpu_types": ["l4"], "decides": "operators"}
    )
    endpoint = developer.post(f"{API}/endpoints", {**ORDER, "name": "gold"}).json()
    assert_problem(decide(admin, endpoint, "approve"), 403, "forbidden")
    (listed,) = operator.get(f"{API}/platform/approval-requests").json()["results"]
    assert (listed["title"], listed["may_decide"]) == ("Order gold", True)
    path = f"{API}/platform/approval-requests/{listed['id']}"
    assert operator.post(f"{path}:approve", {}).json()["state"] == "approved"
    owner.post(f"{API}/approval-rules", RULE)
    plain = developer.post(f"{API}/endpoints", {**ORDER, "name": "dear", "pins": {"gpu": "h100_sxm"}}).json()
    other = f"{API}/platform/approval-requests/{plain['approval']['id']}"
    assert_problem(operator.post(f"{other}:approve", {}), 404, "not-found")
    assert_problem(admin.get(f"{API}/platform/approval-requests"), 404, "not-found")


def test_operators_lock_a_floor(operator, owner, tenant):
    path = f"{API}/platform/policies/acme/floor"
    body = {"floor_zones": ["EU"], "floor_certifications": []}
    assert operator.put(path, body).json()["by_platform"] is True
    assert_problem(owner.put(path, body), 404, "not-found")
    refused = owner.post(f"{API}/endpoints", {**ORDER, "name": "us", "residency": "zone:US"})
    assert_problem(refused, 403, "policy-refused")
    with scope.tenant(tenant.id):
        assert TenantPolicy.objects.get().set_as.startswith("operator")
        assert not ApprovalRequest.objects.exists()


def test_who_may_read(asked, tenant, anonymous):
    for role in Role.values:
        client = client_of(tenant, role)
        for path in ("approval-requests", "approval-rules", "policy", "policy/versions", "policy-exceptions"):
            assert client.get(f"{API}/{path}").status_code == 200
    assert_problem(anonymous.get(f"{API}/policy"), 401, "not-authenticated")
