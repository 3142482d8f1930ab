"""Service accounts through the REST API, and what their keys may."""

from __future__ import annotations

import pytest

from clusters.models import EndpointEvent
from tenants import scope
from tenants.errors import OverQuota
from tenants.keys import key_mint
from tenants.members import member_add, member_remove
from tenants.models import ApiKey, KeyScope, Role, ServiceAccount
from tenants.service_accounts import service_account_create
from tenants.services import project_create, quota_set
from tests.api.conftest import client_of
from tests.api.contract import API, EditContract, assert_problem
from tests.api.orders import order
from tests.api.test_authentication import with_header
from tests.api.test_keys import mint
from tests.factories import default_project, make_user

pytestmark = pytest.mark.django_db


class TestServiceAccounts(EditContract):
    path = "service-accounts"
    changes = ({"name": "renamed"}, {"active": False})
    may_create = frozenset({Role.OWNER, Role.ADMIN})

    def body(self, number: int = 0) -> dict:
        return {"name": f"robot {number}", "role": "developer"}


@pytest.fixture
def robot(owner) -> dict:
    """A service account."""
    response = owner.post(f"{API}/service-accounts", {"name": "ci", "role": "developer"})
    assert response.status_code == 201, response.content
    return response.json()


@pytest.fixture
def key(owner, robot) -> dict:
    """A management key of it."""
    return mint(owner, scope="management", project=..., service_account="ci")


def change(owner, robot, **body):
    response = owner.patch(f"{API}/service-accounts/{robot['id']}", body)
    assert response.status_code == 200, response.content


def ask(key):
    return with_header(f"Bearer {key['key']}")


def test_its_keys_act_with_its_role_as_of_now(owner, robot, key):
    body = {"slug": "a", "name": "A"}
    assert key["role"] == "developer"
    assert_problem(ask(key).post(f"{API}/projects", body), 403, "forbidden")
    change(owner, robot, role="admin")
    assert ask(key).post(f"{API}/projects", body).status_code == 201
    change(owner, robot, role="viewer")
    assert_problem(ask(key).post(f"{API}/projects", {"slug": "b", "name": "B"}), 403, "forbidden")
    assert owner.get(f"{API}/keys/{key['id']}").json()["role"] == "viewer"


def test_disabling_it_refuses_all_its_keys_and_enabling_takes_them_again(owner, robot, key):
    assert ask(key).get(f"{API}/projects").status_code == 200
    change(owner, robot, active=False)
    told = assert_problem(ask(key).get(f"{API}/projects"), 401, "not-authenticated")["detail"]
    assert "disabled" in told
    assert owner.get(f"{API}/keys/{key['id']}").json()["state"] == "disabled"
    body = {"name": "k", "scope": "management", "service_account": "ci"}
    assert_problem(owner.post(f"{API}/keys", body), 422, "invalid")
    change(owner, robot, active=True)
    assert ask(key).get(f"{API}/projects").status_code == 200


def test_removing_it_revokes_its_keys_and_frees_its_name(owner, robot, key):
    path = f"{API}/service-accounts/{robot['id']}"
    assert owner.delete(path).status_code == 204
    assert_problem(owner.get(path), 404, "not-found")
    assert_problem(ask(key).get(f"{API}/projects"), 401, "not-authenticated")
    shown = owner.get(f"{API}/keys/{key['id']}").json()
    assert (shown["state"], shown["service_account"]) == ("revoked", "ci")
    assert owner.post(f"{API}/service-accounts", {"name": "ci", "role": "viewer"}).status_code == 201


def test_the_history_names_it(owner, estate, key, tenant):
    order(ask(key), "chat")
    with scope.tenant(tenant.id):
        assert set(EndpointEvent.objects.exclude(actor="").values_list("actor", flat=True)) >= {
            "service account ci"
        }


def test_its_keys_outlive_the_member_who_made_them(tenant, owner):
    with scope.tenant(tenant.id):
        member = member_add(email="ada@acme.example", role=Role.ADMIN, granter_role=Role.OWNER)
        account = service_account_create(name="ci", role=Role.VIEWER, created_by=member.user)
        _, text = key_mint(
            name="deploy", key_scope=KeyScope.MANAGEMENT, service_account=account, created_by=member.user
        )
        member_remove(membership=member, granter_role=Role.OWNER)
        member.user.is_active = False
        member.user.save()
    assert with_header(f"Bearer {text}").get(f"{API}/projects").status_code == 200


def test_nobody_makes_changes_or_uses_one_above_the_own_role(owner, tenant):
    admin = client_of(tenant, Role.ADMIN)
    body = {"name": "boss", "role": "owner"}
    assert_problem(admin.post(f"{API}/service-accounts", body), 403, "forbidden")
    boss = owner.post(f"{API}/service-accounts", body).json()["id"]
    path = f"{API}/service-accounts/{boss}"
    assert_problem(admin.patch(path, {"role": "viewer"}), 403, "forbidden")
    assert_problem(admin.patch(path, {"active": False}), 403, "forbidden")
    assert_problem(admin.delete(path), 403, "forbidden")
    sent = {"name": "k", "scope": "management", "service_account": "boss"}
    assert_problem(admin.post(f"{API}/keys", sent), 403, "forbidden")
    made = owner.post(f"{API}/keys", sent)
    assert made.status_code == 201, made.content
    assert_problem(admin.post(f"{API}/keys/{made.json()['id']}:rotate"), 403, "forbidden")
    assert_problem(admin.post(f"{API}/keys/{made.json()['id']}:revoke"), 403, "forbidden")
    robot = owner.post(f"{API}/service-accounts", {"name": "ci", "role": "viewer"}).json()["id"]
    assert_problem(admin.patch(f"{API}/service-accounts/{robot}", {"role": "owner"}), 403, "forbidden")


