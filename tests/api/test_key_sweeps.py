"""Revoking many keys: first looked at, then exactly those; and keys whose text has leaked."""

from __future__ import annotations

import datetime as dt
import logging
import uuid

import pytest
from django.utils import timezone

from tenants import scope, secret_keys
from tenants.models import ApiKey, Role
from tests.api.conftest import client_of
from tests.api.contract import API, assert_problem
from tests.api.test_authentication import with_header
from tests.api.test_keys import mint

pytestmark = pytest.mark.django_db


def swept(client, **body) -> list[str]:
    """Give the ids that a dry run shows."""
    response = client.post(f"{API}/keys:revoke-many", {"dry_run": True, **body})
    assert response.status_code == 200, response.content
    assert response.json()["dry_run"] is True
    return [each["id"] for each in response.json()["results"]]


def revoke(client, *ids: str):
    return client.post(f"{API}/keys:revoke-many", {"dry_run": False, "ids": list(ids)})


def states(client, *ids: str) -> list[str]:
    return [client.get(f"{API}/keys/{each}").json()["state"] for each in ids]


def test_a_dry_run_shows_which_are_meant_and_leaves_them(owner, tenant):
    owner.post(f"{API}/projects", {"slug": "search", "name": "Search"})
    a, b = mint(owner, name="chat a"), mint(owner, name="chat b", project="search")
    held = mint(owner, scope="management", role="viewer", project=...)
    gone = mint(owner, name="chat gone")
    owner.delete(f"{API}/keys/{gone['id']}")
    assert swept(owner, project="search") == [b["id"]]
    assert swept(owner, name="CHAT") == [a["id"], b["id"]]
    assert held["id"] in swept(owner, scope="management")
    assert swept(owner, scope="inference", name="chat a") == [a["id"]]
    assert swept(owner, texts=[a["key"], b["hint"], secret_keys.generate()]) == [a["id"], b["id"]]
    assert states(owner, a["id"], b["id"], held["id"]) == ["active"] * 3


def test_those_unused_since_a_moment_and_made_before(owner, tenant):
    fresh, used, old, never = (mint(owner, name=name) for name in ("fresh", "used", "old", "never"))
    now = timezone.now()
    with scope.tenant(tenant.id):
        keys = ApiKey.objects.exclude(id=fresh["id"]).filter(scope="inference")
        keys.update(created_at=now - dt.timedelta(days=100))
        ApiKey.objects.filter(id=used["id"]).update(last_used_at=now - dt.timedelta(days=2))
        ApiKey.objects.filter(id=old["id"]).update(last_used_at=now - dt.timedelta(days=60))
    since = (now - dt.timedelta(days=30)).isoformat()
    assert swept(owner, unused_since=since, scope="inference") == [old["id"], never["id"]]


def test_by_the_person_who_made_them_and_by_service_account(owner, tenant):
    owner.post(f"{API}/service-accounts", {"name": "ci", "role": "viewer"})
    theirs = mint(owner, scope="management", project=..., service_account="ci")
    assert swept(owner, service_account="ci") == [theirs["id"]]
    assert swept(owner, created_by="nobody@example.org") == []
    wrong = owner.post(f"{API}/keys:revoke-many", {"dry_run": True, "service_account": "missing"})
    assert list(assert_problem(wrong, 422, "invalid")["errors"]) == ["service_account"]


def test_exactly_the_named_are_revoked_and_nothing_new_is_caught(owner):
    first, second = mint(owner, name="one"), mint(owner, name="two")
    found = swept(owner, scope="inference")
    later = mint(owner, name="three")
    answer = revoke(owner, *found)
    assert answer.status_code == 200, answer.content
    assert {each["id"]: each["state"] for each in answer.json()["results"]} == dict.fromkeys(found, "revoked")
    assert states(owner, first["id"], second["id"], later["id"]) == ["revoked", "revoked", "active"]
    assert revoke(owner, *found).status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"dry_run": False, "scope": "inference"}, "ids"),
        ({"dry_run": False}, "ids"),
        ({"dry_run": True, "ids": [str(uuid.uuid4())], "scope": "inference"}, "ids"),
        ({"scope": "inference"}, "dry_run"),
        ({"dry_run": False, "ids": []}, "ids"),
        ({"dry_run": True, "texts": ["short"]}, "texts"),
        ({"dry_run": True, "colour": "blue"}, "colour"),
    ],
)
def test_filters_alone_revoke_nothing(owner, body, field):
    made = mint(owner)
    errors = assert_problem(owner.post(f"{API}/keys:revoke-many", body), 422, "invalid")["errors"]
    assert list(errors) == [field]
    assert states(owner, made["id"]) == ["active"]


def test_a_dry_run_without_any_filter_is_refused(owner):
    assert_problem(owner.post(f"{API}/keys:revoke-many", {"dry_run": True}), 422, "invalid")


def test_all_or_none(owner, stranger, tenant):
    mine, theirs = mint(owner), mint(stranger)
    for strange in (theirs["id"], str(uuid.uuid4())):
        missing = assert_problem(revoke(owner, mine["id"], strange), 404, "not-found")
        assert strange in missing["detail"]
    held = mint(owner, scope="management", role="owner", project=...)
    developer = client_of(tenant, Role.DEVELOPER)
    dry = developer.post(f"{API}/keys:revoke-many", {"dry_run": True, "ids": [mine["id"], held["id"]]})
    assert [each["revocable"] for each in dry.json()["results"]] == [True, False]
    assert_problem(revoke(developer, mine["id"], held["id"]), 403, "forbidden")
    assert_problem(revoke(client_of(tenant, Role.VIEWER), mine["id"]), 403, "forbidden")
    assert states(owner, mine["id"], held["id"]) == ["active", "active"]


def test_a_leaked_key_is_found_by_its_text_and_revoked(owner, tenant, caplog):
    caplog.set_level(logging.DEBUG)
    held = mint(owner, scope="management", role="owner", project=...)
    finder = client_of(tenant, Role.DEVELOPER)
    answer = finder.post(f"{API}/keys:leaked", {"key": f" {held['key']}\n"})
    assert answer.status_code == 200, answer.content
    assert (answer.json()["id"], answer.json()["state"]) == (held["id"], "revoked")
    assert held["key"] not in answer.content.decode()
    assert with_header(f"Bearer {held['key']}").get(f"{API}/tenant").status_code == 401
    assert held["key"] not in caplog.text


def test_another_tenants_leaked_key_reads_like_one_that_is_not_known(owner, stranger, tenant):
    theirs = mint(stranger)
    answers = [
        owner.post(f"{API}/keys:leaked", {"key": text}) for text in (theirs["key"], secret_keys.generate())
    ]
    assert [each.status_code for each in answers] == [404, 404]
    assert answers[0].content == answers[1].content
    assert states(stranger, theirs["id"]) == ["active"]
    cut = assert_problem(owner.post(f"{API}/keys:leaked", {"key": theirs["key"][:-1]}), 404, "not-found")
    assert "cut off" in cut["detail"]
    viewer = client_of(tenant, Role.VIEWER)
    assert_problem(viewer.post(f"{API}/keys:leaked", {"key": theirs["key"]}), 403, "forbidden")
