from __future__ import annotations

import pytest

from clusters.inventory.gateways import gateway_deploy
from clusters.inventory.images import image_set
from clusters.models import Cluster, Gateway
from tests.estate import make_estate
from tests.fakes.cluster import FakeCluster

DIGEST = "sha256:" + "7" * 64


@pytest.fixture
def estate(db, settings):
    settings.CONTROL_PLANE_URL = "https://berth.example.org/"
    return make_estate()


@pytest.fixture
def cluster(monkeypatch):
    """One fake cluster behind every driver."""
    fake = FakeCluster()
    monkeypatch.setattr("clusters.endpoints.gateways.driver_of", lambda cluster: fake)
    return fake


@pytest.fixture
def kubernetes(estate, cluster):
    """The row of a Kubernetes cluster in eu-de-1, and a pinned image for gateways."""
    image_set(use="gateway", reference="registry.example.com/berth/gateway:1", digest=DIGEST)
    return Cluster.objects.create(
        name="k8s-de", region=estate.clusters["de-a"].region, driver=Cluster.DriverKind.KUBERNETES
    )


@pytest.fixture
def gateway(kubernetes) -> Gateway:
    """A gateway that was just ordered."""
    return gateway_deploy(name="gw-k8s", region=kubernetes.region, cluster=kubernetes)


def fresh(gateway: Gateway) -> Gateway:
    """Read a gateway anew."""
    return Gateway.objects.get(id=gateway.id)
