"""Clusters that the driver's tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clusters.drivers.kubernetes_world import KubernetesWorld
from tests.fakes.kube_api import FakeKube


@pytest.fixture(scope="session")
def stand_in_world() -> Iterator[KubernetesWorld]:
    """Berth in a stand-in cluster."""
    with FakeKube() as server:
        yield from _running(KubernetesWorld(server))


@pytest.fixture(scope="session")
def real_world(apiserver) -> Iterator[KubernetesWorld]:
    """Berth in a cluster with a real API server; skips where there is none."""
    yield from _running(KubernetesWorld(apiserver))


@pytest.fixture(params=["stand-in", "real"])
def cluster(request: pytest.FixtureRequest) -> Iterator[KubernetesWorld]:
    """Each case runs in both. Whatever it leaves is taken back, without waiting for the end."""
    name = "stand_in_world" if request.param == "stand-in" else "real_world"
    yield from cleaned(request.getfixturevalue(name))


@pytest.fixture
def real_cluster(real_world) -> Iterator[KubernetesWorld]:
    """For what only a real API server decides."""
    yield from cleaned(real_world)


def cleaned(world: KubernetesWorld) -> Iterator[KubernetesWorld]:
    yield world
    world.kubelet.heal()
    for status in world.driver.deployments():
        world.driver.delete(status.name)


def _running(world: KubernetesWorld) -> Iterator[KubernetesWorld]:
    world.start()
    yield world
    world.stop()
