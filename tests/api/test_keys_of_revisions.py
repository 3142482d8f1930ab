"""Keys that one revision answers: made for measuring two of an endpoint side by side."""

from __future__ import annotations

import datetime as dt

import pytest
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from clusters.models import Revision
from tenants import scope
from tenants.models import ApiKey
from tests.api.contract import API, assert_problem
from tests.api.test_endpoints import order

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("estate")]

BODY = {"name": "replay", "scope": "inference", "project": "default"}


@pytest.fixture
def revision(owner, tenant) -> Revision:
    made = order(owner)
    with scope.tenant(tenant.id):
        return Revision.objects.get(endpoint_id=made["id"])


def test_it_reaches_that_revision_alone_for_a_day(owner, tenant, revision):
    made = owner.post(f"{API}/keys", BODY | {"revision_id": str(revision.id)})
    assert made.status_code == 201, made.content
    assert made.json()["endpoints"] == [str(revision.endpoint_id)]
    ends = parse_datetime(made.json()["expires_at"])
    assert dt.timedelta(hours=23) < ends - timezone.now() <= dt.timedelta(days=1)
    with scope.tenant(tenant.id):
        assert ApiKey.objects.get(id=made.json()["id"]).revision == revision.id
    assert owner.post(f"{API}/keys:leaked", {"key": made.json()["key"]}).json()["state"] == "revoked"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"revision_id": "00000000-0000-7000-8000-00000000dead"}, "revision_id"),
        ({"scope": "management", "role": "viewer", "project": None}, "revision_id"),
        ({"expires_at": "2999-01-01T00:00:00Z"}, "expires_at"),
        ({"endpoints": ["00000000-0000-7000-8000-00000000dead"]}, "endpoints"),
    ],
)
def test_what_does_not_go_together_is_named(owner, revision, changes, field):
    body = {"revision_id": str(revision.id), **BODY, **changes}
    sent = {name: value for name, value in body.items() if value is not None}
    assert field in assert_problem(owner.post(f"{API}/keys", sent), 422, "invalid")["errors"]


def test_a_revision_that_is_gone_or_of_another_tenant_is_none(owner, stranger, tenant, revision):
    body = BODY | {"revision_id": str(revision.id)}
    assert_problem(stranger.post(f"{API}/keys", body), 422, "invalid")
    with scope.tenant(tenant.id):
        Revision.objects.filter(id=revision.id).update(cleaned_at=timezone.now())
    assert "no revision" in str(assert_problem(owner.post(f"{API}/keys", body), 422, "invalid")["errors"])
