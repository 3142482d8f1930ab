from __future__ import annotations

import pytest

from clusters.endpoints import services
from clusters.endpoints.reconcile import reconcile_endpoint
from clusters.models import Endpoint
from tenants import scope
from tests.estate import make_estate
from tests.factories import default_project, make_tenant
from tests.fakes.cluster import FakeCluster


@pytest.fixture
def estate(db):
    return make_estate()


@pytest.fixture
def tenant(db):
    return make_tenant("acme", gpus=6)


@pytest.fixture
def cluster(monkeypatch):
    """One fake cluster behind every driver."""
    fake = FakeCluster()
    monkeypatch.setattr("clusters.inventory.drivers.driver_for", lambda *args, **values: fake)
    return fake


@pytest.fixture
def order(estate, tenant):
    """Order an endpoint for the tenant; keyword arguments change its terms."""

    def order(name="chat", **changes):
        project = default_project(tenant)
        with scope.tenant(tenant.id):
            return services.endpoint_order(
                project=project, name=name, terms=estate.terms(**changes), actor="a test"
            )

    return order


@pytest.fixture
def settle(estate, cluster):
    """Run passes until the endpoint asks for no more; engines become ready, the gateway confirms."""

    def settle(endpoint, *, passes=12, ready=True):
        for _ in range(passes):
            again = reconcile_endpoint(endpoint.id)
            if again is None:
                break
            if ready:
                cluster.make_ready()
            estate.confirm_gateway()
        else:
            raise AssertionError(f"not settled after {passes} passes")
        return fresh(endpoint)

    return settle


def fresh(endpoint) -> Endpoint:
    """Read an endpoint anew."""
    with scope.platform("a test"):
        return Endpoint.objects.select_related("tenant").get(id=endpoint.id)
