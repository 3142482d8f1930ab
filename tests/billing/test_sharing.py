"""Periods in which an endpoint is sold to every tenant, and the names it keeps afterwards."""

from __future__ import annotations

import uuid

import pytest
from django.db import ProgrammingError, transaction

from billing.models import SharedPeriod
from billing.sharing import shared_close, shared_names, shared_open, shared_periods
from tenants import scope
from tests.billing.prices import utc
from tests.factories import make_tenant

pytestmark = pytest.mark.django_db
ENDPOINT = uuid.uuid4()


def open_one(tenant, at, **changes):
    facts = {
        "endpoint_id": ENDPOINT,
        "name": "llama",
        "model": "llama-70b",
        "slo_class": "standard",
    } | changes
    return shared_open(owner_id=tenant.id, started_at=utc(at), **facts)


def test_opening_and_closing_again_changes_nothing():
    tenant = make_tenant()
    first = open_one(tenant, "2026-05-01")
    assert open_one(tenant, "2026-05-02").id == first.id
    assert shared_close(endpoint_id=ENDPOINT, ended_at=utc("2026-05-03"))
    assert not shared_close(endpoint_id=ENDPOINT, ended_at=utc("2026-05-04"))
    period = SharedPeriod.objects.get()
    assert (period.started_at, period.ended_at) == (utc("2026-05-01"), utc("2026-05-03"))


def test_periods_of_one_endpoint_never_overlap():
    tenant = make_tenant()
    open_one(tenant, "2026-05-01")
    shared_close(endpoint_id=ENDPOINT, ended_at=utc("2026-05-03"))
    again = open_one(tenant, "2026-05-02")
    assert again.started_at == utc("2026-05-03")
    found = shared_periods(start=utc("2026-05-03"), end=utc("2026-05-04"), endpoint_ids=[ENDPOINT])
    assert found == [again]


def test_every_tenant_reads_the_name_also_when_it_is_gone_and_none_may_write_it():
    owner, other = make_tenant(), make_tenant()
    open_one(owner, "2026-05-01")
    shared_close(endpoint_id=ENDPOINT, ended_at=utc("2026-05-03"))
    with scope.tenant(other.id):
        assert shared_names() == {ENDPOINT: "llama"}
        assert shared_names([uuid.uuid4()]) == {}
        with pytest.raises(ProgrammingError, match="row-level security"), transaction.atomic():
            SharedPeriod.objects.create(
                owner_id=other.id,
                endpoint_id=uuid.uuid4(),
                name="mine",
                model="m",
                slo_class="batch",
                started_at=utc("2026-05-01"),
            )


def test_the_newest_name_is_told():
    tenant = make_tenant()
    open_one(tenant, "2026-05-01")
    shared_close(endpoint_id=ENDPOINT, ended_at=utc("2026-05-03"))
    open_one(tenant, "2026-05-05", name="llama-2")
    assert shared_names() == {ENDPOINT: "llama-2"}
