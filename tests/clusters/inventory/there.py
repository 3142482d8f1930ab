"""What a stand-in API server holds for these tests: nodes, pods, and Berth's account with its rights."""

from __future__ import annotations

import base64
import contextlib
import copy
from typing import Any

import yaml

from clusters.kube import kinds
from clusters.kube.client import KubeClient
from clusters.kube.credentials import Credentials
from clusters.kube.grants import Mode, Place, needed
from tests.fakes.kube_api import FakeKube

ACCOUNT = ("berth-access", "berth")


def put(kube: FakeKube, *objects: dict[str, Any]) -> None:
    """Make nodes and pods, or bring them to another state, with their status."""
    with contextlib.closing(KubeClient(kube.admin)) as client:
        for obj in objects:
            kind = kinds.POD if "containers" in obj.get("spec", {}) else kinds.NODE
            meta = obj["metadata"]
            whole = {**copy.deepcopy(obj), "apiVersion": "v1", "kind": kind.kind}
            if client.get(kind, meta["name"], meta.get("namespace")) is None:
                client.create(kind, whole, meta.get("namespace"))
            else:
                spec = (
                    {"metadata": {"labels": meta.get("labels")}, "spec": obj["spec"]}
                    if kind == kinds.NODE
                    else {}
                )
                client.patch(kind, meta["name"], meta.get("namespace"), spec)
            client.patch(
                kind, meta["name"], meta.get("namespace"), {"status": obj["status"]}, subresource="status"
            )


def take(kube: FakeKube, kind: kinds.Kind, name: str, namespace: str | None = None) -> None:
    """Remove an object at once."""
    with contextlib.closing(KubeClient(kube.admin)) as client:
        client.delete(kind, name, namespace, grace_s=0)


def admitted(kube: FakeKube, *, seconds: int = 3600, without: str = "") -> Credentials:
    """Make Berth's account with all that it needs but ``without`` (a resource), and a token of it."""
    namespace, name = ACCOUNT
    rules = [
        {"apiGroups": [grant.group], "resources": [grant.resource], "verbs": list(grant.verbs)}
        for grant in needed(Mode.CLUSTER)
        if grant.resource != without and grant.place is not Place.OWN
    ]
    rules.append({"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"]})
    with contextlib.closing(KubeClient(kube.admin)) as client:
        client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        client.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}
        )
        client.apply(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRole",
                "metadata": {"name": "berth"},
                "rules": rules,
            }
        )
        client.apply(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": "berth"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "berth"},
                "subjects": [{"kind": "ServiceAccount", "namespace": namespace, "name": name}],
            }
        )
        answer = client.create(
            kinds.SERVICE_ACCOUNT,
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {"expirationSeconds": seconds},
            },
            namespace,
            name=name,
            subresource="token",
        )
    return kube.credentials(answer["status"]["token"])


def kubeconfig(credentials: Credentials, **user: Any) -> str:
    """Write credentials as a kubeconfig, with more fields of the user where they are given."""
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [
                {
                    "name": "c",
                    "cluster": {
                        "server": credentials.server,
                        "certificate-authority-data": base64.b64encode(credentials.ca_data.encode()).decode(),
                    },
                }
            ],
            "users": [{"name": "u", "user": {"token": credentials.token, **user}}],
        }
    )
