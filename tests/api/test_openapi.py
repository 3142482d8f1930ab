"""The description is sound, complete, and what it describes never shows one tenant to another."""

from __future__ import annotations

import re
import uuid

import pytest
from django.core.management import call_command
from django.urls import URLPattern, URLResolver, get_resolver

from clusters.models import Replica, Revision
from tenants import scope
from tenants.members import member_add
from tenants.models import Membership, Role
from tests.api.contract import API, assert_problem, filled
from tests.estate import MODEL

pytestmark = pytest.mark.django_db

# The public keys of evidence are for whoever checks it, with or without a key of the API.
UNDESCRIBED = {"openapi.json", "docs", "evidence-keys", "^.*$"}


_described: dict = {}


@pytest.fixture
def described(client) -> dict:
    """Give the description, which is the same whenever it is asked for and takes most of a second to make."""
    if not _described:
        response = client.get(f"{API}/openapi.json")
        assert response.status_code == 200
        assert response["Content-Type"].startswith("application/")
        _described.update(response.json())
    return _described


def test_the_description_is_valid_and_without_warnings(tmp_path):
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(tmp_path / "openapi.yaml"))


def patterns(resolver: URLResolver):
    for each in resolver.url_patterns:
        if isinstance(each, URLPattern):
            yield str(each.pattern)
        else:
            yield from patterns(each)


def test_every_path_of_the_api_is_described(described):
    api = next(
        each
        for each in get_resolver().url_patterns
        if isinstance(each, URLResolver) and str(each.pattern) == "api/v1/"
    )
    routes = {re.sub(r"<\w+:(\w+)>", r"{\1}", route) for route in patterns(api)} - UNDESCRIBED
    assert {f"{API}/{route}" for route in routes} == set(described["paths"])


def test_every_operation_describes_its_refusals(described):
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            assert {"401", "403"} <= set(operation["responses"]), (method, path)
            assert operation["tags"], (method, path)
            assert operation.get("description"), (method, path)


def test_what_an_operation_refuses_besides_is_a_problem_document_too(described):
    for path, method, status in (
        ("keys:leaked", "post", "404"),
        ("endpoints/{id}/logs", "get", "503"),
        ("endpoints/{id}/evidence", "get", "503"),
    ):
        answer = described["paths"][f"{API}/{path}"][method]["responses"][status]
        schema = answer["content"]["application/problem+json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/Problem"}


def test_the_page_lists_every_operation_without_scripts_of_others(client, described):
    page = client.get(f"{API}/docs").content.decode()
    for path, operations in described["paths"].items():
        assert path in page
        assert all(f'id="{operation["operationId"]}"' in page for operation in operations.values())
    assert 'src="http' not in page
    assert 'href="http' not in page


@pytest.fixture
def everything(owner, tenant, estate) -> set[str]:
    """One row of every kind in the owner's tenant; gives all of their ids."""
    project = owner.post(f"{API}/projects", {"slug": "secret-project", "name": "Secret"}).json()
    with scope.tenant(tenant.id):
        hidden = member_add(email="hidden@example.org", role=Role.VIEWER, granter_role=Role.OWNER)
    member = owner.get(f"{API}/members/{hidden.id}").json()
    key = owner.post(
        f"{API}/keys", {"name": "hush", "scope": "inference", "project": "secret-project"}
    ).json()
    order = {
        "name": "secret-chat",
        "project": "secret-project",
        "model": MODEL,
        "slo_class": "batch",
        "residency": "region:eu-fi-1",
    }
    endpoint = owner.post(f"{API}/endpoints", order).json()
    with scope.tenant(tenant.id):
        revision = Revision.objects.get()
        Replica.objects.create(
            revision=revision, endpoint=revision.endpoint, replica_id="secret-r1", index=0, phase="starting"
        )
        users = {str(each) for each in Membership.objects.values_list("user_id", flat=True)}
    made = (project, member, key, endpoint, endpoint["revision"])
    return {str(tenant.id), *users, *(each["id"] for each in made)}


def test_no_operation_shows_one_tenant_to_another(described, everything, stranger, estate):
    """Walk every GET with every id of the other tenant: 404, or an answer that holds none of them."""
    walked = 0
    for path, operations in described["paths"].items():
        if "get" not in operations:
            continue
        path = filled(path)
        targets = [path.replace("{id}", each) for each in everything] if "{id}" in path else [path]
        for target in targets:
            named = target.replace("{name}", "secret-chat").replace("{code}", "secret")
            response = stranger.get(named.replace("{use}", "gateway").replace("{slo_class}", "batch"))
            text = b"".join(response).decode()  # some are files
            walked += 1
            if "{id}" in path:
                assert_problem(response, 404, "not-found")
            assert not [each for each in everything if each in text], target
            assert "secret" not in text.lower(), target
            assert "hidden@example.org" not in text, target
            assert "hush" not in text, target
    assert walked > 20


def test_no_change_reaches_another_tenant(described, everything, stranger, owner, estate):
    before = {
        path: owner.get(f"{API}/{path}").content for path in ("projects", "members", "keys", "endpoints")
    }
    for path, operations in described["paths"].items():
        path = filled(path).replace("{name}", "de-a")
        for method in set(operations) - {"get"}:
            if "{id}" not in path:
                continue
            missing = stranger.generic(
                method.upper(), path.replace("{id}", str(uuid.uuid4())), "{}", content_type="application/json"
            )
            for each in everything:
                response = stranger.generic(
                    method.upper(), path.replace("{id}", each), "{}", content_type="application/json"
                )
                assert response.status_code in (404, 422), (method, path)
                assert response.content == missing.content, (method, path)
    after = {path: owner.get(f"{API}/{path}").content for path in before}
    assert after == before
