"""Nodes and ready pods, written straight to an API server in place of scheduler, controllers and kubelets."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any, Final

from clusters.kube import kinds
from clusters.kube.client import KubeClient

GPUS: Final = 8
PRODUCT: Final = "NVIDIA-H100-80GB-HBM3"
DRIVER: Final = "590.48.01"

Object = dict[str, Any]


def add_nodes(client: KubeClient, names: list[str]) -> None:
    """Register nodes of eight GPUs each, as GPU Feature Discovery would label them."""
    allocatable = {"cpu": "192", "memory": "2Ti", "pods": "200", "nvidia.com/gpu": str(GPUS)}
    for name in names:
        labels = {
            "kubernetes.io/hostname": name,
            "nvidia.com/gpu.present": "true",
            "nvidia.com/gpu.product": PRODUCT,
            "nvidia.com/gpu.count": str(GPUS),
            "nvidia.com/gpu.memory": "81559",
            "nvidia.com/cuda.driver-version.full": DRIVER,
        }
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
        client.create(kinds.NODE, node)
        status = {
            "capacity": allocatable,
            "allocatable": allocatable,
            "conditions": [_condition("Ready", "KubeletReady")],
        }
        client.patch(kinds.NODE, name, None, {"status": status}, subresource="status")


def count_quotas(client: KubeClient, namespace: str) -> None:
    """Say in a namespace's quotas what is used, without which a real API server takes no pod."""
    for quota in client.list(kinds.RESOURCE_QUOTA, namespace).items:
        hard: Mapping[str, str] = quota["spec"].get("hard") or {}
        status = {"hard": hard, "used": dict.fromkeys(hard, "0")}
        client.patch(
            kinds.RESOURCE_QUOTA,
            quota["metadata"]["name"],
            namespace,
            {"status": status},
            subresource="status",
        )


def addresses() -> Iterator[str]:
    """Give addresses for pods."""
    yield from map(str, ipaddress.ip_network("10.128.0.0/12").hosts())


def add_ready_pod(client: KubeClient, deployment: Object, *, node: str, address: str) -> Object:
    """Run the one pod of a Deployment on a node, and have it ready."""
    meta, template = deployment["metadata"], deployment["spec"]["template"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **(template.get("metadata") or {}),
            "name": f"{meta['name']}-0",
            "namespace": meta["namespace"],
        },
        "spec": {**template["spec"], "nodeName": node},
    }
    made = client.create(kinds.POD, pod)
    status = {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [_condition("PodScheduled", ""), _condition("Ready", "")],
        "containerStatuses": [
            {
                "name": each["name"],
                "image": each["image"],
                "imageID": "",
                "ready": True,
                "restartCount": 0,
                "state": {"running": {"startedAt": _now()}},
            }
            for each in template["spec"]["containers"]
        ],
    }
    return client.patch(
        kinds.POD, made["metadata"]["name"], meta["namespace"], {"status": status}, subresource="status"
    )


def _condition(kind: str, reason: str) -> Object:
    said = {"type": kind, "status": "True", "lastTransitionTime": _now()}
    return {**said, "reason": reason} if reason else said


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def is_ready(pod: Object) -> bool:
    """Whether a pod's conditions say so."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
