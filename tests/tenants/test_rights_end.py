"""Rights end with the person who had them."""

from __future__ import annotations

import pytest
from django.test import Client

from tenants import scope
from tenants.errors import NotFound
from tenants.keys import key_authenticate, key_mint
from tenants.members import member_add, member_change_role, member_remove
from tenants.models import KeyScope, Role
from tests.factories import default_project, make_tenant, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant():
    return make_tenant("acme")


@pytest.fixture
def admin(tenant):
    """An admin with a management key and an inference key of theirs."""
    with scope.tenant(tenant.id):
        return member_add(email="ada@acme.example", role=Role.ADMIN, granter_role=Role.OWNER)


def keys_of(tenant, membership):
    with scope.tenant(tenant.id):
        management, text = key_mint(
            name="ci", key_scope=KeyScope.MANAGEMENT, role=Role.ADMIN, created_by=membership.user
        )
        inference, _ = key_mint(
            name="app",
            key_scope=KeyScope.INFERENCE,
            project=default_project(tenant),
            created_by=membership.user,
        )
    return management, text, inference


def test_removing_a_member_revokes_the_management_keys_they_made(tenant, admin):
    _, text, inference = keys_of(tenant, admin)
    with scope.tenant(tenant.id):
        member_remove(membership=admin, granter_role=Role.OWNER)
        inference.refresh_from_db()
    with pytest.raises(NotFound, match="revoked"):
        key_authenticate(text)
    assert inference.revoked_at is None


def test_a_lower_role_revokes_the_keys_above_it(tenant, admin):
    _, text, _ = keys_of(tenant, admin)
    with scope.tenant(tenant.id):
        member_change_role(membership=admin, role=Role.DEVELOPER, granter_role=Role.OWNER)
    with pytest.raises(NotFound, match="revoked"):
        key_authenticate(text)


def test_a_key_made_in_the_moment_of_removal_is_refused(tenant, admin):
    person = admin.user
    with scope.tenant(tenant.id):
        member_remove(membership=admin, granter_role=Role.OWNER)
        _, text = key_mint(name="late", key_scope=KeyScope.MANAGEMENT, role=Role.ADMIN, created_by=person)
    with pytest.raises(NotFound, match="may no longer"):
        key_authenticate(text)


def test_a_key_of_somebody_inactive_is_refused(tenant, admin):
    _, text, _ = keys_of(tenant, admin)
    admin.user.is_active = False
    admin.user.save()
    with pytest.raises(NotFound, match="no longer active"):
        key_authenticate(text)


def test_nobody_changes_their_own_address(client: Client):
    user = make_user("mallory@acme.example")
    client.force_login(user)
    answer = client.post("/accounts/email/", {"action_add": "", "email": "cfo@victim.example"})
    assert answer.status_code == 404
    user.refresh_from_db()
    assert user.email == "mallory@acme.example"


def test_the_admin_has_no_sign_in_of_its_own(client: Client):
    answer = client.get("/admin/login/")
    assert answer.status_code == 302
    assert answer.url.startswith("/accounts/login/")
