"""Every error is a problem document of a type that the docs explain."""

from __future__ import annotations

import pytest
from django.db import IntegrityError

from portal.api.error_types import ERROR_TYPES
from portal.api.errors import flatten, problem_handler
from tenants import services
from tenants.errors import BerthError
from tests.api.contract import API, assert_problem

pytestmark = pytest.mark.django_db


def kinds(base: type[BerthError] = BerthError):
    for kind in base.__subclasses__():
        yield kind
        yield from kinds(kind)


def test_every_error_of_every_room_is_explained(client):
    page = client.get("/docs/errors").content.decode()
    for kind in kinds():
        if not kind.__module__.startswith("tests."):
            assert kind.code in ERROR_TYPES, f"{kind} has no entry in portal.api.error_types"
            assert ERROR_TYPES[kind.code].status == kind.status, kind
    for code, explained in ERROR_TYPES.items():
        assert f'id="{code}"' in page
        assert explained.when in page.replace("&#x27;", "'")


@pytest.mark.parametrize(
    "path", ["/api", "/api/", "/api/v1", "/api/v1/", "/api/v1/nothing", "/api/v2/x", "/api/v1/projects/"]
)
def test_unknown_paths_are_json_too(client, path):
    for call in (client.get, client.post):
        assert path in assert_problem(call(path), 404, "not-found")["detail"]


@pytest.mark.parametrize(
    "door", ["snapshot", "tokenizers/x", "usage", "replicas", "leases", "signals", "wakes"]
)
def test_gateways_are_refused_in_the_same_form(client, door):
    call = client.get if door in ("snapshot", "tokenizers/x") else client.post
    assert_problem(call(f"/api/gateway/v1/{door}"), 401, "not-authenticated")


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5000, '{"slug": NaN}', '{"slug": "\udc80"', "\x00"]
)
def test_a_body_that_no_parser_should_follow_is_malformed(owner, text):
    body = text.encode(errors="surrogatepass")
    answer = owner.generic("POST", f"{API}/projects", body, content_type="application/json")
    assert_problem(answer, 400, "malformed")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("slug", "[" * 400 + "]" * 400), ("slug", '"\\ud800"'), ("cost_centre", '"\\u0000"'),
        ("requests_per_minute", "1e400"), ("requests_per_minute", "9" * 4000),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_kept_is_invalid(owner, field, value):
    text = f'{{"slug": "a", "name": "A", "{field}": {value}}}'
    answer = owner.generic("POST", f"{API}/projects", text, content_type="application/json")
    assert field in assert_problem(answer, 422, "invalid")["errors"]


def test_a_form_with_more_fields_than_any_has_is_refused(client):
    assert client.post("/accounts/login/", {f"f{n}": "1" for n in range(1001)}).status_code == 400


def test_a_wrong_method_lists_the_right_ones(owner):
    response = owner.put(f"{API}/projects", {})
    assert_problem(response, 405, "method-not-allowed")
    assert response["Allow"] == "GET, POST, HEAD"


def test_what_cannot_be_answered_in_the_wanted_form_is_said(owner):
    assert_problem(owner.get(f"{API}/projects", headers={"Accept": "text/html"}), 406, "not-acceptable")
    assert owner.get(f"{API}/projects", headers={"Accept": "*/*"}).status_code == 200


def test_a_fault_of_ours_is_a_problem_document_without_details(owner, monkeypatch):
    def fail(**_):
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr(services, "project_create", fail)
    owner.raise_request_exception = False
    response = owner.post(f"{API}/projects", {"slug": "a", "name": "A"})
    assert_problem(response, 500, "internal")
    assert b"secret" not in response.content


def test_a_lost_race_is_a_conflict():
    answer = problem_handler(IntegrityError("duplicate key"), {})
    assert (answer.status_code, answer.data["code"]) == (409, "conflict")
    assert "duplicate" not in answer.data["detail"]


def test_an_error_undoes_all_of_its_request(owner, monkeypatch):
    create = services.project_create

    def create_and_fail(**wishes):
        create(**wishes)
        raise BerthError("too late")

    monkeypatch.setattr(services, "project_create", create_and_fail)
    owner.post(f"{API}/projects", {"slug": "half", "name": "Half"})
    assert "half" not in owner.get(f"{API}/projects").content.decode()


def test_nested_errors_are_named_by_path():
    nested = {"a": {"b": ["wrong"]}, "c": [{}, {"d": ["bad"]}], "non_field_errors": ["together"]}
    assert flatten(nested) == {"a.b": ["wrong"], "c.1.d": ["bad"], "": ["together"]}
