"""Rotating keys through the REST API: a new one takes the place of the old one, which goes on for a while."""

from __future__ import annotations

import datetime as dt
import uuid

import pytest
from django.utils import timezone

from tenants import scope
from tenants.models import ApiKey, Role
from tests.api.conftest import client_of
from tests.api.contract import API, assert_problem
from tests.api.test_authentication import with_header
from tests.api.test_keys import mint

pytestmark = pytest.mark.django_db


def rotate(client, key_id: str, **body):
    return client.post(f"{API}/keys/{key_id}:rotate", body)


def rotated(client, key_id: str, **body) -> dict:
    response = rotate(client, key_id, **body)
    assert response.status_code == 201, response.content
    return response.json()


def works(text: str) -> int:
    return with_header(f"Bearer {text}").get(f"{API}/projects").status_code


def test_the_new_key_may_what_the_old_one_might_and_both_work_meanwhile(owner):
    old = mint(
        owner, scope="management", role="developer", project=..., verbs=["view", "order"],
        networks=["127.0.0.0/8"],
    )  # fmt: skip
    new = rotated(owner, old["id"], overlap_s=3600)
    same = ("name", "scope", "role", "project", "verbs", "networks", "endpoints", "projects")
    assert {name: new[name] for name in same} == {name: old[name] for name in same}
    assert new["key"] != old["key"]
    assert new["earlier"] == [old["id"]]
    assert works(old["key"]) == works(new["key"]) == 200
    shown = owner.get(f"{API}/keys/{old['id']}").json()
    assert (shown["state"], shown["replaced_by"]) == ("active", new["id"])
    left = dt.datetime.fromisoformat(shown["expires_at"]) - timezone.now()
    assert dt.timedelta(minutes=58) < left <= dt.timedelta(hours=1)


@pytest.mark.usefixtures("estate")
def test_the_new_key_keeps_limits_and_lasts_as_long_as_the_old_one_was_made_for(owner):
    limits = {"slo_class": "batch", "context_tokens": 512, "requests_per_minute": 6, "tokens_per_minute": 70}
    until = timezone.now() + dt.timedelta(days=30)
    old = mint(owner, expires_at=until.isoformat(), **limits)
    new = rotated(owner, old["id"])
    assert limits.items() <= new.items()
    life = dt.datetime.fromisoformat(new["expires_at"]) - timezone.now()
    assert dt.timedelta(days=29, hours=23) < life <= dt.timedelta(days=30, minutes=1)
    other = rotated(owner, new["id"], expires_at=(timezone.now() + dt.timedelta(days=3)).isoformat())
    assert other["earlier"] == [old["id"], new["id"]]
    assert dt.datetime.fromisoformat(other["expires_at"]) < timezone.now() + dt.timedelta(days=4)


def test_without_overlap_the_old_key_ends_at_once(owner):
    old = mint(owner, scope="management", role="viewer", project=...)
    new = rotated(owner, old["id"], overlap_s=0)
    assert (works(old["key"]), works(new["key"])) == (401, 200)
    assert owner.get(f"{API}/keys/{old['id']}").json()["state"] == "expired"
    told = with_header(f"Bearer {old['key']}").get(f"{API}/projects").json()["detail"]
    assert "replaced" in told


def test_an_overlap_makes_no_key_last_longer(owner):
    soon = timezone.now() + dt.timedelta(minutes=5)
    old = mint(owner, expires_at=soon.isoformat())
    rotated(owner, old["id"], overlap_s=86_400)
    assert dt.datetime.fromisoformat(owner.get(f"{API}/keys/{old['id']}").json()["expires_at"]) == soon


def test_what_cannot_be_rotated_is_told_why(owner, tenant):
    old = mint(owner)
    new = rotated(owner, old["id"])
    twice = assert_problem(rotate(owner, old["id"]), 409, "conflict")
    assert twice["replaced_by"] == new["id"]
    owner.post(f"{API}/keys/{new['id']}:revoke")
    assert "revoked" in assert_problem(rotate(owner, new["id"]), 409, "conflict")["detail"]
    gone = mint(owner)
    with scope.tenant(tenant.id):
        ApiKey.objects.filter(id=gone["id"]).update(expires_at=timezone.now() - dt.timedelta(seconds=1))
    assert "expired" in assert_problem(rotate(owner, gone["id"]), 409, "conflict")["detail"]


@pytest.mark.parametrize("overlap_s", [-1, 30 * 86_400 + 1, "long"])
def test_overlaps_have_bounds(owner, overlap_s):
    refused = rotate(owner, mint(owner)["id"], overlap_s=overlap_s)
    assert list(assert_problem(refused, 422, "invalid")["errors"]) == ["overlap_s"]


def test_a_repeat_gives_the_same_key_again(owner):
    old = mint(owner)
    send = {"path": f"{API}/keys/{old['id']}:rotate", "data": {}, "headers": {"Idempotency-Key": "once"}}
    first, again = owner.post(**send), owner.post(**send)
    assert first.status_code == 201
    assert again.content == first.content
    assert first["Location"] == f"http://testserver{API}/keys/{first.json()['id']}"


def test_rotating_wants_the_role_and_the_tenant(owner, stranger, tenant):
    held = mint(owner, scope="management", role="owner", project=...)["id"]
    assert_problem(rotate(client_of(tenant, Role.DEVELOPER), held), 403, "forbidden")
    assert_problem(rotate(client_of(tenant, Role.VIEWER), held), 403, "forbidden")
    assert_problem(rotate(stranger, held), 404, "not-found")
    assert_problem(rotate(owner, str(uuid.uuid4())), 404, "not-found")
