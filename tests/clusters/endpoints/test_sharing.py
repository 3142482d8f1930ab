"""Publishing an endpoint to every tenant opens a period in billing, taking it back or its end closes it."""

from __future__ import annotations

import pytest

from billing.models import SharedPeriod
from clusters.endpoints import limits, services
from tenants import scope
from tests.clusters.endpoints.conftest import fresh

pytestmark = pytest.mark.django_db


def share(endpoint, shared):
    with scope.tenant(endpoint.tenant_id):
        limits.endpoint_share(endpoint=endpoint, shared=shared, actor="a test")


def test_sharing_and_taking_back_are_periods(order):
    endpoint = order()
    share(endpoint, True)
    share(endpoint, True)
    period = SharedPeriod.objects.get()
    assert (period.owner_id, period.endpoint_id, period.ended_at) == (endpoint.tenant_id, endpoint.id, None)
    assert (period.name, period.model) == ("chat", fresh(endpoint).model.name)
    share(endpoint, False)
    assert SharedPeriod.objects.get().ended_at is not None
    share(endpoint, True)
    assert SharedPeriod.objects.filter(ended_at=None).count() == 1


def test_it_is_shared_until_it_is_gone(order, settle, cluster):
    endpoint = settle(order())
    share(endpoint, True)
    cluster.slow_delete = True
    with scope.tenant(endpoint.tenant_id):
        services.endpoint_delete(endpoint=endpoint, actor="a test")
    assert SharedPeriod.objects.get().ended_at is None
    cluster.slow_delete = False
    endpoint = settle(endpoint)
    assert endpoint.state == "deleted"
    assert SharedPeriod.objects.get().ended_at == endpoint.deleted_at


def test_a_sharing_that_fails_opens_nothing(order, monkeypatch):
    endpoint = order()

    def die(*args, **kwargs):
        raise RuntimeError("killed")

    monkeypatch.setattr(limits, "record", die)
    with pytest.raises(RuntimeError):
        share(endpoint, True)
    assert not SharedPeriod.objects.exists()
    assert not fresh(endpoint).shared
