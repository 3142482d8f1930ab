"""Keys through the REST API."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import connection
from django.utils import timezone

from tenants import scope
from tenants.keys import key_mint
from tenants.models import ApiKey, IdempotencyRecord, KeyScope, Role
from tests.api.conftest import client_of
from tests.api.contract import API, EditContract, assert_problem
from tests.factories import default_project

pytestmark = pytest.mark.django_db


class TestKeys(EditContract):
    path = "keys"
    changes = ({"name": "renamed"}, {"requests_per_minute": 60})
    may_create = frozenset({Role.OWNER, Role.ADMIN, Role.DEVELOPER})

    def body(self, number: int = 0) -> dict:
        return {"name": f"key {number}", "scope": "inference", "project": "default"}


def mint(client, **changes) -> dict:
    body = {"name": "ci", "scope": "inference", "project": "default"} | changes
    response = client.post(f"{API}/keys", {name: value for name, value in body.items() if value is not ...})
    assert response.status_code == 201, response.content
    return response.json()


def test_the_text_is_shown_once(owner):
    made = mint(owner)
    text = made.pop("key")
    assert text.startswith(made["hint"])
    assert owner.get(f"{API}/keys/{made['id']}").json() == made
    for path in ("keys", f"keys/{made['id']}", "projects", "tenant"):
        assert text not in owner.get(f"{API}/{path}").content.decode()


def test_no_row_holds_the_text_even_of_an_answer_kept_for_repeats(owner, tenant):
    send = {
        "path": f"{API}/keys",
        "data": {"name": "ci", "scope": "inference", "project": "default"},
        "headers": {"Idempotency-Key": "once"},
    }
    text = owner.post(**send).json()["key"]
    with scope.tenant(tenant.id), connection.cursor() as cursor:
        kept = bytes(IdempotencyRecord.objects.get().body)
        cursor.execute("SELECT row_to_json(k)::text FROM tenants_apikey k")
        rows = "".join(row for (row,) in cursor.fetchall())
    assert text[6:].encode() not in kept
    assert text not in rows
    assert owner.post(**send).json()["key"] == text


def test_an_inference_key_lasts_90_days_and_belongs_to_its_project(owner, tenant):
    made = mint(owner)
    left = dt.datetime.fromisoformat(made["expires_at"]) - timezone.now()
    assert dt.timedelta(days=89, hours=23) < left <= dt.timedelta(days=90)
    assert (made["project"], made["project_id"]) == ("default", str(default_project(tenant).id))
    assert (made["role"], made["state"]) == ("", "active")


def test_a_management_key_acts_with_its_role(owner, anonymous):
    made = mint(owner, scope="management", role="viewer", project=...)
    anonymous.credentials(HTTP_AUTHORIZATION=f"Bearer {made['key']}")
    assert anonymous.get(f"{API}/tenant").json()["slug"] == "acme"
    refused = anonymous.post(f"{API}/projects", {"slug": "a", "name": "A"})
    assert_problem(refused, 403, "forbidden")


def test_nobody_mints_or_revokes_above_the_own_role(owner, tenant):
    developer = client_of(tenant, Role.DEVELOPER)
    body = {"name": "more", "scope": "management", "role": "admin"}
    assert_problem(developer.post(f"{API}/keys", body), 403, "forbidden")
    held = mint(owner, scope="management", role="owner", project=...)
    assert_problem(developer.post(f"{API}/keys/{held['id']}:revoke"), 403, "forbidden")
    assert owner.get(f"{API}/keys/{held['id']}").json()["state"] == "active"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"project": "unknown"}, "project"),
        ({"project": ...}, "project"),
        ({"role": "viewer"}, "role"),
        ({"scope": "management", "role": "viewer"}, "project"),
        ({"scope": "management", "project": ...}, "role"),
        ({"scope": "all"}, "scope"),
        ({"name": ""}, "name"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "2999-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "tomorrow"}, "expires_at"),
    ],
)
def test_what_does_not_go_together_is_named(owner, changes, field):
    body = {"name": "ci", "scope": "inference", "project": "default"} | changes
    sent = {name: value for name, value in body.items() if value is not ...}
    errors = assert_problem(owner.post(f"{API}/keys", sent), 422, "invalid")["errors"]
    assert list(errors) == [field]


def test_a_project_of_another_tenant_reads_as_missing(owner, stranger):
    stranger.post(f"{API}/projects", {"slug": "theirs", "name": "Theirs"})
    body = {"name": "ci", "scope": "inference"}
    theirs = owner.post(f"{API}/keys", {**body, "project": "theirs"}).json()
    missing = owner.post(f"{API}/keys", {**body, "project": "missing"}).json()
    assert theirs["errors"]["project"][0] == missing["errors"]["project"][0].replace("missing", "theirs")


@pytest.mark.parametrize("verb", ["revoke", "delete"])
def test_a_revoked_key_is_refused_at_once_and_stays_listed(owner, anonymous, verb):
    made = mint(owner, scope="management", role="viewer", project=...)
    anonymous.credentials(HTTP_AUTHORIZATION=f"Bearer {made['key']}")
    assert anonymous.get(f"{API}/tenant").status_code == 200
    path = f"{API}/keys/{made['id']}"
    for _ in range(2):
        response = owner.post(f"{path}:revoke") if verb == "revoke" else owner.delete(path)
        assert response.status_code == (200 if verb == "revoke" else 204)
    assert owner.get(path).json()["state"] == "revoked"
    assert "revoked" in assert_problem(anonymous.get(f"{API}/tenant"), 401, "not-authenticated")["detail"]


def test_a_stranger_revokes_nothing(owner, stranger):
    made = mint(owner)
    assert_problem(stranger.post(f"{API}/keys/{made['id']}:revoke"), 404, "not-found")
    assert_problem(stranger.delete(f"{API}/keys/{made['id']}"), 404, "not-found")
    assert owner.get(f"{API}/keys/{made['id']}").json()["state"] == "active"


def test_the_list_filters(owner):
    owner.post(f"{API}/projects", {"slug": "search", "name": "Search"})
    made = mint(owner, project="search")
    by_project = owner.get(f"{API}/keys?project=search").json()["results"]
    assert [each["id"] for each in by_project] == [made["id"]]
    management = owner.get(f"{API}/keys?scope=management").json()["results"]
    assert {each["scope"] for each in management} == {"management"}
    assert_problem(owner.get(f"{API}/keys?scope=all"), 422, "invalid")


def test_playground_keys_are_not_listed(owner, tenant):
    with scope.tenant(tenant.id):
        key, _ = key_mint(
            name="playground", key_scope=KeyScope.INFERENCE, project=default_project(tenant), ephemeral=True
        )
        assert ApiKey.objects.filter(id=key.id).exists()
    assert str(key.id) not in owner.get(f"{API}/keys").content.decode()


LIMITS = {
    "slo_class": "batch", "context_tokens": 4096, "requests_per_minute": 60, "tokens_per_minute": 10_000,
}  # fmt: skip


@pytest.mark.usefixtures("estate")
def test_an_inference_key_is_made_and_changed_with_limits(owner):
    made = mint(owner, **LIMITS)
    assert LIMITS.items() <= made.items()
    path = f"{API}/keys/{made['id']}"
    lifted = {"slo_class": "", "context_tokens": None, "requests_per_minute": None}
    changed = owner.patch(path, lifted)
    assert changed.status_code == 200, changed.content
    assert (lifted | {"tokens_per_minute": 10_000}).items() <= changed.json().items()
    assert owner.get(path).json() == changed.json()


@pytest.mark.usefixtures("estate")
@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"slo_class": "gold"}, "slo_class"),
        ({"context_tokens": 1}, "context_tokens"),
        ({"requests_per_minute": 0}, "requests_per_minute"),
        ({"tokens_per_minute": "many"}, "tokens_per_minute"),
    ],
)
def test_a_wrong_limit_is_named(owner, changes, field):
    body = {"name": "ci", "scope": "inference", "project": "default"} | changes
    assert list(assert_problem(owner.post(f"{API}/keys", body), 422, "invalid")["errors"]) == [field]
    path = f"{API}/keys/{mint(owner)['id']}"
    assert list(assert_problem(owner.patch(path, changes), 422, "invalid")["errors"]) == [field]


def test_management_keys_have_no_limits(owner):
    body = {"name": "ci", "scope": "management", "role": "viewer", "tokens_per_minute": 5}
    assert list(assert_problem(owner.post(f"{API}/keys", body), 422, "invalid")["errors"]) == [
        "tokens_per_minute"
    ]
    made = mint(owner, scope="management", role="viewer", project=...)
    path = f"{API}/keys/{made['id']}"
    assert_problem(owner.patch(path, {"tokens_per_minute": 5}), 422, "invalid")
    assert owner.patch(path, {"name": "robot"}).json()["name"] == "robot"


def test_changing_a_key_wants_the_role_and_the_tenant(owner, stranger, tenant):
    path = f"{API}/keys/{mint(owner)['id']}"
    held = f"{API}/keys/{mint(owner, scope='management', role='owner', project=...)['id']}"
    assert_problem(client_of(tenant, Role.VIEWER).patch(path, {"name": "x"}), 403, "forbidden")
    assert_problem(client_of(tenant, Role.DEVELOPER).patch(held, {"name": "x"}), 403, "forbidden")
    assert_problem(stranger.patch(path, {"name": "x"}), 404, "not-found")
    assert client_of(tenant, Role.DEVELOPER).patch(path, {"name": "mine"}).json()["name"] == "mine"
