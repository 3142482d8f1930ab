"""Limits of keys, projects, endpoints and the tenant on their pages."""

from __future__ import annotations

import pytest

from clusters.models import Endpoint
from tenants import scope
from tenants.models import ApiKey, Project, Tenant
from tests.portal.test_people_and_keys import KEY

pytestmark = pytest.mark.django_db

LIMITS = {
    "requests_per_minute": "60", "tokens_per_minute": "90000", "context_tokens": "4096", "slo_class": "batch",
}  # fmt: skip


def test_a_key_is_made_with_limits_and_they_are_listed_and_changed(world):
    browser = world.browser("developer")
    assert browser.post("/t/nord/keys/new", KEY | LIMITS).status_code == 200
    listed = browser.get("/t/nord/keys").text
    for told in ("60 requests a minute", "90,000 tokens a minute", "4,096 tokens a request", "class batch"):
        assert told in listed
    with scope.tenant(world.tenant.id):
        key = ApiKey.objects.get()
    path = f"/t/nord/keys/{key.id}"
    assert browser.get(path).context["form"]["requests_per_minute"].value() == 60
    browser.post(path, {"name": "renamed", "tokens_per_minute": "5"})
    with scope.tenant(world.tenant.id):
        key.refresh_from_db()
    assert (key.name, key.requests_per_minute, key.tokens_per_minute, key.slo_class) == (
        "renamed",
        None,
        5,
        "",
    )
    wrong = browser.post(path, {"name": "", "tokens_per_minute": "0", "slo_class": "gold"})
    assert wrong.status_code == 422
    assert set(wrong.context["form"].errors) == {"name", "tokens_per_minute", "slo_class"}


def test_a_management_key_is_renamed_and_has_no_limits(world):
    browser = world.browser("owner")
    browser.post("/t/nord/keys/new", {**KEY, **LIMITS, "scope": "management"})
    with scope.tenant(world.tenant.id):
        key = ApiKey.objects.get()
    assert key.tokens_per_minute is None
    page = browser.get(f"/t/nord/keys/{key.id}")
    assert set(page.context["form"].fields) == {"name", "networks", "management_verbs", "projects"}
    browser.post(f"/t/nord/keys/{key.id}", {"name": "robot", "tokens_per_minute": "5"})
    with scope.tenant(world.tenant.id):
        key.refresh_from_db()
    assert (key.name, key.tokens_per_minute) == ("robot", None)


def test_wrong_limits_open_their_section_and_keep_what_was_typed(world):
    answer = world.browser("owner").post("/t/nord/keys/new", KEY | LIMITS | {"tokens_per_minute": "none"})
    assert answer.status_code == 422
    assert '<details class="more" data-of="inference" open>' in answer.text
    assert 'value="4096"' in answer.text


def test_a_project_is_limited(world):
    browser = world.browser("owner")
    browser.post("/t/nord/projects/new", {"name": "Night", "slug": "", "requests_per_minute": "30"})
    assert "30 requests a minute" in browser.get("/t/nord/projects").text
    with scope.tenant(world.tenant.id):
        project = Project.objects.get(slug="night")
    browser.post(
        f"/t/nord/projects/{project.id}", {"name": "Night", "cost_centre": "", "tokens_per_minute": "7"}
    )
    with scope.tenant(world.tenant.id):
        project.refresh_from_db()
    assert (project.requests_per_minute, project.tokens_per_minute) == (None, 7)


def test_an_endpoint_gets_limits_and_fallbacks(world):
    chat, small = world.order("chat"), world.order("small")
    away = world.order("away", residency="region:us-east-1")
    browser = world.browser("developer")
    path = f"/t/nord/endpoints/{chat.id}/limits"
    body = {"requests_per_minute": "600", "fallback_1": str(small.id), "fallback_2": str(away.id)}
    page = browser.post(path, body, follow=True)
    assert "600 requests a minute" in page.text
    assert "small, away" in page.text
    assert "it never takes these requests" in page.text
    with scope.tenant(world.tenant.id):
        assert Endpoint.objects.get(id=chat.id).fallbacks == [small.id, away.id]
    form = browser.get(path).context["form"]
    assert (form["fallback_1"].value(), form["requests_per_minute"].value()) == (str(small.id), 600)
    twice = browser.post(path, {"fallback_1": str(small.id), "fallback_2": str(small.id)})
    assert (twice.status_code, twice.context["form"].non_field_errors()) == (
        422,
        ["Name each fallback once."],
    )
    assert browser.post(path, {"fallback_1": str(chat.id)}).status_code == 422


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        ({"refuse_after": "", "files_days": "7"}, (None, 7)),
        ({"refuse_after": "3600", "files_days": "1"}, (3600, 1)),
        ({"refuse_after": "own", "minutes": "5", "files_days": "30"}, (300, 30)),
        ({"refuse_after": "own", "minutes": "", "files_days": "30"}, "minutes"),
        ({"refuse_after": "never", "files_days": "7"}, "refuse_after"),
        ({"refuse_after": "", "files_days": "31"}, "files_days"),
    ],
)
def test_the_tenants_choices(world, body, kept):
    browser = world.browser("owner")
    answer = browser.post("/t/nord/settings", body)
    with scope.tenant(world.tenant.id):
        tenant = Tenant.objects.get(id=world.tenant.id)
    if isinstance(kept, str):
        assert (answer.status_code, list(answer.context["form"].errors)) == (422, [kept])
        assert tenant.files_days == 7
        return
    assert answer.status_code == 302
    assert (tenant.refuse_after_s, tenant.files_days) == kept
    form = browser.get("/t/nord/settings").context["form"]
    assert (form["refuse_after"].value(), str(form["minutes"].value() or "")) == (
        body["refuse_after"], body.get("minutes", ""),
    )  # fmt: skip


def test_others_see_the_choices_and_make_none(world):
    for who in ("developer", "viewer"):
        browser = world.browser(who)
        assert "served on for ever" in browser.get("/t/nord/settings").text
        assert browser.post("/t/nord/settings", {"refuse_after": "", "files_days": "1"}).status_code == 403


def test_shared_endpoints_are_shown_to_every_tenant(world):
    endpoint = world.order("public")
    assert "Shared by the platform" not in world.browser("stranger").get("/t/other/").text
    with scope.tenant(world.tenant.id):
        Endpoint.objects.filter(id=endpoint.id).update(shared=True)
    page = world.browser("stranger").get("/t/other/").text
    assert "Shared by the platform" in page
    assert "<code>public</code>" in page
    assert "Nordwind" not in page
