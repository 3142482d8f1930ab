"""What is rendered is accepted by a real API server: strictly validated, pods under Pod Security ``restricted``."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from clusters.kube import kinds
from clusters.kube.client import KubeClient
from clusters.kube.errors import Forbidden, KubeError
from clusters.kube.manifests import gateway, render
from clusters.kube.manifests.names import POD_SECURITY_LEVELS
from clusters.triton.runtimes import engine_of
from tests.clusters.manifests.test_objects import CASES, FACTS, GATEWAY
from tests.clusters.manifests.test_rules import ALL, pods_of
from tests.kube import apiserver, crds

pytestmark = pytest.mark.kubernetes(real=True)


@pytest.fixture(scope="module")
def client() -> Iterator[KubeClient]:
    """An administrator of a server with every optional API, and with no policies but Kubernetes' own."""
    with apiserver.running() as server, contextlib.closing(KubeClient(server.admin)) as admin:
        crds.install(admin, *(set(kinds.OPTIONAL) - admin.features(fresh=True)))
        yield admin


def placed(name: str) -> list[dict[str, Any]]:
    """The objects of a case in a namespace of its own: those of one project share jobs and claims."""
    if name == "gateway":
        return gateway(GATEWAY, FACTS)
    spec, facts = CASES[name]
    owner = dataclasses.replace(spec.owner, project_id=f"project-of-{name}")
    return render(dataclasses.replace(spec, owner=owner), engine_of(spec), facts)


def tried(owner: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The pods that a workload's controller would make."""
    for number, template in enumerate(pods_of([owner])):
        spec = copy.deepcopy(template["spec"])
        for claim in owner["spec"].get("volumeClaimTemplates", ()):
            spec["volumes"].append({"name": claim["metadata"]["name"], "emptyDir": {}})
        yield {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                **template["metadata"],
                "name": f"try-{owner['kind'].lower()}-{number}",
                "namespace": owner["metadata"]["namespace"],
            },
            "spec": spec,
        }


@pytest.mark.parametrize("name", ALL)
def test_a_real_server_takes_every_object_and_every_pod(client, name):
    objects = placed(name)
    (place,) = {each["metadata"]["namespace"] for each in objects if "namespace" in each["metadata"]}
    if not any(each["kind"] == "Namespace" for each in objects):  # made by the cluster's administrator
        made = {"name": place, "labels": dict(POD_SECURITY_LEVELS)}
        client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": made})
    for each in objects:
        client.apply(each)
    pods = [pod for each in objects for pod in tried(each)]
    assert pods
    for pod in pods:
        client.apply(pod, dry_run=True)
    refuses_privileges(client, pods[0])


def refuses_privileges(client: KubeClient, pod: dict[str, Any]) -> None:
    """See that ``restricted`` is what a pod's namespace enforces."""
    lax = copy.deepcopy(pod)
    lax["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(Forbidden, match='violates PodSecurity "restricted'):
        client.apply(lax, dry_run=True)


@pytest.mark.parametrize("kind", ["Deployment", "Job", "StatefulSet"])
def test_the_server_is_strict(client, kind):
    """A field that Kubernetes does not know is refused: that every other object passed tells something."""
    name = "gateway" if kind == "StatefulSet" else "weights-fetched-and-quantized"
    objects = placed(name)
    client.apply(next(each for each in objects if each["kind"] == "Namespace"))
    odd = next(each for each in objects if each["kind"] == kind)
    odd["spec"]["template"]["spec"]["hostNetwrk"] = False
    with pytest.raises(KubeError, match="hostNetwrk"):
        client.apply(odd, dry_run=True)
