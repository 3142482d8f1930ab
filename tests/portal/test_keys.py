"""Keys in the portal: what they reach, replacing one, revoking many, one that leaked."""

from __future__ import annotations

import datetime as dt
import re

import pytest
from django.utils import timezone

from tenants import scope
from tenants.keys import key_mint
from tenants.models import ApiKey, KeyScope, Role, ServiceAccount
from tenants.service_accounts import service_account_create
from tenants.services import project_create
from tests.factories import default_project

pytestmark = pytest.mark.django_db

NEW = {"name": "backend", "scope": "inference", "project": "default", "role": "viewer", "life": "30"}


@pytest.fixture
def mint(world):
    """Mint an inference key, or another, in the world's tenant."""

    def mint(name: str = "app", **changes) -> tuple[ApiKey, str]:
        with scope.tenant(world.tenant.id):
            facts = {"key_scope": KeyScope.INFERENCE, "project": default_project(world.tenant), **changes}
            return key_mint(name=name, **facts)

    return mint


def only(world) -> ApiKey:
    with scope.tenant(world.tenant.id):
        return ApiKey.objects.select_related("project", "service_account").get()


def reread(world, key: ApiKey) -> ApiKey:
    with scope.tenant(world.tenant.id):
        return ApiKey.objects.get(id=key.id)


def test_an_inference_key_is_made_with_what_it_reaches(world):
    endpoint = world.order("chat")
    sent = {
        **NEW, "networks": "203.0.113.0/24, 2001:DB8::/32\n203.0.113.0/24", "inference_verbs": ["chat", "models"],
        "endpoints": [str(endpoint.id)], "management_verbs": ["view"],
    }  # fmt: skip
    made = world.browser("developer").post("/t/nord/keys/new", sent)
    assert made.status_code == 200
    key = only(world)
    assert key.networks == ["203.0.113.0/24", "2001:db8::/32"]
    assert (key.verbs, key.endpoints, key.projects) == (["chat", "models"], [endpoint.id], [])
    listed = world.browser("viewer").get("/t/nord/keys").content.decode()
    assert "2 networks" in listed
    assert "only chat, models" in listed
    assert "1 endpoint or route" in listed


def test_a_management_key_is_narrowed_to_verbs_and_projects(world):
    with scope.tenant(world.tenant.id):
        search = project_create(name="Search", slug="search")
    sent = {**NEW, "scope": "management", "management_verbs": ["view"], "projects": [str(search.id)]}
    assert world.browser("owner").post("/t/nord/keys/new", sent).status_code == 200
    key = only(world)
    assert (key.verbs, key.projects, key.endpoints) == (["view"], [search.id], [])
    assert "projects Search" in world.browser("owner").get("/t/nord/keys").content.decode()


@pytest.mark.parametrize(
    ("changes", "field", "fold"),
    [
        ({"networks": "10.0.0.1/8"}, "networks", "is_placed"),
        ({"inference_verbs": ["view"]}, "inference_verbs", "is_limited"),
        ({"endpoints": ["5"]}, "endpoints", "is_limited"),
        ({"scope": "management", "management_verbs": ["chat"]}, "management_verbs", "is_narrowed"),
    ],
)
def test_a_mistake_opens_the_fold_that_it_is_in(world, changes, field, fold):
    answer = world.browser("owner").post("/t/nord/keys/new", {**NEW, **changes})
    assert answer.status_code == 422
    form = answer.context["form"]
    assert field in form.errors
    assert getattr(form, fold)
    untouched = world.browser("owner").get("/t/nord/keys/new").context["form"]
    assert not any((untouched.is_placed, untouched.is_limited, untouched.is_narrowed))


def test_an_endpoint_of_another_project_is_refused(world):
    with scope.tenant(world.tenant.id):
        project_create(name="Search", slug="search")
    endpoint = world.order("chat")
    sent = {**NEW, "project": "search", "endpoints": [str(endpoint.id)]}
    answer = world.browser("owner").post("/t/nord/keys/new", sent)
    assert answer.status_code == 422
    assert "endpoints" in answer.context["form"].errors


def test_a_key_is_changed_and_ticks_of_what_is_gone_stay_until_taken_away(world, mint):
    endpoint = world.order("chat")
    key, _ = mint(narrowed={"endpoints": [endpoint.id], "networks": ["10.0.0.0/8"], "verbs": ["chat"]})
    with scope.tenant(world.tenant.id):
        type(endpoint).objects.filter(id=endpoint.id).update(wanted="deleted")
    browser, path = world.browser("owner"), f"/t/nord/keys/{key.id}"
    page = browser.get(path).content.decode()
    assert "(is gone)" in page
    sent = {
        "name": "renamed", "networks": "10.0.0.0/8", "inference_verbs": ["chat", "files"],
        "endpoints": [str(endpoint.id)],
    }  # fmt: skip
    assert browser.post(path, sent).status_code == 302
    kept = reread(world, key)
    assert (kept.name, kept.verbs, kept.endpoints) == ("renamed", ["chat", "files"], [endpoint.id])
    assert browser.post(path, {"name": "renamed"}).status_code == 302
    assert reread(world, key).endpoints == reread(world, key).networks == []


