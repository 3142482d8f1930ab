"""What goes with what: owners and namespaces, with the controllers' part played where there are none."""

from __future__ import annotations

import pytest

from clusters.kube import kinds
from clusters.kube.client import KubeClient
from tests.kube import things
from tests.kube.controllers import settle

pytestmark = pytest.mark.kubernetes


def until_settled(client: KubeClient) -> None:
    for _ in range(20):
        if not settle(client):
            return
    raise AssertionError("deletion never came to its end")


def _owned(owner, obj):
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "blockOwnerDeletion": True,
    }
    obj["metadata"]["ownerReferences"] = [reference]
    return obj


def test_what_is_owned_goes_with_its_owner(kube_client, kube_namespace):
    owner = kube_client.apply(things.config_map(kube_namespace, "owner"))
    kube_client.apply(_owned(owner, things.config_map(kube_namespace, "owned")))
    kube_client.delete(kinds.CONFIG_MAP, "owner", kube_namespace)
    until_settled(kube_client)
    assert kube_client.get(kinds.CONFIG_MAP, "owned", kube_namespace) is None


def test_in_the_foreground_the_owner_goes_last(kube_client, kube_namespace):
    owner = kube_client.apply(things.deployment(kube_namespace))
    kube_client.create(kinds.POD, _owned(owner, things.pod(kube_namespace, "engine-0", node="node-1")))
    kube_client.delete(kinds.DEPLOYMENT, "engine", kube_namespace, propagation="Foreground")
    until_settled(kube_client)
    waiting = kube_client.get(kinds.DEPLOYMENT, "engine", kube_namespace)
    assert waiting["metadata"]["finalizers"] == ["foregroundDeletion"]
    assert kube_client.get(kinds.POD, "engine-0", kube_namespace)["metadata"]["deletionTimestamp"]
    kube_client.delete(kinds.POD, "engine-0", kube_namespace, grace_s=0)
    until_settled(kube_client)
    assert kube_client.get(kinds.DEPLOYMENT, "engine", kube_namespace) is None


def test_a_namespace_goes_with_all_that_is_in_it(kube_client, kube_namespace):
    kube_client.apply(things.config_map(kube_namespace))
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "cache", "namespace": kube_namespace},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    kube_client.apply(claim)
    kube_client.create(kinds.POD, things.pod(kube_namespace, "engine-0", node="node-1"))
    assert kube_client.delete(kinds.NAMESPACE, kube_namespace)
    until_settled(kube_client)
    ending = kube_client.get(kinds.NAMESPACE, kube_namespace)
    assert ending["status"]["phase"] == "Terminating"
    kube_client.delete(kinds.POD, "engine-0", kube_namespace, grace_s=0)
    until_settled(kube_client)
    assert kube_client.get(kinds.NAMESPACE, kube_namespace) is None
    assert kube_client.get(kinds.PVC, "cache", kube_namespace) is None
