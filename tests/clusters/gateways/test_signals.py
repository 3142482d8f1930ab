"""What gateways tell of endpoints: the newest kept, of their own region only, added up over processes."""

from __future__ import annotations

import datetime as dt
import json
import uuid

import msgspec
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from clusters.endpoints import services
from clusters.endpoints.signals import endpoint_now, forget_signals
from clusters.inventory.gateways import gateway_register
from clusters.models import Endpoint, EndpointSignal, Wanted
from gateway import contract
from tenants import scope
from tenants.models import Tenant
from tests.factories import default_project, make_tenant


@pytest.fixture
def order(estate):
    """Order endpoints of a tenant."""
    tenant = make_tenant("acme", gpus=12)

    def order(name: str, residency: str = "region:eu-de-1") -> Endpoint:
        with scope.tenant(tenant.id):
            return services.endpoint_order(
                project=default_project(tenant),
                name=name,
                terms=estate.terms(residency=residency),
                actor="a test",
            )

    return order


@pytest.fixture
def post(estate, client):
    """Tell signals as a gateway; gives the status."""

    def post(message: object, *, token: str = "") -> int:
        body = message if isinstance(message, str) else msgspec.json.encode(message).decode()
        headers = {"HTTP_AUTHORIZATION": f"Bearer {token or estate.gateway_token}"}
        return client.post(contract.SIGNALS_PATH, body, "application/json", **headers).status_code

    return post


def told(*endpoints: Endpoint, gateway: str = "gw-de/0a", **numbers: object) -> contract.EndpointSignals:
    return contract.EndpointSignals(
        gateway=gateway,
        signals=tuple(contract.EndpointSignal(endpoint_id=str(each.id), **numbers) for each in endpoints),
    )


def rows() -> list[EndpointSignal]:
    with scope.platform("a test"):
        return list(EndpointSignal.objects.order_by("gateway", "instance"))


def now_of(endpoint: Endpoint):
    with scope.tenant(endpoint.tenant_id):
        return endpoint_now(endpoint)


def test_the_newest_signal_of_each_process_is_kept_and_all_are_added_up(order, post) -> None:
    endpoint = order("chat")
    assert post(told(endpoint, in_flight=9, requests=100)) == 204
    first = {
        "in_flight": 3,
        "queued": {"interactive": 1},
        "oldest_wait_s": 0.5,
        "requests": 10,
        "shed": 2,
        "ttft_ms": (0, 4, 4),
        "queue_s": 1.0,
        "prefill_s": 4.0,
        "decode_s": 8.0,
        "prefills": 8,
    }
    assert post(told(endpoint, **first)) == 204
    second = {
        "in_flight": 1,
        "queued": {"batch": 4, "interactive": 1},
        "oldest_wait_s": 7.0,
        "ttft_ms": (0, 0, 0, 1),
    }
    assert post(told(endpoint, gateway="gw-de/0b", **second)) == 204

    now = now_of(endpoint)
    assert len(rows()) == 2
    assert (now.in_flight, now.queued, now.oldest_wait_s) == (4, {"interactive": 2, "batch": 4}, 7.0)
    assert (now.requests, now.shed) == (10, 2)
    assert 20 < now.ttft_p95_ms <= 40
    assert now.itl_p95_ms is None
    assert (now.queue_mean_ms, now.prefill_mean_ms, now.decode_mean_ms) == (125.0, 500.0, 1000.0)


def test_what_was_heard_a_minute_ago_says_nothing_and_is_forgotten_later(order, post) -> None:
    endpoint = order("chat")
    post(told(endpoint, in_flight=3))
    assert now_of(endpoint).in_flight == 3

    now = timezone.now()
    with scope.platform("a test"):
        EndpointSignal.objects.update(heard_at=now - dt.timedelta(seconds=61))
    assert now_of(endpoint).in_flight == 0
    assert now_of(endpoint).heard_at is None

    assert forget_signals(now=now) == 0
    assert forget_signals(now=now + dt.timedelta(hours=1)) == 1


def test_many_endpoints_are_one_write(order, post) -> None:
    few, many = [order("one")], [order(f"e{number}") for number in range(5)]
    with CaptureQueriesContext(connection) as one:
        post(told(*few, in_flight=1))
    with CaptureQueriesContext(connection) as more:
        post(told(*many, in_flight=1))

    assert len(rows()) == 6
    assert len(more) == len(one)
    assert sum("INSERT" in query["sql"] for query in more) == 1


@pytest.mark.parametrize("whose", ["deleted", "suspended", "other-region", "unknown", "malformed"])
def test_only_endpoints_that_its_region_may_serve(order, post, estate, whose: str) -> None:
    endpoint, token, gateway = order("chat"), "", "gw-de/0a"
    message = told(endpoint, in_flight=1)
    with scope.platform("a test"):
        match whose:
            case "deleted":
                Endpoint.objects.update(wanted=Wanted.DELETED)
            case "suspended":
                Tenant.objects.update(state=Tenant.State.SUSPENDED)
            case "other-region":
                gateway = "gw-fi/0a"
                _, token = gateway_register(name="gw-fi", region=estate.clusters["fi-a"].region)
                message = told(endpoint, gateway=gateway, in_flight=1)
            case "unknown" | "malformed":
                named = str(uuid.uuid4()) if whose == "unknown" else "e'1"
                message = contract.EndpointSignals(
                    gateway=gateway, signals=(contract.EndpointSignal(endpoint_id=named, in_flight=1),)
                )

    assert post(message, token=token) == 204
    assert rows() == []


def test_another_tenant_sees_nothing(order, post) -> None:
    endpoint = order("chat")
    post(told(endpoint, in_flight=3))

    with scope.tenant(make_tenant("other").id):
        assert not EndpointSignal.objects.exists()
        assert endpoint_now(endpoint).in_flight == 0


SIGNAL = {"endpoint_id": "e"}


@pytest.mark.parametrize(
    ("message", "token", "status"),
    [
        ("{", "", 400),
        ({"gateway": "gw-de/0a", "signals": [{**SIGNAL, "in_flight": -1}]}, "", 400),
        ({"gateway": "gw-de/0a", "signals": [{**SIGNAL, "in_flight": 2**31}]}, "", 400),
        ({"gateway": "gw-de/0a", "signals": [{**SIGNAL, "oldest_wait_s": -0.1}]}, "", 400),
        ({"gateway": "gw-de/0a", "signals": [{**SIGNAL, "ttft_ms": [0] * 23}]}, "", 400),
        (
            {"gateway": "gw-de/0a", "signals": [{**SIGNAL, "queued": {f"c{n}": 1 for n in range(33)}}]},
            "",
            400,
        ),
        ({"gateway": "gw-de/0a", "signals": [SIGNAL] * (contract.MOST_SIGNALS + 1)}, "", 400),
        ({"gateway": "gw-fi/0a", "signals": []}, "", 400),
        ({"gateway": "gw-de/" + "x" * 49, "signals": []}, "", 400),
        ({"gateway": "gw-de/0a", "signals": [], "more": 1}, "", 400),
        ({"gateway": "gw-de/0a", "signals": []}, "wrong", 401),
        ({"gateway": "gw-de/0a", "signals": [SIGNAL, SIGNAL]}, "", 204),
    ],
)
def test_what_is_refused(post, message: object, token: str, status: int) -> None:
    assert post(message if isinstance(message, str) else json.dumps(message), token=token) == status
