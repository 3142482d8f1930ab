"""The life of a deployed gateway: made, kept, rotated, away, gone; and a settled pass that writes nothing."""

from __future__ import annotations

import datetime as dt

import pytest
from django.conf import settings as configured
from django.utils import timezone

from clusters.drivers.base import Away, GiveUp, TryLater
from clusters.endpoints.gateways import reconcile_gateway
from clusters.endpoints.tasks import look_at_gateways, sweep_gateways
from clusters.inventory import gateways
from clusters.inventory.gateways import gateway_change, gateway_remove, gateway_token, gateway_token_rotate
from clusters.inventory.images import image_set
from clusters.models import Gateway
from tests.clusters.gateways.conftest import DIGEST, fresh

State = Gateway.State


@pytest.fixture
def running(gateway, cluster) -> Gateway:
    """A gateway whose pods are ready and whose row says so."""
    cluster.ready_gateways[gateway.name] = 99
    assert reconcile_gateway(gateway.id) is None
    return fresh(gateway)


def test_what_the_cluster_is_told(gateway, cluster) -> None:
    assert reconcile_gateway(gateway.id) is not None

    spec = cluster.gateways["gw-k8s"]
    assert (spec.region, spec.replicas, spec.storage_gib) == ("eu-de-1", 2, 10)
    assert spec.image.pinned == f"registry.example.com/berth/gateway:1@{DIGEST}"
    assert spec.control_plane_url == "https://berth.example.org"
    assert spec.token == gateway_token(gateway)
    assert spec.peppers == {number: pepper.hex() for number, pepper in configured.KEY_PEPPERS.items()}
    assert spec.token not in repr(spec)
    assert not any(pepper in repr(spec) for pepper in spec.peppers.values())


def test_from_order_to_running(gateway, cluster) -> None:
    assert (gateway.state, gateway.due_at is not None) == (State.DEPLOYING, True)

    assert reconcile_gateway(gateway.id) is not None
    assert (fresh(gateway).state, fresh(gateway).ready_replicas) == (State.DEPLOYING, 0)
    cluster.ready_gateways[gateway.name] = 1
    assert reconcile_gateway(gateway.id) is not None
    assert (fresh(gateway).state, fresh(gateway).state_reason) == (State.RUNNING, "1 of 2 pods are ready.")
    cluster.ready_gateways[gateway.name] = 2
    assert reconcile_gateway(gateway.id) is None
    now = fresh(gateway)
    assert (now.state, now.ready_replicas, now.due_at) == (State.RUNNING, 2, None)


def test_a_settled_pass_writes_nothing(running, cluster, django_assert_num_queries) -> None:
    cluster.writes.clear()

    # The claim, its release, the row and the image.
    with django_assert_num_queries(4) as queries:
        assert reconcile_gateway(running.id) is None

    assert not [query for query in queries if query["sql"].lstrip().upper().startswith(("INSERT", "UPDATE"))]
    assert cluster.writes == []


def test_pods_that_cannot_start_are_told_and_looked_at_again(gateway, cluster) -> None:
    cluster.gateway_message = "ImagePull: gateway-0 cannot pull its image."

    assert reconcile_gateway(gateway.id) is not None

    assert fresh(gateway).state == State.FAILED
    assert "cannot pull" in fresh(gateway).state_reason
    cluster.gateway_message = ""
    cluster.ready_gateways[gateway.name] = 2
    assert reconcile_gateway(gateway.id) is None
    assert fresh(gateway).state == State.RUNNING


def test_more_pods(running, cluster) -> None:
    gateway_change(gateway=running, replicas=3)

    reconcile_gateway(running.id)

    assert cluster.gateways[running.name].replicas == 3
    assert fresh(running).ready_replicas == 3


def test_a_new_token_reaches_the_cluster_and_the_old_one_stops(running, cluster, client) -> None:
    old = gateway_token(running)
    headers = {"HTTP_AUTHORIZATION": f"Bearer {old}"}
    gateway_token_rotate(gateway=running)

    reconcile_gateway(running.id)

    new = cluster.gateways[running.name].token
    assert new != old
    assert client.post("/api/gateway/v1/replicas", "{}", "application/json", **headers).status_code == 401
    headers = {"HTTP_AUTHORIZATION": f"Bearer {new}"}
    body = '{"reports": []}'
    assert client.post("/api/gateway/v1/replicas", body, "application/json", **headers).status_code == 204


