"""The caller's own tenant and its quotas."""

from __future__ import annotations

import pytest

from tenants.models import Role
from tests.api.conftest import client_of
from tests.api.contract import API, assert_problem

pytestmark = pytest.mark.django_db


def test_a_key_sees_its_own_tenant(owner, stranger):
    mine = owner.get(f"{API}/tenant").json()
    assert {
        "slug": "acme",
        "name": "Acme",
        "currency": "EUR",
        "time_zone": "UTC",
        "state": "active",
    }.items() <= (mine.items())
    assert mine["quotas"] == [
        {"resource": "endpoints", "limit": 20, "used": 0},
        {"resource": "gpus", "limit": 8, "used": 0},
    ]
    assert stranger.get(f"{API}/tenant").json()["slug"] == "other"


def test_quotas_are_the_same_as_in_the_tenant(owner, tenant):
    for role in Role.values:
        quotas = client_of(tenant, role).get(f"{API}/quotas").json()
        assert quotas["results"] == owner.get(f"{API}/tenant").json()["quotas"]


@pytest.mark.parametrize("path", ["tenant", "quotas"])
def test_nobody_reads_without_a_key_and_nobody_writes(owner, anonymous, path):
    assert_problem(anonymous.get(f"{API}/{path}"), 401, "not-authenticated")
    refused = {owner.post, owner.put, owner.delete, owner.options}
    for verb in refused if path == "tenant" else refused | {owner.patch}:
        assert_problem(verb(f"{API}/{path}"), 405, "method-not-allowed")


def test_owners_choose_how_long_they_are_served_and_files_are_kept(owner, tenant):
    seen = owner.get(f"{API}/tenant")
    assert (seen.json()["refuse_after_s"], seen.json()["files_days"]) == (None, 7)
    changed = owner.patch(f"{API}/tenant", {"refuse_after_s": 900}, headers={"If-Match": seen["ETag"]})
    assert changed.status_code == 200, changed.content
    assert (changed.json()["refuse_after_s"], changed.json()["files_days"]) == (900, 7)
    assert changed["ETag"] == owner.get(f"{API}/tenant")["ETag"] != seen["ETag"]
    stale = owner.patch(f"{API}/tenant", {"files_days": 1}, headers={"If-Match": seen["ETag"]})
    assert_problem(stale, 412, "stale")
    assert owner.patch(f"{API}/tenant", {"refuse_after_s": None, "files_days": 30}).status_code == 200
    for role in Role.values:
        answer = client_of(tenant, role).patch(f"{API}/tenant", {"files_days": 3})
        assert answer.status_code == (200 if role in {Role.OWNER, Role.ADMIN} else 403), role


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"refuse_after_s": 59}, "refuse_after_s"), ({"refuse_after_s": "soon"}, "refuse_after_s"),
        ({"files_days": 0}, "files_days"), ({"files_days": 31}, "files_days"), ({"files_days": None}, "files_days"),
        ({"share": 5}, "share"), ({"requests_per_minute": 5}, "requests_per_minute"),
    ],
)  # fmt: skip
def test_what_a_tenant_may_not_choose_is_named(owner, body, field):
    assert list(assert_problem(owner.patch(f"{API}/tenant", body), 422, "invalid")["errors"]) == [field]


class TestTenantsForOperators:
    def test_an_operator_limits_a_tenant(self, operator, owner, tenant):
        path = f"{API}/tenants/acme"
        seen = operator.get(path)
        body = {"requests_per_minute": 600, "tokens_per_minute": 100_000, "share": 2.5}
        changed = operator.patch(path, body, headers={"If-Match": seen["ETag"]})
        assert changed.status_code == 200, changed.content
        assert body.items() <= changed.json().items()
        assert_problem(operator.patch(path, {"share": 1}, headers={"If-Match": seen["ETag"]}), 412, "stale")
        assert body.items() <= owner.get(f"{API}/tenant").json().items()
        assert operator.patch(path, {"requests_per_minute": None}).json()["requests_per_minute"] is None

    @pytest.mark.parametrize("body", [{"share": 0}, {"requests_per_minute": 0}, {"colour": "blue"}])
    def test_what_is_wrong_is_named(self, operator, tenant, body):
        problem = assert_problem(operator.patch(f"{API}/tenants/acme", body), 422, "invalid")
        assert list(problem["errors"]) == list(body)

    def test_to_others_it_does_not_exist(self, operator, owner, anonymous):
        for verb in (owner.get, owner.patch):
            assert_problem(verb(f"{API}/tenants/acme"), 404, "not-found")
        assert_problem(anonymous.get(f"{API}/tenants/acme"), 401, "not-authenticated")
        assert_problem(operator.get(f"{API}/tenants/nobody"), 404, "not-found")
