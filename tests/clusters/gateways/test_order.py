"""Ordering gateways: what is refused, whose token it is, what may be changed."""

from __future__ import annotations

import pytest

from clusters.inventory.gateways import (
    gateway_add,
    gateway_change,
    gateway_deploy,
    gateway_register,
    gateway_remove,
    gateway_token,
    gateway_token_rotate,
    token_digest,
)
from clusters.inventory.images import image_set
from clusters.models import Gateway
from tenants.errors import Conflict, Invalid
from tenants.sealing import CannotOpen
from tests.clusters.gateways.conftest import fresh


def test_its_token_is_sealed_for_its_row_alone(gateway, kubernetes) -> None:
    token = gateway_token(fresh(gateway))
    other = gateway_deploy(name="gw-two", region=kubernetes.region, cluster=kubernetes)

    assert gateway.token_digest == token_digest(token)
    assert token.encode() not in bytes(gateway.token)
    assert gateway_token(other) != token
    Gateway.objects.filter(id=other.id).update(token=gateway.token)
    with pytest.raises(CannotOpen):
        gateway_token(fresh(other))


@pytest.mark.parametrize(
    ("fault", "field"),
    [
        ("local", "cluster"),
        ("elsewhere", "cluster"),
        ("taken", "name"),
        ("malformed", "name"),
        ("none", "replicas"),
    ],
)
def test_orders_that_cannot_be(estate, kubernetes, fault: str, field: str) -> None:
    order = {"name": "gw-k8s", "region": kubernetes.region, "cluster": kubernetes}
    match fault:
        case "local":
            order["cluster"] = estate.clusters["de-a"]
        case "elsewhere":
            order["region"] = estate.clusters["fi-a"].region
        case "taken":
            order["name"] = "gw-de"
        case "malformed":
            order["name"] = "../up"
        case "none":
            order["replicas"] = 0

    with pytest.raises(Invalid) as refused:
        gateway_deploy(**order)

    assert field in refused.value.errors
    assert Gateway.objects.count() == 1


def test_an_image_without_a_digest_is_refused_with_what_to_do(kubernetes) -> None:
    image_set(use="gateway", reference="registry.example.com/berth/gateway:1", digest="")

    with pytest.raises(Invalid, match=r"deploy/gateway.*digest"):
        gateway_deploy(name="gw-k8s", region=kubernetes.region, cluster=kubernetes)


def test_the_control_planes_address_must_be_known(kubernetes, settings) -> None:
    settings.CONTROL_PLANE_URL = settings.PORTAL_PUBLIC_URL = ""

    with pytest.raises(Invalid, match="BERTH_CONTROL_PLANE_URL"):
        gateway_deploy(name="gw-k8s", region=kubernetes.region, cluster=kubernetes)


def test_changes(gateway) -> None:
    Gateway.objects.update(due_at=None)

    gateway_change(gateway=gateway, public_url="https://api.example.org")
    assert (fresh(gateway).public_url, fresh(gateway).due_at) == ("https://api.example.org", None)
    gateway_change(gateway=gateway, replicas=3)
    assert fresh(gateway).replicas == 3
    assert fresh(gateway).due_at is not None
    with pytest.raises(Invalid):
        gateway_change(gateway=gateway, replicas=0)


def test_a_gateway_run_elsewhere_is_registered_anew_instead(estate) -> None:
    with pytest.raises(Conflict, match="register it again"):
        gateway_token_rotate(gateway=estate.gateway)
    with pytest.raises(Invalid):
        gateway_change(gateway=estate.gateway, replicas=2)
    assert (
        gateway_change(gateway=estate.gateway, public_url="https://x.example").public_url
        == "https://x.example"
    )


def test_a_deployed_gateways_token_is_handed_to_nobody(gateway) -> None:
    with pytest.raises(Conflict, match="rotate its token"):
        gateway_register(name=gateway.name, region=gateway.region)
    with pytest.raises(Invalid):
        gateway_add(name=gateway.name, region=gateway.region)
    assert fresh(gateway).token_digest == gateway.token_digest


def test_one_that_goes_takes_no_more_orders(gateway, estate) -> None:
    gateway_remove(gateway=gateway)
    gateway_remove(gateway=gateway)

    for order in (gateway_token_rotate, lambda gateway: gateway_change(gateway=gateway, replicas=1)):
        with pytest.raises(Conflict, match="being removed"):
            order(gateway=gateway)
    gateway_remove(gateway=estate.gateway)
    assert list(Gateway.objects.values_list("name", "state")) == [("gw-k8s", "removing")]