def test_a_key_with_few_verbs_makes_no_account_that_may_more(owner):
    made = mint(
        owner, scope="management", role="admin", project=..., verbs=["view", "manage-service-accounts"]
    )
    body = {"name": "more", "role": "admin"}
    assert_problem(ask(made).post(f"{API}/service-accounts", body), 403, "forbidden")
    assert ask(made).post(f"{API}/service-accounts", {"name": "eyes", "role": "viewer"}).status_code == 201


def test_its_projects_narrow_its_keys(owner, robot, tenant):
    with scope.tenant(tenant.id):
        search = project_create(name="Search", slug="search")
        default = default_project(tenant)
    change(owner, robot, projects=[str(search.id)])
    body = {"name": "k", "scope": "inference", "service_account": "ci"}
    refused = owner.post(f"{API}/keys", {**body, "project": "default"})
    assert list(assert_problem(refused, 422, "invalid")["errors"]) == ["project"]
    assert owner.post(f"{API}/keys", {**body, "project": "search"}).status_code == 201
    management = mint(owner, scope="management", project=..., service_account="ci")
    slugs = [each["slug"] for each in ask(management).get(f"{API}/projects").json()["results"]]
    assert slugs == ["search"]
    # Limited to projects that the account may not see, a key sees nothing at all.
    apart = mint(owner, scope="management", project=..., service_account="ci", projects=[str(default.id)])
    assert_problem(ask(apart).get(f"{API}/projects"), 401, "not-authenticated")
    kept = owner.patch(f"{API}/service-accounts/{robot['id']}", {"projects": [str(default.id)]})
    assert "revoke that key first" in assert_problem(kept, 422, "invalid")["detail"]


def test_a_key_of_an_account_has_no_role_of_its_own(owner, robot):
    body = {"name": "k", "scope": "management", "service_account": "ci", "role": "viewer"}
    assert list(assert_problem(owner.post(f"{API}/keys", body), 422, "invalid")["errors"]) == ["role"]


def test_accounts_show_their_keys_and_last_use(owner, robot, key):
    owner.delete(f"{API}/keys/{mint(owner, service_account='ci')['id']}")
    ask(key).get(f"{API}/projects")
    shown = owner.get(f"{API}/service-accounts/{robot['id']}").json()
    assert shown["keys"] == 1
    assert shown["last_used_at"] is not None


def test_names_are_taken_once_and_other_tenants_have_their_own(owner, stranger, robot):
    body = {"name": "CI", "role": "viewer"}
    assert list(assert_problem(owner.post(f"{API}/service-accounts", body), 422, "invalid")["errors"]) == [
        "name"
    ]
    assert stranger.post(f"{API}/service-accounts", body).status_code == 201
    sent = {"name": "k", "scope": "management", "service_account": "ci"}
    assert_problem(stranger.post(f"{API}/keys", sent), 422, "invalid")


def test_a_tenant_has_as_many_as_it_may(owner, tenant, robot):
    with scope.tenant(tenant.id):
        quota_set(resource="service-accounts", limit=1)
    body = {"name": "more", "role": "viewer"}
    refused = assert_problem(owner.post(f"{API}/service-accounts", body), 403, OverQuota.code)
    assert (refused["limit"], refused["used"]) == (1, 1)
    shown = {each["resource"]: each for each in owner.get(f"{API}/quotas").json()["results"]}
    assert (shown["service-accounts"]["limit"], shown["service-accounts"]["used"]) == (1, 1)
    owner.delete(f"{API}/service-accounts/{robot['id']}")
    assert owner.post(f"{API}/service-accounts", body).status_code == 201


def test_the_database_keeps_a_key_from_having_both_a_role_and_an_account(tenant, robot):
    with scope.tenant(tenant.id):
        key = ApiKey(
            tenant_id=tenant.id, name="k", scope=KeyScope.MANAGEMENT, role=Role.OWNER, hint="x", digest="y",
            pepper_id=1, service_account=ServiceAccount.objects.get(id=robot["id"]),
        )  # fmt: skip
        with pytest.raises(Exception, match="key_has_role_or_project"):
            key.save()


def test_what_it_hands_out_ends_with_an_account_and_is_put_down_to_a_person(owner, tenant):
    person = make_user("ada@acme.example")
    with scope.tenant(tenant.id):
        account = service_account_create(name="boss", role=Role.ADMIN)
        _, text = key_mint(
            name="boss", key_scope=KeyScope.MANAGEMENT, service_account=account, created_by=person
        )
    boss = with_header(f"Bearer {text}")
    body = {"name": "k", "scope": "management"}
    alone = assert_problem(boss.post(f"{API}/keys", {**body, "role": "viewer"}), 403, "forbidden")
    assert "service account" in alone["detail"]
    held = mint(owner, scope="management", role="viewer", project=...)
    assert_problem(boss.post(f"{API}/keys/{held['id']}:rotate"), 403, "forbidden")
    assert boss.post(f"{API}/service-accounts", {"name": "more", "role": "admin"}).status_code == 201
    made = boss.post(f"{API}/keys", {**body, "service_account": "more"})
    assert made.status_code == 201, made.content
    rotated = ask(made.json()).post(f"{API}/keys/{made.json()['id']}:rotate")
    assert rotated.status_code == 201, rotated.content
    with scope.tenant(tenant.id):
        # Four eyes are not got round by a robot in between.
        for row in (
            *ApiKey.objects.filter(service_account__name="more"),
            ServiceAccount.objects.get(name="more"),
        ):
            assert row.created_by == person
