"""Projects through the REST API."""

from __future__ import annotations

import io

import pytest
from django.core.handlers.asgi import ASGIRequest

from tenants.api.views import ProjectViewSet
from tenants.models import Role
from tests.api.conftest import client_of
from tests.api.contract import API, EditContract, assert_problem
from tests.factories import management_key

pytestmark = pytest.mark.django_db


class TestProjects(EditContract):
    path = "projects"
    changes = ({"name": "Find"}, {"name": "Look", "cost_centre": "9"})
    may_create = frozenset({Role.OWNER, Role.ADMIN})

    def body(self, number: int = 0) -> dict:
        return {"slug": f"search-{number}", "name": "Search", "cost_centre": "4711"}


def test_a_project_is_shown_as_it_was_sent(owner):
    made = owner.post(f"{API}/projects", {"slug": "search", "name": "Search", "cost_centre": "4711"}).json()
    assert {"slug": "search", "name": "Search", "cost_centre": "4711"}.items() <= made.items()


def test_a_chunked_body_is_read(tenant):
    headers = {
        "authorization": f"Bearer {management_key(tenant)}",
        "content-type": "application/json",
        "transfer-encoding": "chunked",
    }
    scope = {
        "type": "http",
        "method": "POST",
        "path": f"{API}/projects",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    request = ASGIRequest(scope, io.BytesIO(b'{"slug": "search", "name": "Search"}'))
    response = ProjectViewSet.as_view({"post": "create"})(request)
    assert (response.status_code, response.data["slug"]) == (201, "search")


def test_a_slug_can_be_used_once_in_any_case(owner):
    assert owner.post(f"{API}/projects", {"slug": "search", "name": "One"}).status_code == 201
    body = assert_problem(owner.post(f"{API}/projects", {"slug": "search", "name": "Two"}), 422, "invalid")
    assert "exists already" in body["errors"]["slug"][0]


@pytest.mark.parametrize("slug", ["", "Upper", "-a", "a b", "x" * 41, "ä", 7.5, None, ["a"], "a\x00b"])
def test_a_malformed_slug_is_refused(owner, slug):
    body = assert_problem(owner.post(f"{API}/projects", {"slug": slug, "name": "One"}), 422, "invalid")
    assert list(body["errors"]) == ["slug"]


def test_name_and_cost_centre_can_be_changed_one_by_one(owner):
    made = owner.post(f"{API}/projects", {"slug": "search", "name": "Search", "cost_centre": "1"}).json()
    changed = owner.patch(f"{API}/projects/{made['id']}", {"name": "Find"})
    assert changed.status_code == 200
    assert changed.json() == {**made, "name": "Find"}
    assert owner.patch(f"{API}/projects/{made['id']}", {"cost_centre": ""}).json()["cost_centre"] == ""
    assert owner.get(f"{API}/projects/{made['id']}").json()["name"] == "Find"


def test_limits_are_set_kept_and_lifted(owner):
    made = owner.post(
        f"{API}/projects", {"slug": "search", "name": "Search", "requests_per_minute": 90}
    ).json()
    assert (made["requests_per_minute"], made["tokens_per_minute"]) == (90, None)
    path = f"{API}/projects/{made['id']}"
    changed = owner.patch(path, {"tokens_per_minute": 5_000, "name": "Find"}).json()
    assert changed == {**made, "tokens_per_minute": 5_000, "name": "Find"}
    assert owner.patch(path, {"requests_per_minute": None}).json()["requests_per_minute"] is None
    errors = assert_problem(owner.patch(path, {"tokens_per_minute": 0}), 422, "invalid")["errors"]
    assert list(errors) == ["tokens_per_minute"]


def test_the_slug_stays(owner):
    made = owner.post(f"{API}/projects", {"slug": "search", "name": "Search"}).json()
    body = assert_problem(owner.patch(f"{API}/projects/{made['id']}", {"slug": "other"}), 422, "invalid")
    assert "name, cost_centre" in body["errors"]["slug"][0]


def test_changing_wants_the_role_and_the_tenant(owner, stranger, tenant):
    made = owner.post(f"{API}/projects", {"slug": "search", "name": "Search"}).json()
    path = f"{API}/projects/{made['id']}"
    assert_problem(client_of(tenant, Role.DEVELOPER).patch(path, {"name": "Mine"}), 403, "forbidden")
    assert_problem(stranger.patch(path, {"name": "Mine"}), 404, "not-found")
    assert owner.get(path).json()["name"] == "Search"


def test_projects_are_not_deleted(owner):
    made = owner.post(f"{API}/projects", {"slug": "search", "name": "Search"}).json()
    response = owner.delete(f"{API}/projects/{made['id']}")
    assert_problem(response, 405, "method-not-allowed")
    assert "PATCH" in response["Allow"]
