"""Who may read what came with money: every path, by every kind of caller."""

from __future__ import annotations

import uuid

import pytest

from tenants.models import Role
from tests.api.conftest import client_of
from tests.api.contract import API, assert_problem
from tests.billing.statements import commitment, every_kind
from tests.factories import default_project

pytestmark = pytest.mark.django_db

#: Paths of tenants; ``{statement}`` and the like are rows of the tenant's. Those of all may be read by viewers, too.
OURS = (
    "usage", "costs", "slo-attainment", "statements", "statements/current", "statements/{statement}",
    "statements/{statement}/lines", "statements/{statement}/pdf", "statements/{statement}/csv",
    "statements/{statement}/focus.csv", "statements/{statement}/focus.parquet", "commitments", "commitments/use",
    "commitments/{commitment}", "credits", "prices", "budgets", "webhooks", "allocations",
)  # fmt: skip
PLATFORM = (
    "asset-rates", "tenant-statements", "tenant-statements/{statement}", "tenant-statements/{statement}/pdf",
    "tenant-statements/{statement}/csv", "tenant-statements/{statement}/focus.csv",
    "tenant-statements/{statement}/focus.parquet", "usage-reconciliation", "usage-gaps", "usage-refusals",
    "platform/utilization", "platform/throughput", "platform/costs", "platform/recovery", "platform/savings",
    "platform/fragmentation", "billing-accounts", "tenants/acme/commitments", "tenants/acme/commitments/{commitment}",
    "tenants/acme/credits", "list-prices", "price-books", "tenant-budgets",
)  # fmt: skip
WRITES = (
    "asset-rates", "tenants/acme/commitments", "tenants/acme/commitments/{commitment}:end", "tenants/acme/credits",
    "tenants/acme/billing-account:park", "tenants/acme/billing-account:unpark", "list-prices", "price-books",
    "price-books/{any}:publish", "price-books/{any}:copy-list", "price-books/{any}/prices",
    "platform/savings/{any}:dismiss",
)  # fmt: skip


#: Whom paths are closed to but for viewers.
OF_FEWER = {
    **dict.fromkeys(("slo-attainment", "budgets"), frozenset()),
    "webhooks": {Role.DEVELOPER, Role.BILLING, Role.VIEWER},
}


@pytest.fixture
def rows(tenant) -> dict[str, uuid.UUID]:
    statement = every_kind(tenant, default_project(tenant))
    return {
        "statement": statement.id,
        "commitment": commitment(tenant, name="another").id,
        "any": uuid.UUID(int=9),
    }


@pytest.mark.parametrize("path", OURS)
def test_tenants_read_their_own_and_nobody_elses(owner, stranger, anonymous, rows, tenant, path):
    target = f"{API}/{path.format(**rows)}"
    assert owner.get(target).status_code == 200
    theirs = stranger.get(target)
    if "{" in path:
        missing = stranger.get(f"{API}/{path.format(**dict.fromkeys(rows, uuid.UUID(int=5)))}")
        assert assert_problem(theirs, 404, "not-found") == assert_problem(missing, 404, "not-found")
    else:
        assert theirs.status_code == 200
        assert not [each for each in rows.values() if str(each) in theirs.text]
    assert_problem(anonymous.get(target), 401, "not-authenticated")
    readers = {role for role in Role if client_of(tenant, role).get(target).status_code == 200}
    assert readers == set(Role) - OF_FEWER.get(path, {Role.VIEWER})


@pytest.mark.parametrize("path", PLATFORM)
def test_what_is_the_platforms_does_not_exist_for_tenants(owner, operator, anonymous, rows, path):
    target = f"{API}/{path.format(**rows)}"
    assert operator.get(target).status_code == 200
    assert_problem(owner.get(target), 404, "not-found")
    assert_problem(anonymous.get(target), 401, "not-authenticated")


@pytest.mark.parametrize("path", WRITES)
def test_tenants_change_nothing_of_the_platforms(owner, superuser, anonymous, rows, path):
    target = f"{API}/{path.format(**rows)}"
    assert_problem(owner.post(target, {}), 404, "not-found")
    assert_problem(anonymous.post(target, {}), 401, "not-authenticated")
    assert superuser.post(target, {}).status_code in (200, 404, 409, 422)
