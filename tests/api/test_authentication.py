"""Who may call: management keys, people by session, nobody else."""

from __future__ import annotations

import datetime as dt

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from tenants import scope, secret_keys
from tenants.keys import key_mint
from tenants.members import member_add, member_remove
from tenants.models import ApiKey, KeyScope, PlatformRole, Role, Tenant
from tests.api.contract import API, assert_problem
from tests.factories import default_project, make_tenant, make_user, management_key

pytestmark = pytest.mark.django_db


def with_header(value: str) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=value)
    return client


def refusal(value: str) -> str:
    return assert_problem(with_header(value).get(f"{API}/tenant"), 401, "not-authenticated")["detail"]


@pytest.mark.parametrize(
    "value",
    [
        "Bearer",
        "Bearer a b",
        "Basic dXNlcjpwYXNz",
        "berth_abc",
        "Bearer berth_\xe4\xf6",
        "Bearer " + "x" * 5000,
    ],
)
def test_what_is_no_key_is_refused(value):
    assert refusal(value)


def test_each_wrong_key_is_told_what_is_wrong(tenant):
    text = management_key(tenant)
    assert "cut off" in refusal(f"Bearer {text[:-1]}")
    assert "not known" in refusal(f"Bearer {secret_keys.generate()}")
    with scope.tenant(tenant.id):
        _, inference = key_mint(name="chat", key_scope=KeyScope.INFERENCE, project=default_project(tenant))
        assert "inference key" in refusal(f"Bearer {inference}")
        ApiKey.objects.update(expires_at=timezone.now() - dt.timedelta(seconds=1))
    assert "expired" in refusal(f"Bearer {text}")


def test_a_key_of_a_suspended_tenant_is_refused(tenant):
    text = management_key(tenant)
    with scope.platform("suspend"):
        Tenant.objects.filter(id=tenant.id).update(state=Tenant.State.SUSPENDED)
    assert "suspended" in refusal(f"Bearer {text}")


def test_using_a_key_is_noted(tenant):
    client = with_header(f"bearer {management_key(tenant)}")
    assert client.get(f"{API}/tenant").status_code == 200
    with scope.tenant(tenant.id):
        assert ApiKey.objects.get().last_used_at is not None


@pytest.fixture
def person():
    return make_user("ada@example.org")


@pytest.fixture
def browser(person) -> APIClient:
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(person)
    return client


def test_a_person_of_one_tenant_need_not_name_it(person, browser):
    make_tenant("acme", owner=person)
    assert browser.get(f"{API}/tenant").json()["slug"] == "acme"


def test_a_person_of_several_tenants_names_one(person, browser):
    for slug in ("acme", "other"):
        make_tenant(slug, owner=person)
    make_tenant("strange")
    assert_problem(browser.get(f"{API}/tenant"), 400, "tenant-not-named")
    named = browser.get(f"{API}/tenant", headers={"Berth-Tenant": "other"})
    assert named.json()["slug"] == "other"
    strange, missing = (
        browser.get(f"{API}/tenant", headers={"Berth-Tenant": slug}) for slug in ("strange", "missing")
    )
    assert_problem(strange, 400, "tenant-not-named")
    assert strange.content == missing.content


def test_a_person_without_tenant_sees_nothing(browser):
    assert_problem(browser.get(f"{API}/projects"), 400, "tenant-not-named")


def test_a_person_acts_with_the_role_held_in_that_tenant(person, browser):
    tenant = make_tenant("acme")
    with scope.tenant(tenant.id):
        member_add(email=person.email, role=Role.BILLING, granter_role=Role.OWNER)
    client = APIClient()
    client.force_login(person)
    assert "billing" in assert_problem(client.post(f"{API}/projects", {}), 403, "forbidden")["detail"]


def test_a_session_cannot_write_without_its_csrf_token(person, browser):
    make_tenant("acme", owner=person)
    refused = browser.post(f"{API}/projects", {"slug": "a", "name": "A"})
    assert "CSRF" in assert_problem(refused, 403, "forbidden")["detail"]


def test_a_key_goes_before_a_session(person, browser):
    make_tenant("acme", owner=person)
    browser.credentials(HTTP_AUTHORIZATION=f"Bearer {management_key(make_tenant('other'))}")
    assert browser.get(f"{API}/tenant").json()["slug"] == "other"


def test_a_person_who_left_is_out_at_once(person, browser):
    tenant = make_tenant("acme")
    with scope.tenant(tenant.id):
        member = member_add(email=person.email, role=Role.VIEWER, granter_role=Role.OWNER)
    assert browser.get(f"{API}/tenant").status_code == 200
    with scope.tenant(tenant.id):
        member_remove(membership=member, granter_role=Role.OWNER)
    assert_problem(browser.get(f"{API}/tenant"), 400, "tenant-not-named")


def test_a_key_that_is_shown_counts_and_no_session_beside_it(tenant):
    client = with_header(f"Bearer {management_key(tenant)}")
    client.force_login(make_user(platform_role=PlatformRole.OPERATOR))
    assert client.get(f"{API}/tenant").json()["slug"] == tenant.slug
    assert_problem(client.get(f"{API}/clusters"), 404, "not-found")
    client.credentials(HTTP_AUTHORIZATION="Bearer nothing")
    assert_problem(client.get(f"{API}/clusters"), 401, "not-authenticated")
    client.credentials()
    assert client.get(f"{API}/clusters").status_code == 200
