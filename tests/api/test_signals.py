"""How an endpoint stands right now, through the REST API."""

from __future__ import annotations

import uuid

import pytest
from django.utils import timezone

from clusters.endpoints.signals import keep_signals
from gateway import contract
from tenants.models import Role
from tests.api.conftest import client_of
from tests.api.contract import API, assert_problem
from tests.api.test_endpoints import order

pytestmark = pytest.mark.django_db


def path(made: dict) -> str:
    return f"{API}/endpoints/{made['id']}/signals"


def tell(estate, made: dict, **numbers: object) -> None:
    signal = contract.EndpointSignal(endpoint_id=made["id"], **numbers)
    message = contract.EndpointSignals(gateway="gw-de/0a", signals=(signal,))
    assert keep_signals(gateway=estate.gateway, message=message, now=timezone.now()) == 1


def test_an_endpoint_without_requests_reads_as_zeros(owner, estate):
    found = owner.get(path(order(owner))).json()
    assert (found["in_flight"], found["requests"], found["queued"], found["gateways"]) == (0, 0, {}, [])
    assert found["heard_at"] is found["ttft_p95_ms"] is found["queue_mean_ms"] is None


def test_what_gateways_told_is_read_by_every_role(owner, tenant, estate):
    made = order(owner)
    tell(estate, made, in_flight=2, queued={"batch": 1}, shed=3, ttft_ms=(0, 0, 1), prefills=1, queue_s=0.5)

    for role in Role.values:
        found = client_of(tenant, role).get(path(made)).json()
        assert (found["in_flight"], found["queued"], found["shed"]) == (2, {"batch": 1}, 3)
        assert (found["queue_mean_ms"], found["prefill_mean_ms"]) == (500, 0)
    (gateway,) = found["gateways"]
    assert (gateway["gateway"], gateway["instance"], gateway["region"]) == ("gw-de", "0a", "eu-de-1")
    assert gateway["ttft_ms"] == [0, 0, 1]


def test_strangers_and_the_nameless_learn_nothing(owner, stranger, anonymous, estate):
    made = order(owner)
    tell(estate, made, in_flight=2)
    theirs = stranger.get(path(made))
    assert_problem(theirs, 404, "not-found")
    assert theirs.content == stranger.get(path({"id": uuid.uuid4()})).content
    assert_problem(anonymous.get(path(made)), 401, "not-authenticated")
