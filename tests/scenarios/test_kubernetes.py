"""A Kubernetes cluster from registration to the last pod, through the doors, with real engines in its pods."""

from __future__ import annotations

import ssl
import threading
import uuid

import openai
import pytest

from portal.demo import accounts
from tests.clusters.inventory.there import admitted, kubeconfig
from tests.fakes.kube_api import FakeKube
from tests.fakes.kubelet import Kubelet
from tests.fakes.pods import Engines
from tests.scenarios.stack import wait

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(400), pytest.mark.kubernetes]

NAME = "frankfurt-k8s"
DIGEST = "sha256:" + "5e" * 32
DEPLOYMENTS = "/apis/apps/v1/deployments"


@pytest.fixture(scope="module")
def kube():
    with FakeKube() as kube:
        yield kube


@pytest.fixture(scope="module")
def kubelet(kube):
    engines = Engines()
    # Loopback is all of 127/8: every pod has an address of its own, with its engine's port on it.
    playing = Kubelet(
        kube.server,
        token=kube.admin.token,
        verify=ssl.create_default_context(cadata=kube.ca_data),
        subnet="127.91",
        engines=engines,
    )
    with playing:
        playing.add_node("gpu-1", gpus=2)
        yield playing
    engines.stop()


@pytest.fixture(scope="module")
def operator(stack):
    return stack.sign_in(accounts.OPERATOR)


@pytest.fixture(scope="module")
def cluster(operator, kube, kubelet):
    """The cluster, registered with its engine image pinned."""
    image = operator.get("/engine-images/triton-python")
    answer = operator.client.put(
        "/api/v1/engine-images/triton-python",
        json={"reference": image["reference"], "digest": DIGEST},
        headers=operator._csrf(),
    )
    assert answer.status_code == 200, answer.text
    made = operator.post(
        "/clusters",
        {
            "name": NAME,
            "region": "eu-de-1",
            "runtimes": ["triton-python"],
            "credentials": {"kubeconfig": kubeconfig(admitted(kube))},
        },
    )
    assert made["name"] == NAME
    return made


class Caller:
    """Calls an endpoint without pause, and keeps what went wrong."""

    def __init__(self, client: openai.OpenAI, model: str) -> None:
        self._client, self._model = client, model
        self.answered, self.failures = 0, []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Caller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            try:
                self._client.completions.create(model=self._model, prompt="A GPU", max_tokens=5)
                self.answered += 1
            except openai.APIError as error:
                self.failures.append(str(error))


@pytest.fixture(scope="module")
def brisk(operator) -> str:
    """A class whose canary is one step of as few requests as may tell, whatever the latencies of two clusters are."""
    name = "brisk-k8s"
    spec = {
        "title": name, "description": "Changes go fast.", "availability": "0.99", "priority": 91,
        "rollout_steps": [50], "rollout_step_s": 1, "rollout_requests": 60, "rollout_ttft_factor": None,
        "rollout_itl_factor": None, "rollout_cost_factor": None,
    }  # fmt: skip
    document = {"apiVersion": "berth/v1", "kind": "SloClass", "metadata": {"name": name}, "spec": spec}
    operator.post("/platform/configuration:apply", {"documents": [document]})
    return name


def test_an_endpoint_moves_to_a_kubernetes_cluster_by_a_canary_without_a_failed_request(
    stack, owner, operator, cluster, kube, kubelet, brisk
):
    nodes = operator.get(f"/clusters/{NAME}/nodes")["results"]
    assert [(node["name"], node["gpus"]) for node in nodes] == [("gpu-1", 2)]

    endpoint = owner.order(f"k8s-{uuid.uuid4().hex[:6]}", residency="region:eu-de-1", slo_class=brisk)
    owner.await_state(endpoint["id"], "ready")
    client = openai.OpenAI(
        base_url=f"{stack.gateway}/v1", api_key=owner.inference_key(), timeout=30, max_retries=0
    )
    wait(lambda: _known(client, endpoint["name"]), 15, lambda: "the gateway does not know the key")

    with Caller(client, endpoint["name"]) as caller:
        operator.post(f"/endpoints/{endpoint['id']}:move", {"cluster": NAME})

        def moved() -> bool:
            seen = owner.endpoint(endpoint["id"])
            there = seen["revision"] is not None and seen["revision"]["cluster"] == NAME
            serving = {replica["revision"] for replica in seen["observed_replicas"]}
            return there and seen["state"] == "ready" and serving == {seen["revision"]["number"]}

        wait(
            moved, 120, lambda: f"not moved: {owner.endpoint(endpoint['id'])}, kubelet: {kubelet.errors[-3:]}"
        )
        before = caller.answered
        wait(lambda: caller.answered > before + 5, 20, lambda: f"nothing answers: {caller.failures[-3:]}")
    assert caller.failures == []

    # Somebody deletes the deployment: it comes back, without anybody asking.
    (deployment,) = kubelet.cluster.of("deployments")
    uid = deployment["metadata"]["uid"]
    kubelet.cluster.delete(DEPLOYMENTS, deployment["metadata"]["namespace"], deployment["metadata"]["name"])

    def back() -> bool:
        found = kubelet.cluster.of("deployments")
        return bool(found) and found[0]["metadata"]["uid"] != uid

    wait(back, 30, lambda: "the deployment did not come back")
    owner.await_state(endpoint["id"], "ready")

    owner.delete(f"/endpoints/{endpoint['id']}")
    owner.await_state(endpoint["id"], "deleted")
    wait(
        lambda: (
            not [
                n
                for n in kubelet.cluster.of("namespaces")
                if n["metadata"]["name"].startswith("berth-nordwind")
            ]
        ),
        20,
        lambda: "the namespace is left",
    )
    assert kubelet.cluster.of("pods") == []
    (node,) = operator.get(f"/clusters/{NAME}/nodes")["results"]
    assert node["held"] == 0


def _known(client: openai.OpenAI, model: str) -> bool:
    try:
        return any(each.id == model for each in client.models.list())
    except openai.AuthenticationError:
        return False
