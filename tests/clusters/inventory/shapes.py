"""Nodes and pods as a Kubernetes API shows them, with GPU Feature Discovery's labels."""

from __future__ import annotations

import itertools
from typing import Any

H100 = "NVIDIA-H100-80GB-HBM3"
_numbers = itertools.count(1)


def node(
    name: str,
    *,
    product: str = H100,
    gpus: int = 8,
    usable: int | None = None,
    driver: str = "590.44.01",
    resources: dict[str, int] | None = None,
    labels: dict[str, str] | None = None,
    taints: list[dict[str, str]] | None = None,
    cordoned: bool = False,
    conditions: dict[str, str] | None = None,
) -> dict[str, Any]:
    """A ready GPU node; ``resources`` replaces the whole GPUs, ``usable`` is what is allocatable of them."""
    offered = {"nvidia.com/gpu": gpus} if resources is None else resources
    amounts = {key: str(amount) for key, amount in offered.items()}
    allocatable = dict(amounts)
    if usable is not None:
        allocatable["nvidia.com/gpu"] = str(usable)
    driver_parts = (
        dict(zip(("major", "minor", "revision"), driver.split("."), strict=False)) if driver else {}
    )
    return {
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "nvidia.com/gpu.product": product,
                "nvidia.com/gpu.count": str(gpus),
                **({"nvidia.com/cuda.driver-version.full": driver} if driver else {}),
                **{f"nvidia.com/cuda.driver-version.{part}": value for part, value in driver_parts.items()},
                **(labels or {}),
            },
        },
        "spec": {
            "taints": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}] if taints is None else taints,
            **({"unschedulable": True} if cordoned else {}),
        },
        "status": {
            "capacity": {"cpu": "128", "memory": "2000Gi", **amounts},
            "allocatable": {"cpu": "127", "memory": "1900Gi", **allocatable},
            "conditions": [
                {"type": kind, "status": status, "message": f"{kind} is {status}"}
                for kind, status in {"MemoryPressure": "False", "Ready": "True", **(conditions or {})}.items()
            ],
        },
    }


def pod(
    on: str,
    gpus: int = 1,
    *,
    resource: str = "nvidia.com/gpu",
    phase: str = "Running",
    installation: str = "",
    inits: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """A pod bound to a node, of one container; of this installation where ``installation`` is given."""
    name = f"pod-{next(_numbers)}"
    return {
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": name,
            "labels": {"berth.dev/installation": installation} if installation else {},
        },
        "spec": {
            "nodeName": on,
            "containers": [container(gpus, resource=resource)],
            **({"initContainers": inits} if inits else {}),
        },
        "status": {"phase": phase},
    }


def container(gpus: int, *, resource: str = "nvidia.com/gpu", stays: bool = False) -> dict[str, Any]:
    """A container that asks for GPUs; as an init container it may stay (a sidecar)."""
    return {
        "name": f"c{next(_numbers)}",
        "image": "registry.example.org/any:1",
        "resources": {"limits": {resource: str(gpus), "memory": "1Gi"}},
        **({"restartPolicy": "Always"} if stays else {}),
    }
