"""Limits of keys, projects and tenants: what they may be, and what the database holds on its own."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, transaction

from tenants import limits, scope
from tenants.errors import Forbidden, Invalid
from tenants.keys import key_mint
from tenants.models import ApiKey, KeyScope, Role, Tenant
from tests.factories import default_project, make_tenant

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant():
    return make_tenant("acme")


def test_what_is_left_out_stays_and_none_lifts(tenant):
    project = default_project(tenant)
    with scope.tenant(tenant.id):
        limits.project_limits_set(project=project, limits={"requests_per_minute": 5, "tokens_per_minute": 6})
        limits.project_limits_set(project=project, limits={"requests_per_minute": None})
        project.refresh_from_db()
    assert (project.requests_per_minute, project.tokens_per_minute) == (None, 6)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"limits": {"requests_per_minute": 0}}, "requests_per_minute"),
        ({"limits": {"tokens_per_minute": -1}}, "tokens_per_minute"),
        ({"share": 0.0}, "share"),
        ({"share": 101.0}, "share"),
    ],
)
def test_limits_of_a_tenant_have_bounds(tenant, change, field):
    with scope.tenant(tenant.id), pytest.raises(Invalid) as refused:
        limits.tenant_limits_set(tenant=tenant, **change)
    assert list(refused.value.errors) == [field]
    with scope.tenant(tenant.id):
        assert Tenant.objects.get(id=tenant.id).share == 1


@pytest.mark.parametrize("choices", [{"files_days": 31}, {"files_days": 0}, {"refuse_after_s": 5}])
def test_choices_of_a_tenant_have_bounds(tenant, choices):
    with scope.tenant(tenant.id), pytest.raises(Invalid) as refused:
        limits.tenant_choices_set(tenant=tenant, choices=choices)
    assert list(refused.value.errors) == list(choices)


def test_only_inference_keys_are_limited_whoever_writes(tenant):
    with scope.tenant(tenant.id):
        key, _ = key_mint(name="robot", key_scope=KeyScope.MANAGEMENT, role=Role.ADMIN)
        with pytest.raises(Invalid, match="Only inference keys"):
            limits.key_change(key=key, limits={"slo_class": "batch"})
        with pytest.raises(Forbidden):
            limits.key_change(key=key, name="mine", granter_role=Role.DEVELOPER)
        with pytest.raises(IntegrityError), transaction.atomic():
            ApiKey.objects.filter(id=key.id).update(tokens_per_minute=5)


def test_one_tenant_limits_no_other(tenant):
    other = make_tenant("other")
    with scope.tenant(other.id):
        limits.tenant_choices_set(tenant=other, choices={"files_days": 2})
    with scope.tenant(other.id):
        assert Tenant.objects.filter(id=tenant.id).update(files_days=1) == 0
