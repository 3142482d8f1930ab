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
    for verb in (owner.post, owner.put, owner.patch, owner.delete, owner.options):
        assert_problem(verb(f"{API}/{path}"), 405, "method-not-allowed")