def test_an_image_that_lost_its_digest_changes_nothing_there(running, cluster) -> None:
    image_set(use="gateway", reference="registry.example.com/berth/gateway:2", digest="")
    cluster.writes.clear()

    assert reconcile_gateway(running.id) is not None

    assert fresh(running).state == State.FAILED
    assert "digest" in fresh(running).state_reason
    assert cluster.writes == []


def test_a_cluster_that_is_away_destroys_nothing(running, cluster) -> None:
    cluster.away = Away("no route to host", delay=7.0)
    cluster.writes.clear()

    assert reconcile_gateway(running.id) == 7.0

    now = fresh(running)
    assert (now.state, now.state_reason, now.ready_replicas) == (State.UNREACHABLE, "no route to host", 2)
    assert now.due_at > timezone.now()
    assert cluster.writes == []
    cluster.away = None
    assert reconcile_gateway(running.id) is None
    assert fresh(running).state == State.RUNNING


def test_a_busy_cluster_is_not_away(running, cluster) -> None:
    cluster.next_error = TryLater("too many requests", delay=3.0)

    assert reconcile_gateway(running.id) == 3.0

    assert (fresh(running).state, fresh(running).state_reason) == (State.RUNNING, "too many requests")


def test_a_cluster_that_refuses(gateway, cluster) -> None:
    cluster.next_error = GiveUp("the namespace has no quota for it")

    assert reconcile_gateway(gateway.id) is not None

    assert (fresh(gateway).state, fresh(gateway).state_reason) == (
        State.FAILED, "the namespace has no quota for it",
    )  # fmt: skip


def test_removal_repeats_until_nothing_is_left(running, cluster) -> None:
    cluster.slow_delete = True
    gateway_remove(gateway=running)

    for _ in range(2):
        assert reconcile_gateway(running.id) is not None
        assert fresh(running).state == State.REMOVING
    cluster.away = Away("no route to host")
    assert reconcile_gateway(running.id) is not None
    assert fresh(running).state == State.REMOVING
    cluster.away, cluster.slow_delete = None, False
    assert reconcile_gateway(running.id) is None

    assert not Gateway.objects.filter(id=running.id).exists()
    assert cluster.gateways == {}
    assert reconcile_gateway(running.id) is None


def test_a_removal_ordered_during_a_pass_is_not_overwritten(gateway, cluster, monkeypatch) -> None:
    observe = cluster.observe_gateway

    def meanwhile(name: str):
        gateway_remove(gateway=gateway)
        return observe(name)

    monkeypatch.setattr(cluster, "observe_gateway", meanwhile)

    assert reconcile_gateway(gateway.id) == 0

    assert fresh(gateway).state == State.REMOVING
    assert fresh(gateway).due_at <= timezone.now()


def test_a_pass_that_outlasts_the_sweeps_lease_is_heard(gateway, cluster, monkeypatch) -> None:
    leased = timezone.now() + dt.timedelta(seconds=5)

    def meanwhile(name: str):
        Gateway.objects.filter(id=gateway.id).update(due_at=leased)
        raise Away("timed out")

    monkeypatch.setattr(cluster, "observe_gateway", meanwhile)

    reconcile_gateway(gateway.id)

    assert (fresh(gateway).state, fresh(gateway).due_at) == (State.UNREACHABLE, leased)


def test_the_sweep_brings_what_is_due_and_the_look_what_is_settled(
    gateway, estate, cluster, monkeypatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(gateways, "enqueue", told.append)

    assert look_at_gateways() == 0
    assert (sweep_gateways(), sweep_gateways()) == (1, 0)
    assert told == [str(gateway.id)]
    cluster.ready_gateways[gateway.name] = 2
    reconcile_gateway(gateway.id)
    assert (sweep_gateways(), look_at_gateways()) == (0, 1)
    assert told == [str(gateway.id)] * 2
