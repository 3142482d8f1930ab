"""Members through the REST API."""

from __future__ import annotations

import pytest

from tenants.models import Role, User
from tests.api.conftest import client_of
from tests.api.contract import API, EditContract, assert_problem

pytestmark = pytest.mark.django_db


class TestMembers(EditContract):
    path = "members"
    changes = ({"role": "viewer"}, {"role": "billing"})
    may_create = frozenset({Role.OWNER, Role.ADMIN})

    def body(self, number: int = 0) -> dict:
        return {"email": f"ada{number}@example.org", "role": "developer", "name": "Ada"}


def add(client, email: str, role: str) -> dict:
    return client.post(f"{API}/members", {"email": email, "role": role}).json()


def test_a_new_person_gets_an_account_without_password(owner):
    member = add(owner, "Ada@Example.org", "viewer")
    assert member["email"] == "ada@example.org"
    assert not User.objects.get(email="ada@example.org").has_usable_password()


def test_a_known_person_keeps_the_account(owner, stranger):
    add(stranger, "ada@example.org", "owner")
    add(owner, "ada@example.org", "viewer")
    assert User.objects.filter(email="ada@example.org").count() == 1


def test_nobody_is_a_member_twice(owner):
    add(owner, "ada@example.org", "viewer")
    body = assert_problem(
        owner.post(f"{API}/members", {"email": "ADA@example.org", "role": "owner"}), 422, "invalid"
    )
    assert body["errors"] == {"email": ["This person is a member already."]}


@pytest.mark.parametrize(
    ("field", "value"), [("email", "ada"), ("email", ""), ("role", "king"), ("role", "")]
)
def test_a_wrong_value_is_named(owner, field, value):
    body = {"email": "ada@example.org", "role": "viewer", field: value}
    assert list(assert_problem(owner.post(f"{API}/members", body), 422, "invalid")["errors"]) == [field]


def test_an_admin_cannot_make_or_unmake_owners(owner, tenant):
    admin = client_of(tenant, Role.ADMIN)
    assert_problem(
        admin.post(f"{API}/members", {"email": "a@example.org", "role": "owner"}), 403, "forbidden"
    )
    held = add(owner, "b@example.org", "owner")
    assert_problem(admin.patch(f"{API}/members/{held['id']}", {"role": "viewer"}), 403, "forbidden")
    assert_problem(admin.delete(f"{API}/members/{held['id']}"), 403, "forbidden")
    assert not User.objects.filter(email="a@example.org").exists()


def test_roles_change_and_members_leave(owner):
    member = add(owner, "ada@example.org", "viewer")
    path = f"{API}/members/{member['id']}"
    assert owner.patch(path, {"role": "admin"}).json() == {**member, "role": "admin"}
    assert owner.delete(path).status_code == 204
    assert_problem(owner.get(path), 404, "not-found")
    assert_problem(owner.delete(path), 404, "not-found")


def test_the_last_owner_stays(owner):
    (last,) = owner.get(f"{API}/members").json()["results"]
    path = f"{API}/members/{last['id']}"
    assert_problem(owner.patch(path, {"role": "viewer"}), 409, "conflict")
    assert_problem(owner.delete(path), 409, "conflict")
    assert owner.get(path).json()["role"] == "owner"


def test_a_stranger_changes_nobody(owner, stranger):
    member = add(owner, "ada@example.org", "viewer")
    path = f"{API}/members/{member['id']}"
    assert_problem(stranger.patch(path, {"role": "owner"}), 404, "not-found")
    assert_problem(stranger.delete(path), 404, "not-found")
    assert owner.get(path).json()["role"] == "viewer"
