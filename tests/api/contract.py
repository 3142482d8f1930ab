"""What holds for every resource of the API; a resource's test class inherits it."""

from __future__ import annotations

import re
import uuid

import pytest
from rest_framework.test import APIClient

from tenants.models import Role
from tests.api.conftest import client_of

API = "/api/v1"


def assert_problem(response, status: int, code: str) -> dict:
    """Check that an answer is a problem document of this kind and give it."""
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    body = response.json()
    assert body["code"] == code
    assert body["status"] == status
    assert body["type"] == f"/docs/errors#{code}"
    assert body["title"]
    assert body["detail"]
    return body


class ReadContract:
    """A list and its details. ``make`` makes one object through the API and gives its id."""

    path: str

    def make(self, client: APIClient, number: int = 0) -> str:
        raise NotImplementedError

    def test_the_list_shows_newest_first_and_pages_by_cursor(self, owner):
        made = [self.make(owner, number) for number in range(3)]
        listed = owner.get(f"{API}/{self.path}").json()
        assert [each["id"] for each in listed["results"]][:3] == made[::-1]
        seen, url = [], f"{API}/{self.path}?page_size=2"
        while url:
            page = owner.get(url).json()
            assert len(page["results"]) <= 2
            seen += [each["id"] for each in page["results"]]
            url = page["next"]
        assert seen == [each["id"] for each in listed["results"]]

    def test_every_role_may_read(self, owner, tenant):
        made = self.make(owner)
        for role in Role.values:
            client = client_of(tenant, role)
            assert client.get(f"{API}/{self.path}").status_code == 200
            assert client.get(f"{API}/{self.path}/{made}").json()["id"] == made

    def test_a_stranger_learns_nothing(self, owner, stranger):
        made = self.make(owner)
        assert made not in stranger.get(f"{API}/{self.path}").content.decode()
        theirs = stranger.get(f"{API}/{self.path}/{made}")
        missing = stranger.get(f"{API}/{self.path}/{uuid.uuid4()}")
        assert_problem(theirs, 404, "not-found")
        assert theirs.content == missing.content

    def test_nobody_reads_without_a_key(self, owner, anonymous):
        made = self.make(owner)
        for path in (self.path, f"{self.path}/{made}"):
            response = anonymous.get(f"{API}/{path}")
            assert_problem(response, 401, "not-authenticated")
            assert response["WWW-Authenticate"] == 'Bearer realm="berth"'

    @pytest.mark.parametrize("malformed", ["1", "not-a-uuid", "%00", "../tenant", "a" * 300])
    def test_a_malformed_id_is_not_found(self, owner, malformed):
        assert_problem(owner.get(f"{API}/{self.path}/{malformed}"), 404, "not-found")

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ("page_size=0", "page_size"),
            ("page_size=201", "page_size"),
            ("page_size=many", "page_size"),
            ("page_size=9" + "9" * 5000, "page_size"),
            ("cursor=nonsense", "cursor"),
            ("cursor=cD1ub3QtYS11dWlk", "cursor"),
            ("colour=blue", "colour"),
        ],
    )
    def test_a_wrong_parameter_is_named(self, owner, query, field):
        self.make(owner)
        body = assert_problem(owner.get(f"{API}/{self.path}?{query}"), 422, "invalid")
        assert list(body["errors"]) == [field]


