"""Gateways in a Kubernetes API: made, kept, drifted, rotated, unmade, with a kubelet's part played beside it."""

from __future__ import annotations

import base64
import dataclasses
import secrets
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from clusters.drivers.base import GiveUp, TryLater
from clusters.drivers.kubernetes.driver import KubernetesDriver
from clusters.kube import kinds
from clusters.kube.client import KubeClient, Request
from clusters.kube.manifests import ClusterFacts
from clusters.specs import EngineImage, GatewaySpec, GatewayStatus
from tests.fakes.kubelet import Fault, Kubelet

pytestmark = pytest.mark.kubernetes
IMAGE = EngineImage(reference="registry.example.com/berth/gateway:1", digest="sha256:" + "7" * 64)
PATIENCE_S = 40.0


@dataclasses.dataclass
class Site:
    """A cluster with a kubelet, a driver on it, and what the driver asked."""

    client: KubeClient
    driver: KubernetesDriver
    kubelet: Kubelet
    place: str
    requests: list[Request]

    @property
    def writes(self) -> list[Request]:
        return [each for each in self.requests if each.writes]

    def workload(self) -> dict[str, Any]:
        live = self.client.get(kinds.STATEFUL_SET, "gateway-gw-k8s", self.place)
        assert live is not None
        return live

    def settled(self, spec: GatewaySpec) -> GatewayStatus:
        """Apply until every pod is ready and runs what was ordered last."""

        def look() -> GatewayStatus | None:
            self.driver.apply_gateway(spec)
            status = self.driver.observe_gateway(spec.name)
            done = (
                status is not None and status.ready == status.wanted == spec.replicas and not status.message
            )
            return status if done else None

        return until(look)


def until(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)
    return found


def order(**changes: Any) -> GatewaySpec:
    spec = GatewaySpec(
        name="gw-k8s",
        region="eu-de-1",
        replicas=2,
        image=IMAGE,
        control_plane_url="https://berth.example.org",
        labels={"region": "eu-de-1"},
        token="token-one",
        peppers={1: "ab" * 32},
    )
    return dataclasses.replace(spec, **changes)


@pytest.fixture
def site(kube_server, kube_client: KubeClient) -> Iterator[Site]:
    admin = kube_server.admin
    verify = ssl.create_default_context(cadata=admin.ca_data)
    place = f"gateways-{secrets.token_hex(4)}"
    facts = ClusterFacts(installation=f"i-{secrets.token_hex(4)}", gateway_namespace=place)
    requests: list[Request] = []
    client = KubeClient(admin)
    client.on_request = requests.append
    with Kubelet(admin.server, token=admin.token, verify=verify) as kubelet:
        kubelet.add_node(f"node-{place}", gpus=0)
        yield Site(kube_client, KubernetesDriver(client, facts), kubelet, place, requests)
        for pod in kube_client.list(kinds.POD, place).items:
            kube_client.delete(kinds.POD, pod["metadata"]["name"], place, grace_s=0)
        kube_client.delete(kinds.NODE, f"node-{place}")
    client.close()


def test_it_comes_up_and_a_settled_pass_writes_nothing(site: Site) -> None:
    assert site.driver.observe_gateway("gw-k8s") is None
    status = site.settled(order())

    assert status.pods == ("gateway-gw-k8s-0", "gateway-gw-k8s-1")
    site.requests.clear()
    assert site.driver.apply_gateway(order()) is False
    assert site.writes == []
    assert not [each for each in site.requests if each.resource == "secrets"]


