"""Members through the REST API."""

from __future__ import annotations

import pytest

from tenants import scope
from tenants.members import member_add
from tenants.models import Role, Tenant
from tests.api.conftest import client_of
from tests.api.contract import API, ChangeContract, assert_problem
from tests.factories import make_user

pytestmark = pytest.mark.django_db


def join(tenant: Tenant, email: str, role: str) -> str:
    """Have somebody in the tenant; gives the member's id."""
    with scope.tenant(tenant.id):
        return str(member_add(email=email, role=role, granter_role=Role.OWNER, name="Ada").id)


class TestMembers(ChangeContract):
    path = "members"
    changes = ({"role": "viewer"}, {"role": "billing"})

    def make(self, client, number: int = 0) -> str:
        with scope.platform("a test"):
            tenant = Tenant.objects.get(slug="acme")
        return join(tenant, f"ada{number}@example.org", Role.DEVELOPER)


def test_nobody_is_made_a_member_unasked(owner):
    make_user("ada@elsewhere.example", name="Ada Lovelace")
    answer = owner.post(f"{API}/members", {"email": "ada@elsewhere.example", "role": "viewer"})
    assert_problem(answer, 405, "method-not-allowed")
    assert "Lovelace" not in answer.content.decode()


def test_an_admin_cannot_make_or_unmake_owners(owner, tenant):
    admin = client_of(tenant, Role.ADMIN)
    lower, held = (
        f"{API}/members/{join(tenant, f'{role}@example.org', role)}" for role in (Role.VIEWER, Role.OWNER)
    )
    assert_problem(admin.patch(lower, {"role": "owner"}), 403, "forbidden")
    assert_problem(admin.patch(held, {"role": "viewer"}), 403, "forbidden")
    assert_problem(admin.delete(held), 403, "forbidden")
    assert [owner.get(path).json()["role"] for path in (lower, held)] == ["viewer", "owner"]


@pytest.mark.parametrize("role", ["king", ""])
def test_a_wrong_role_is_named(owner, tenant, role):
    path = f"{API}/members/{join(tenant, 'ada@example.org', Role.VIEWER)}"
    assert list(assert_problem(owner.patch(path, {"role": role}), 422, "invalid")["errors"]) == ["role"]


def test_roles_change_and_members_leave(owner, tenant):
    path = f"{API}/members/{join(tenant, 'ada@example.org', Role.VIEWER)}"
    member = owner.get(path).json()
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


def test_a_stranger_changes_nobody(owner, stranger, tenant):
    path = f"{API}/members/{join(tenant, 'ada@example.org', Role.VIEWER)}"
    assert_problem(stranger.patch(path, {"role": "owner"}), 404, "not-found")
    assert_problem(stranger.delete(path), 404, "not-found")
    assert owner.get(path).json()["role"] == "viewer"
