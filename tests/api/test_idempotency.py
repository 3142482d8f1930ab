"""Two equal creates at the same moment make one thing; records bind body, path and caller."""

from __future__ import annotations

import threading

import pytest
from django.db import connection
from rest_framework.test import APIClient

from tenants import scope
from tenants.models import IdempotencyRecord, Role
from tests.api.conftest import client_of
from tests.api.contract import API, assert_problem
from tests.estate import MODEL, make_estate
from tests.factories import make_tenant, management_key


def at_once(calls: list) -> list:
    """Run all calls in threads that start together; give their answers."""
    barrier = threading.Barrier(len(calls))
    answers: list = [None] * len(calls)

    def run(index: int) -> None:
        try:
            barrier.wait(timeout=30)
            answers[index] = calls[index]()
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[index]) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return answers


def poster(text: str, path: str, body: dict, **headers):
    def post():
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
        return client.post(f"{API}/{path}", body, headers=headers)

    return post


#: What makes money, capacity, keys or access: bodies by path.
MAKES = {
    "approval-rules": {"kind": "price-above", "amount": "1000"},
    "budgets": {"name": "All", "unit": "tokens", "limit": "1000", "period": "day"},
    "endpoints": {
        "name": "chat", "project": "default", "model": MODEL, "slo_class": "standard", "replicas": 1,
    },
    "invitations": {"email": "ada@example.org", "role": "viewer"},
    "keys": {"name": "ci", "scope": "management", "role": "viewer"},
    "projects": {"slug": "search", "name": "Search"},
    "service-accounts": {"name": "robot", "role": "viewer"},
    "webhooks": {"name": "hook", "url": "https://8.8.8.8/hook", "event_types": ["budget.spent"]},
}  # fmt: skip


@pytest.mark.usefixtures("committed_db")
def test_of_many_equal_requests_at_once_one_is_carried_out_whatever_it_makes():
    make_estate()
    tenant = make_tenant("acme")
    text, client = management_key(tenant), client_of(tenant)
    for path, body in MAKES.items():
        before = len(client.get(f"{API}/{path}").json()["results"])
        answers = at_once([poster(text, path, body, **{"Idempotency-Key": "one"})] * 5)
        assert {each.status_code for each in answers} == {201}, (path, answers[0].content)
        assert len({each.content for each in answers}) == 1, path
        assert sum(each.has_header("Idempotent-Replayed") for each in answers) == 4, path
        assert len(client.get(f"{API}/{path}").json()["results"]) == before + 1, path
    assert client.get(f"{API}/quotas").json()["results"][1]["used"] == 1


@pytest.mark.usefixtures("committed_db")
def test_two_unequal_creates_of_one_name_at_once_end_in_one_and_a_refusal():
    tenant = make_tenant("acme")
    text = management_key(tenant)
    create = poster(text, "projects", {"slug": "search", "name": "Search"})
    answers = at_once([create, create])
    statuses = sorted(each.status_code for each in answers)
    assert statuses in ([201, 409], [201, 422])
    assert len(client_of(tenant).get(f"{API}/projects").json()["results"]) == 2


@pytest.mark.django_db
def test_a_key_is_bound_to_caller_and_path(owner, tenant):
    body = {"slug": "search", "name": "Search"}
    headers = {"Idempotency-Key": "one"}
    assert owner.post(f"{API}/projects", body, headers=headers).status_code == 201
    admin = client_of(tenant, Role.ADMIN)
    assert_problem(admin.post(f"{API}/projects", body, headers=headers), 422, "invalid")
    invited = {"email": "ada@example.org", "role": "viewer"}
    assert owner.post(f"{API}/invitations", invited, headers=headers).status_code == 201


@pytest.mark.django_db
def test_fields_in_another_order_are_the_same_request(owner):
    headers = {"Idempotency-Key": "one"}
    texts = ('{"slug": "search", "name": "Search"}', '{"name":"Search","slug":"search"}')
    answers = [
        owner.generic("POST", f"{API}/projects", text, content_type="application/json", headers=headers)
        for text in texts
    ]
    assert answers[0].content == answers[1].content


@pytest.mark.django_db
def test_a_key_that_is_too_long_is_refused(owner):
    response = owner.post(f"{API}/projects", {}, headers={"Idempotency-Key": "x" * 256})
    assert "255" in assert_problem(response, 422, "invalid")["detail"]


@pytest.mark.django_db
def test_without_a_key_nothing_is_kept(owner, tenant):
    owner.post(f"{API}/projects", {"slug": "search", "name": "Search"})
    with scope.tenant(tenant.id):
        assert not IdempotencyRecord.objects.exists()