def test_replacing_shows_the_new_text_once_and_the_old_key_until_when_it_goes_on(world, mint):
    key, old = mint()
    browser, path = world.browser("developer"), f"/t/nord/keys/{key.id}/rotate"
    assert "A new key may do the same" in browser.get(path).content.decode()
    assert world.browser("viewer").post(path, {"overlap": "3600"}).status_code == 403
    assert browser.post(path, {"overlap": "5"}).status_code == 422
    made = browser.post(path, {"overlap": "3600"})
    text = re.search(r"berth_\w{42}", made.content.decode()).group()
    assert made["Cache-Control"] == "no-store"
    assert text != old
    listed = browser.get("/t/nord/keys").content.decode()
    assert text not in listed
    assert "being replaced until" in listed
    assert "took another&#x27;s place" in listed or "took another's place" in listed
    assert reread(world, key).expires_at < timezone.now() + dt.timedelta(hours=1, minutes=1)
    again = browser.post(path, {"overlap": "3600"})
    assert again.status_code == 409
    assert "replaced already" in again.content.decode()


def test_many_are_looked_at_ticked_confirmed_and_then_revoked(world, mint):
    (a, _), (b, _), (other, _) = mint("chat a"), mint("chat b"), mint("search")
    browser = world.browser("developer")
    path = "/t/nord/keys/revoke"
    assert "Find keys" in browser.get(path).content.decode()
    found = browser.get(path, {"name": "chat"})
    assert {str(row["key"].id) for row in found.context["rows"]} == {str(a.id), str(b.id)}
    assert "No key is meant" in browser.get(path, {"name": "nothing"}).content.decode()
    later, _ = mint("chat c")
    asked = browser.post(path, {"key": [str(a.id), str(b.id)]})
    assert "Exactly these" in asked.content.decode()
    assert reread(world, a).revoked_at is None
    done = browser.post(path, {"key": [str(a.id), str(b.id)], "confirmed": "yes"}, follow=True)
    assert "2 keys are revoked" in done.content.decode()
    assert [reread(world, key).revoked_at is None for key in (a, b, later, other)] == [
        False,
        False,
        True,
        True,
    ]
    assert browser.post(path, {"confirmed": "yes"}).status_code == 422
    assert browser.post(path, {"key": "nonsense"}).status_code == 422


def test_keys_above_ones_role_are_shown_and_not_to_be_ticked(world, mint):
    held, _ = mint("boss", key_scope=KeyScope.MANAGEMENT, role=Role.OWNER, project=None)
    browser = world.browser("developer")
    found = browser.get("/t/nord/keys/revoke", {"purpose": "management"}).content.decode()
    assert "its role is above yours" in found
    assert 'type="checkbox"' not in found
    refused = browser.post("/t/nord/keys/revoke", {"key": str(held.id), "confirmed": "yes"})
    assert refused.status_code == 403
    assert reread(world, held).revoked_at is None


def test_a_leaked_key_is_revoked_and_its_text_never_written_back(world, mint):
    key, text = mint()
    browser = world.browser("developer")
    cut = browser.post("/t/nord/keys/leaked", {"key": text[:-1]})
    assert cut.status_code == 422
    assert text[:20] not in cut.content.decode()
    done = browser.post("/t/nord/keys/leaked", {"key": f"  {text} "}, follow=True)
    assert "is revoked" in done.content.decode()
    assert reread(world, key).revoked_at is not None
    assert world.browser("viewer").post("/t/nord/keys/leaked", {"key": text}).status_code == 403


def test_service_accounts_are_added_changed_switched_and_removed(world):
    browser = world.browser("owner")
    base = "/t/nord/service-accounts"
    assert "No service accounts yet" in browser.get(base).content.decode()
    sent = {"name": "deploy", "description": "Pipeline", "role": "developer"}
    assert "Make a key for it next" in browser.post(f"{base}/new", sent, follow=True).content.decode()
    taken = browser.post(f"{base}/new", sent)
    assert taken.status_code == 422
    assert "name" in taken.context["form"].errors
    with scope.tenant(world.tenant.id):
        account = ServiceAccount.objects.get()
        assert account.created_by == world.people["owner"]
    path = f"{base}/{account.id}"
    with scope.tenant(world.tenant.id):
        project = default_project(world.tenant)
    changed = {"name": "deployer", "description": "", "role": "viewer", "projects": [str(project.id)]}
    assert browser.post(path, changed).status_code == 302
    made = browser.post("/t/nord/keys/new", {**NEW, "scope": "management", "service_account": "deployer"})
    assert made.status_code == 200
    key = only(world)
    assert (key.service_account.name, key.role, key.acting_role) == ("deployer", "", "viewer")
    assert "deployer" in browser.get("/t/nord/keys?service_account=deployer").content.decode()
    assert "disabled" in browser.post(f"{path}/switch", {"active": "no"}, follow=True).content.decode()
    assert 'data-state="disabled"' in browser.get("/t/nord/keys").content.decode()
    assert "enabled" in browser.post(f"{path}/switch", {"active": "yes"}, follow=True).content.decode()
    assert "All its keys are revoked" in browser.get(f"{path}/remove").content.decode()
    assert "is removed" in browser.post(f"{path}/remove", follow=True).content.decode()
    assert only(world).revoked_at is not None


def test_only_owners_and_admins_manage_service_accounts(world):
    with scope.tenant(world.tenant.id):
        account = service_account_create(name="ci", role=Role.VIEWER)
    for who in ("developer", "viewer"):
        browser = world.browser(who)
        page = browser.get("/t/nord/service-accounts").content.decode()
        assert "ci" in page
        assert "Remove" not in page
        for path in ("new", f"{account.id}", f"{account.id}/switch", f"{account.id}/remove"):
            assert browser.post(f"/t/nord/service-accounts/{path}", {}).status_code == 403
    assert world.browser("stranger").get(f"/t/nord/service-accounts/{account.id}").status_code == 404
    assert world.browser("stranger").post(f"/t/other/service-accounts/{account.id}/remove").status_code == 404
