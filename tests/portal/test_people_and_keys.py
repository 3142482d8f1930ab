"""Keys, members and projects: making, changing, taking away."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from tenants import scope
from tenants.models import ApiKey, Membership, Project

pytestmark = pytest.mark.django_db

KEY = {"name": "backend", "scope": "inference", "project": "default", "role": "viewer", "life": "30"}


def test_a_key_is_shown_once(world):
    browser = world.browser("developer")
    made = browser.post("/t/nord/keys/new", KEY)
    text = re.search(r"berth_\w{42}", made.content.decode()).group()
    assert made["Cache-Control"] == "no-store"
    listed = browser.get("/t/nord/keys").content.decode()
    assert text not in listed
    assert text[:12] in listed
    assert text not in browser.get("/t/nord/keys/new").content.decode()
    with scope.tenant(world.tenant.id):
        key = ApiKey.objects.get()
        assert (key.project.slug, key.role, key.created_by) == ("default", "", world.people["developer"])


def test_a_management_key_has_a_role_not_above_ones_own(world):
    browser = world.browser("developer")
    assert browser.post("/t/nord/keys/new", {**KEY, "scope": "management"}).status_code == 200
    with scope.tenant(world.tenant.id):
        assert ApiKey.objects.get().role == "viewer"
    refused = browser.post("/t/nord/keys/new", {**KEY, "scope": "management", "role": "owner"})
    assert refused.status_code == 422
    assert "role" in refused.context["form"].errors


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"project": "nobody"}, "project"),
        ({"life": "9999"}, "life"),
        ({"scope": "x"}, "scope"),
    ],
)
def test_a_mistaken_key_form_keeps_what_was_typed(world, changes, field):
    answer = world.browser("owner").post("/t/nord/keys/new", {**KEY, **changes})
    assert answer.status_code == 422
    assert field in answer.context["form"].errors
    assert answer.context["form"].data["role"] == "viewer"


def test_revoking_asks_first_and_is_for_ever(world):
    browser = world.browser("owner")
    browser.post("/t/nord/keys/new", KEY)
    with scope.tenant(world.tenant.id):
        key = ApiKey.objects.get()
    path = f"/t/nord/keys/{key.id}/revoke"
    assert "cannot be brought back" in browser.get(path).content.decode()
    assert world.browser("viewer").post(path).status_code == 403
    assert "is revoked" in browser.post(path, follow=True).content.decode()
    assert 'data-state="revoked"' in browser.get("/t/nord/keys").content.decode()


def test_members_change_and_go(world):
    browser = world.browser("owner")
    with scope.tenant(world.tenant.id):
        member = Membership.objects.get(user=world.people["viewer"])
    browser.post(f"/t/nord/members/{member.id}/role", {"role": "admin"})
    with scope.tenant(world.tenant.id):
        assert Membership.objects.get(id=member.id).role == "admin"
    assert browser.post(f"/t/nord/members/{member.id}/role", {"role": "king"}).status_code == 422
    gone = browser.post(f"/t/nord/members/{member.id}/remove", follow=True)
    assert "no longer a member" in gone.content.decode()


def test_the_last_owner_stays(world):
    with scope.tenant(world.tenant.id):
        mine = Membership.objects.get(user=world.people["owner"])
    answer = world.browser("owner").post(f"/t/nord/members/{mine.id}/remove")
    assert answer.status_code == 409
    assert "needs an owner" in answer.content.decode()


def test_viewers_see_members_and_change_none(world):
    text = world.browser("viewer").get("/t/nord/members").content.decode()
    assert "developer@nord.example" in text
    assert "<select" not in text
    with scope.tenant(world.tenant.id):
        member = Membership.objects.get(user=world.people["developer"])
    assert (
        world.browser("viewer").post(f"/t/nord/members/{member.id}/role", {"role": "viewer"}).status_code
        == 403
    )


def test_projects_are_made_and_edited(world):
    browser = world.browser("owner")
    browser.post("/t/nord/projects/new", {"name": "Night Watch", "cost_centre": "CC-7", "slug": ""})
    with scope.tenant(world.tenant.id):
        project = Project.objects.get(slug="night-watch")
    taken = browser.post("/t/nord/projects/new", {"name": "Other", "slug": "night-watch"})
    assert taken.status_code == 422
    assert "exists already" in " ".join(taken.context["form"].errors["slug"])
    browser.post(f"/t/nord/projects/{project.id}", {"name": "Watch", "cost_centre": ""})
    with scope.tenant(world.tenant.id):
        project.refresh_from_db()
    assert (project.name, project.cost_centre) == ("Watch", "")


def test_forms_without_a_token_change_nothing(world):
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(world.people["owner"])
    answer = browser.post("/t/nord/keys/new", KEY)
    assert answer.status_code == 403
    assert "This form is too old" in answer.content.decode()
    with scope.tenant(world.tenant.id):
        assert not ApiKey.objects.exists()