def test_what_the_pods_are_given(site: Site) -> None:
    site.settled(order())

    (container,) = site.workload()["spec"]["template"]["spec"]["containers"]
    assert container["image"] == IMAGE.pinned
    told = {each["name"]: each.get("value") for each in container["env"]}
    assert told["BERTH_GATEWAY_NAME"] == "gw-k8s"
    assert told["BERTH_CONTROL_PLANE_URL"] == "https://berth.example.org"
    assert "token-one" not in str(site.workload())
    assert "ab" * 32 not in str(site.workload())
    secret = site.client.get(kinds.SECRET, "gateway-gw-k8s", site.place)
    assert secret is not None
    values = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    assert values == {"BERTH_GATEWAY_TOKEN": "token-one", "BERTH_KEY_PEPPERS": "1:" + "ab" * 32}
    claims = site.client.list(kinds.PVC, site.place).items
    assert sorted(claim["metadata"]["name"] for claim in claims) == [
        "data-gateway-gw-k8s-0",
        "data-gateway-gw-k8s-1",
    ]
    grace = site.workload()["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace >= float(told["BERTH_GATEWAY_NOTICE_S"]) + float(told["BERTH_GATEWAY_DRAIN_S"]) + 10


def test_a_new_token_is_written_and_every_pod_replaced(site: Site) -> None:
    site.settled(order())
    before = {pod["metadata"]["uid"] for pod in site.client.list(kinds.POD, site.place).items}

    assert site.driver.apply_gateway(order(token="token-two")) is True
    site.settled(order(token="token-two"))

    after = {pod["metadata"]["uid"] for pod in site.client.list(kinds.POD, site.place).items}
    assert not before & after
    secret = site.client.get(kinds.SECRET, "gateway-gw-k8s", site.place)
    assert secret is not None
    assert base64.b64decode(secret["data"]["BERTH_GATEWAY_TOKEN"]) == b"token-two"


def test_drift_is_repaired_and_more_pods_come(site: Site) -> None:
    site.settled(order())
    site.client.patch(kinds.STATEFUL_SET, "gateway-gw-k8s", site.place, {"spec": {"replicas": 1}})
    site.client.delete(kinds.SERVICE, "gateway-gw-k8s", site.place)

    assert site.driver.apply_gateway(order()) is True
    assert site.workload()["spec"]["replicas"] == 2
    assert site.client.get(kinds.SERVICE, "gateway-gw-k8s", site.place) is not None
    assert len(site.settled(order(replicas=3)).pods) == 3


def test_a_pod_that_cannot_start_says_why(site: Site) -> None:
    site.kubelet.faults["gw-k8s"] = Fault("image", says="manifest unknown")
    site.driver.apply_gateway(order())

    status = until(lambda: s if (s := site.driver.observe_gateway("gw-k8s")) and s.message else None)

    assert status.ready == 0
    assert "gateway-gw-k8s-" in status.message
    assert "manifest unknown" in status.message


def test_removal_ends_with_nothing_left_and_leaves_other_gateways(site: Site) -> None:
    site.settled(order())
    other = order(name="gw-other", replicas=1)
    site.settled(other)

    assert site.driver.delete_gateway("gw-k8s") is False
    until(lambda: site.driver.delete_gateway("gw-k8s"))

    assert site.driver.observe_gateway("gw-k8s") is None
    for kind in (
        kinds.STATEFUL_SET,
        kinds.POD,
        kinds.PVC,
        kinds.SERVICE,
        kinds.PDB,
        kinds.NETWORK_POLICY,
        kinds.SERVICE_ACCOUNT,
        kinds.SECRET,
    ):
        names = {each["metadata"]["name"] for each in site.client.list(kind, site.place).items}
        assert not [name for name in names if "gw-k8s" in name], kind
        assert [name for name in names if "gw-other" in name], kind
    assert site.driver.delete_gateway("gw-k8s") is True


def test_the_namespace_that_was_made_goes_with_the_last_gateway(site: Site) -> None:
    site.settled(order(replicas=1))

    until(lambda: site.driver.delete_gateway("gw-k8s"))

    assert site.client.get(kinds.NAMESPACE, site.place) is None


def test_a_secret_that_somebody_removed_is_written_again_once_a_pod_misses_it(site: Site) -> None:
    site.settled(order(replicas=1))
    site.client.delete(kinds.SECRET, "gateway-gw-k8s", site.place)
    (pod,) = site.client.list(kinds.POD, site.place).items
    site.kubelet.stop()
    waiting = {"reason": "CreateContainerConfigError", "message": 'secret "gateway-gw-k8s" not found'}
    status = pod["status"] | {"conditions": []}
    for container in status["containerStatuses"]:
        container |= {"ready": False, "started": False, "state": {"waiting": waiting}}
    site.client.patch(
        kinds.POD, pod["metadata"]["name"], site.place, {"status": status}, subresource="status"
    )

    assert site.driver.apply_gateway(order(replicas=1)) is True

    assert site.client.get(kinds.SECRET, "gateway-gw-k8s", site.place) is not None


def test_what_is_somebody_elses_is_left_alone(site: Site) -> None:
    site.client.create(kinds.NAMESPACE, {"metadata": {"name": site.place}})
    body = {"metadata": {"name": "gateway-gw-k8s"}, "spec": {"ports": [{"port": 80}]}}
    site.client.create(kinds.SERVICE, body, site.place)

    with pytest.raises(GiveUp, match="somebody else"):
        site.driver.apply_gateway(order())
    assert site.writes == []


def test_a_cluster_that_lets_berth_make_no_namespaces(site: Site, kube_server) -> None:
    facts = ClusterFacts(installation="i-1", gateway_namespace=site.place)
    client = KubeClient(kube_server.admin)
    try:
        with pytest.raises(GiveUp, match=f"{site.place}.*not among them"):
            KubernetesDriver(client, facts, namespaces=("team-a",)).apply_gateway(order())
        driver = KubernetesDriver(client, facts, namespaces=("team-a", site.place))
        with pytest.raises(TryLater, match="not found"):
            driver.apply_gateway(order())
        site.client.create(kinds.NAMESPACE, {"metadata": {"name": site.place}})
        assert driver.apply_gateway(order()) is True
    finally:
        client.close()


def test_a_cluster_that_is_away(site: Site, kube_server) -> None:
    nowhere = dataclasses.replace(kube_server.admin, server="https://127.0.0.1:1")
    client = KubeClient(nowhere, connect_timeout_s=0.5)
    driver = KubernetesDriver(client, ClusterFacts(installation="i-1", gateway_namespace=site.place))
    try:
        for ask in (driver.apply_gateway, lambda spec: driver.observe_gateway(spec.name)):
            with pytest.raises(TryLater):
                ask(order())
        with pytest.raises(TryLater):
            driver.delete_gateway("gw-k8s")
    finally:
        client.close()


def test_volumes_that_are_there_stay_as_they_were_made(site: Site) -> None:
    """A StatefulSet's claims are fixed: a larger volume, or another storage class, is for those to come."""
    site.settled(order())
    before = site.workload()["spec"]["volumeClaimTemplates"]
    larger = order(storage_gib=50, labels={"region": "eu-de-2"})
    assert site.driver.apply_gateway(larger) is True
    site.settled(larger)
    assert site.workload()["spec"]["volumeClaimTemplates"] == before
    site.requests.clear()
    assert site.driver.apply_gateway(larger) is False
    assert site.writes == []


def test_another_installations_gateway_of_that_name_is_neither_seen_nor_touched(site: Site) -> None:
    site.settled(order())
    stranger = ClusterFacts(installation="someone-else", gateway_namespace=site.place)
    driver = KubernetesDriver(site.driver.client, stranger)
    assert driver.observe_gateway("gw-k8s") is None
    assert driver.delete_gateway("gw-k8s") is True
    assert site.client.get(kinds.SECRET, "gateway-gw-k8s", site.place) is not None