class CreateContract(ReadContract):
    """Creating. ``body`` gives a body that is accepted; ``may_create`` are the roles that may send it."""

    may_create: frozenset[str]

    def body(self, number: int = 0) -> dict:
        raise NotImplementedError

    def make(self, client: APIClient, number: int = 0) -> str:
        response = client.post(f"{API}/{self.path}", self.body(number))
        assert response.status_code == 201, response.content
        return response.json()["id"]

    def test_creating_says_where_it_lives(self, owner):
        response = owner.post(f"{API}/{self.path}", self.body())
        assert response.status_code == 201, response.content
        made = response.json()["id"]
        assert response["Location"] == f"http://testserver{API}/{self.path}/{made}"
        assert owner.get(response["Location"]).json()["id"] == made

    def test_only_some_roles_may_create(self, tenant):
        for number, role in enumerate(Role.values):
            response = client_of(tenant, role).post(f"{API}/{self.path}", self.body(number))
            if role in self.may_create:
                assert response.status_code == 201, (role, response.content)
            else:
                assert role in assert_problem(response, 403, "forbidden")["detail"]

    def test_nobody_creates_without_a_key(self, anonymous):
        assert_problem(anonymous.post(f"{API}/{self.path}", self.body()), 401, "not-authenticated")

    def test_an_unknown_field_is_named_with_those_that_are_known(self, owner):
        response = owner.post(f"{API}/{self.path}", {**self.body(), "colour": "blue"})
        message = assert_problem(response, 422, "invalid")["errors"]["colour"][0]
        assert all(field in message for field in self.body())

    def test_every_missing_field_is_named(self, owner):
        errors = assert_problem(owner.post(f"{API}/{self.path}", {}), 422, "invalid")["errors"]
        assert errors
        assert set(errors) <= set(self.body()) | {"project", "role"}

    @pytest.mark.parametrize(
        "malformed", ['{"name": ', "[]", "7", "null", '{"a": NaN}', "\xff", "[" * 100_000]
    )
    def test_malformed_json_is_refused(self, owner, malformed):
        response = owner.generic(
            "POST", f"{API}/{self.path}", malformed.encode("latin-1"), content_type="application/json"
        )
        assert_problem(response, 400, "malformed")

    def test_other_media_types_are_refused(self, owner):
        response = owner.generic(
            "POST", f"{API}/{self.path}", b"a=b", content_type="application/x-www-form-urlencoded"
        )
        assert_problem(response, 415, "unsupported-media-type")

    def test_a_body_over_the_limit_is_refused(self, owner):
        body = b'{"name": "' + b"x" * (1024 * 1024) + b'"}'
        response = owner.generic("POST", f"{API}/{self.path}", body, content_type="application/json")
        assert_problem(response, 413, "body-too-large")

    def test_a_repeat_with_the_same_key_gets_the_first_answer(self, owner, tenant):
        send = {"path": f"{API}/{self.path}", "data": self.body(), "headers": {"Idempotency-Key": "once"}}
        first, again = owner.post(**send), owner.post(**send)
        assert first.status_code == again.status_code == 201
        assert first.content == again.content
        assert first["Location"] == again["Location"]
        assert again["Idempotent-Replayed"] == "true"
        assert not first.has_header("Idempotent-Replayed")

    def test_the_same_key_with_another_body_is_refused(self, owner):
        for number, code in ((0, 201), (1, 422)):
            response = owner.post(
                f"{API}/{self.path}", self.body(number), headers={"Idempotency-Key": "once"}
            )
            assert response.status_code == code
        assert_problem(response, 422, "idempotency-key-reused")

    def test_a_refused_create_does_not_use_up_its_key(self, owner):
        headers = {"Idempotency-Key": "retry"}
        assert_problem(owner.post(f"{API}/{self.path}", {}, headers=headers), 422, "invalid")
        assert owner.post(f"{API}/{self.path}", self.body(), headers=headers).status_code == 201


class ChangeContract(ReadContract):
    """Changing. ``changes`` are two different bodies for PATCH, neither of which is as it was made."""

    changes: tuple[dict, dict]

    def test_an_edit_for_the_version_seen_passes_and_for_an_older_one_is_refused(self, owner):
        path = f"{API}/{self.path}/{self.make(owner)}"
        one, two = self.changes
        seen = owner.get(path)["ETag"]
        changed = owner.patch(path, one, headers={"If-Match": seen})
        assert changed.status_code == 200, changed.content
        assert changed["ETag"] == owner.get(path)["ETag"] != seen
        assert_problem(owner.patch(path, two, headers={"If-Match": seen}), 412, "stale")
        assert owner.get(path).json() == changed.json()
        assert owner.patch(path, two, headers={"If-Match": "*"}).status_code == 200
        assert owner.patch(path, one).status_code == 200

    def test_an_edit_names_an_unknown_field(self, owner):
        path = f"{API}/{self.path}/{self.make(owner)}"
        errors = assert_problem(owner.patch(path, {"colour": "blue"}), 422, "invalid")["errors"]
        assert list(errors) == ["colour"]


class EditContract(CreateContract, ChangeContract):
    """Creating and changing."""


def filled(path: str) -> str:
    """Name what stands beside the id in a path."""
    path = path.replace("{number}", "1").replace("{slug}", "acme").replace("{pool}", "h100")
    return re.sub(r"{\w+_id}", str(uuid.UUID(int=8)), path)
