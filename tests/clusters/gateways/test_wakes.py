"""Gateways tell which endpoints are asked for in vain: those they serve get a look soon, others are left."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest
from django.utils import timezone

from clusters.endpoints import services
from clusters.inventory.gateways import gateway_register
from clusters.models import Cluster, Endpoint, Wanted
from gateway import contract
from tenants import scope
from tests.factories import default_project, make_tenant


@pytest.fixture
def endpoint(estate) -> Endpoint:
    """An endpoint of eu-de-1 that nobody looks at for an hour."""
    tenant = make_tenant("acme", gpus=12)
    with scope.tenant(tenant.id):
        endpoint = services.endpoint_order(
            project=default_project(tenant),
            name="sleeping",
            terms=estate.terms(residency="region:eu-de-1"),
            actor="a test",
        )
    settle(endpoint)
    return endpoint


def settle(endpoint: Endpoint, **changes: object) -> None:
    with scope.platform("a test"):
        Endpoint.objects.filter(id=endpoint.id).update(
            due_at=timezone.now() + dt.timedelta(hours=1), **changes
        )


def due(endpoint: Endpoint) -> bool:
    with scope.platform("a test"):
        return Endpoint.objects.due(timezone.now()).filter(id=endpoint.id).exists()


@pytest.fixture
def post(estate, client):
    """Post as a gateway; gives the status."""

    def post(*endpoint_ids: str, token: str = "", body: object = None) -> int:
        message = contract.Wakes(endpoint_ids=endpoint_ids) if body is None else body
        headers = {"HTTP_AUTHORIZATION": f"Bearer {token or estate.gateway_token}"}
        content = msgspec.json.encode(message).decode()
        return client.post(contract.WAKES_PATH, content, "application/json", **headers).status_code

    return post


def test_an_endpoint_that_is_asked_for_is_looked_at_soon(endpoint, post) -> None:
    assert not due(endpoint)

    assert post(str(endpoint.id), "no such thing", "00000000-0000-0000-0000-000000000000") == 204

    assert due(endpoint)


def test_one_that_is_due_anyway_is_not_woken_twice(endpoint, post) -> None:
    post(str(endpoint.id))
    with scope.platform("a test"):
        before = Endpoint.objects.get(id=endpoint.id).wakes

    assert post(str(endpoint.id)) == 204

    with scope.platform("a test"):
        assert Endpoint.objects.get(id=endpoint.id).wakes == before


def test_a_gateway_of_another_region_wakes_nothing(endpoint, post) -> None:
    elsewhere = Cluster.objects.exclude(region__code="eu-de-1").first().region
    _, token = gateway_register(name="gw-far", region=elsewhere)

    assert post(str(endpoint.id), token=token) == 204

    assert not due(endpoint)


def test_a_paused_endpoint_sleeps_on(endpoint, post) -> None:
    settle(endpoint, wanted=Wanted.PAUSED)

    assert post(str(endpoint.id)) == 204

    assert not due(endpoint)


def test_only_gateways_may_wake_and_only_with_what_can_be_read(endpoint, post) -> None:
    assert post(str(endpoint.id), token="stolen") == 401
    assert post(body={"endpoints": 1}) == 400
    assert post(*["x"] * (contract.MOST_WAKES + 1)) == 400
    assert not due(endpoint)
