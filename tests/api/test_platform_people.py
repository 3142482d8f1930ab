"""Handing out roles of the platform: by whom, to whom, and what is never done."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from rest_framework.test import APIClient

from clusters.models import OperatorCluster
from tenants.models import PlatformRole, User
from tests.api.contract import assert_problem
from tests.api.test_operators import client_of
from tests.factories import make_user

PEOPLE = "/api/v1/platform/people"


def given(client: APIClient, **body):
    """Give somebody a role and get them as they are shown."""
    answer = client.post(PEOPLE, body, format="json")
    assert answer.status_code == 201, answer.content
    assert answer["Location"].endswith(f"{PEOPLE}/{answer.json()['id']}")
    return answer.json()


def me(client: APIClient) -> dict:
    rows = client.get(PEOPLE).json()["results"]
    return next(each for each in rows if each["email"] == "root@example.org")


def test_a_role_is_given_changed_and_taken_away(superuser, estate):
    made = given(superuser, email="New@Example.org", name="New", role="operator", clusters=["de-a"])
    assert (made["email"], made["role"], made["clusters"]) == ("new@example.org", "operator", ["de-a"])
    user = User.objects.get(email="new@example.org")
    assert not user.has_usable_password()
    client = client_of(user)
    assert [each["name"] for each in client.get("/api/v1/clusters").json()["results"]] == ["de-a"]

    path = f"{PEOPLE}/{made['id']}"
    wider = superuser.patch(path, {"clusters": ["de-a", "us-a"]}, format="json").json()
    assert (wider["role"], wider["clusters"]) == ("operator", ["de-a", "us-a"])
    assert len(client.get("/api/v1/clusters").json()["results"]) == 2
    every = superuser.patch(path, {"clusters": None}, format="json").json()
    assert every["clusters"] is None
    assert len(client.get("/api/v1/clusters").json()["results"]) == 3

    superuser.patch(path, {"clusters": ["fi-a"]}, format="json")
    other = superuser.patch(path, {"role": "finance"}, format="json").json()
    assert (other["role"], other["clusters"]) == ("finance", None)
    assert not OperatorCluster.objects.filter(user=user).exists()
    assert client.get("/api/v1/clusters").status_code == 403

    assert superuser.delete(path).status_code == 204
    assert User.objects.get(id=user.id).acts_as == ""
    assert superuser.get(path).status_code == 404


def test_a_superuser_made_here_may_hand_out_roles_and_use_the_admin(superuser):
    made = given(superuser, email="second@example.org", role="superuser")
    second = User.objects.get(id=made["id"])
    assert (second.is_superuser, second.is_staff) == (True, True)
    client = client_of(second)
    assert client.patch(f"{PEOPLE}/{me(client)['id']}", {"role": "auditor"}, format="json").status_code == 200
    root = User.objects.get(email="root@example.org")
    assert (root.acts_as, root.is_staff) == ("auditor", False)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"role": "operator"}, "email"),
        ({"email": "no address", "role": "operator"}, "email"),
        ({"email": "a@example.org", "role": "king"}, "role"),
        ({"email": "a@example.org", "role": "operator", "clusters": []}, "clusters"),
        ({"email": "a@example.org", "role": "operator", "clusters": ["nowhere"]}, "clusters"),
        ({"email": "a@example.org", "role": "finance", "clusters": ["de-a"]}, "clusters"),
        ({"email": "a@example.org", "role": "finance", "is_superuser": True}, "is_superuser"),
    ],
)
def test_what_is_wrong_is_named(superuser, estate, body, field):
    problem = assert_problem(superuser.post(PEOPLE, body, format="json"), 422, "invalid")
    assert field in {name.partition(".")[0] for name in problem["errors"]}
    assert not User.objects.filter(email="a@example.org").exists()


def test_who_has_a_role_is_not_given_another_by_the_way(superuser):
    given(superuser, email="a@example.org", role="auditor")
    answer = superuser.post(PEOPLE, {"email": "A@example.org", "role": "superuser"}, format="json")
    assert "auditor" in assert_problem(answer, 409, "conflict")["detail"]


def test_a_repeat_with_the_same_key_is_answered_alike(superuser):
    body = {"email": "a@example.org", "role": "auditor"}
    first, again = (
        superuser.post(PEOPLE, body, format="json", HTTP_IDEMPOTENCY_KEY="once") for _ in range(2)
    )
    assert first.content == again.content
    assert first.status_code == again.status_code == 201


def test_an_edit_is_meant_for_what_was_seen(superuser):
    made = given(superuser, email="a@example.org", role="auditor")
    path = f"{PEOPLE}/{made['id']}"
    seen = superuser.get(path)["ETag"]
    User.objects.filter(id=made["id"]).update(last_login="2026-05-01T00:00:00Z")
    changed = superuser.patch(path, {"role": "finance"}, format="json", HTTP_IF_MATCH=seen)
    assert changed.status_code == 200
    assert_problem(superuser.delete(path, HTTP_IF_MATCH=seen), 412, "stale")
    assert superuser.delete(path, HTTP_IF_MATCH=changed["ETag"]).status_code == 204


def test_nobody_changes_their_own_role(superuser):
    given(superuser, email="second@example.org", role="superuser")
    path = f"{PEOPLE}/{me(superuser)['id']}"
    for answer in (superuser.patch(path, {"role": "auditor"}, format="json"), superuser.delete(path)):
        assert "own role" in assert_problem(answer, 409, "conflict")["detail"]
    assert User.objects.get(email="root@example.org").is_superuser


def test_the_last_superuser_stays(superuser):
    """A second one who is suspended hands out nothing, so does not count."""
    second = make_user("second@example.org", is_superuser=True)
    client = client_of(second)
    User.objects.filter(email="root@example.org").update(is_active=False)
    assert_problem(client.delete(f"{PEOPLE}/{second.id}"), 409, "conflict")
    assert client.delete(f"{PEOPLE}/{me(client)['id']}").status_code == 204  # the suspended one may go
    assert User.objects.get(id=second.id).is_superuser


@pytest.mark.parametrize("kind", ["operator", "finance", "auditor"])
def test_only_superusers_hand_out_roles(kind, superuser):
    made = given(superuser, email="a@example.org", role="auditor")
    client = client_of(make_user(f"{kind}@berth.example", platform_role=kind))
    for answer in (
        client.post(PEOPLE, {"email": "b@example.org", "role": "auditor"}, format="json"),
        client.patch(f"{PEOPLE}/{made['id']}", {"role": "superuser"}, format="json"),
        client.delete(f"{PEOPLE}/{made['id']}"),
    ):
        assert_problem(answer, 403, "forbidden")
    may_look = kind == "auditor"
    assert client.get(PEOPLE).status_code == (200 if may_look else 403)
    assert client.get(f"{PEOPLE}/{made['id']}").status_code == (200 if may_look else 403)


def test_others_do_not_know_of_them(owner, anonymous, superuser):
    made = given(superuser, email="a@example.org", role="auditor")
    assert_problem(owner.get(PEOPLE), 404, "not-found")
    assert_problem(owner.delete(f"{PEOPLE}/{made['id']}"), 404, "not-found")
    assert_problem(anonymous.get(PEOPLE), 401, "not-authenticated")


def test_people_without_a_role_are_nobody_here(superuser, tenant):
    member = make_user("ann@example.org")
    assert_problem(superuser.get(f"{PEOPLE}/{member.id}"), 404, "not-found")
    emails = {each["email"] for each in superuser.get(PEOPLE).json()["results"]}
    assert emails == {"root@example.org"}
    assert member.platform_role == PlatformRole.NONE


@pytest.mark.parametrize("method", ["delete", "patch"])
def test_two_superusers_who_demote_each_other_at_once_leave_one(committed_db, method):
    pair = [make_user(f"{name}@example.org", is_superuser=True) for name in ("ada", "bea")]
    clients = [client_of(each) for each in pair]
    start = threading.Barrier(2)

    def demote(number: int) -> int:
        try:
            start.wait(timeout=60)
            body = {"role": "auditor"} if method == "patch" else None
            ask = getattr(clients[number], method)
            return ask(f"{PEOPLE}/{pair[1 - number].id}", body, format="json").status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as threads:
        answers = sorted(threads.map(demote, range(2)))
    # Who comes second is no superuser any more: told so, or not known at all.
    assert answers[0] in (200, 204)
    assert answers[1] in (403, 404, 409)
    assert User.objects.filter(is_superuser=True).count() == 1
