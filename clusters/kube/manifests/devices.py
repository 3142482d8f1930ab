"""Claims of GPUs where devices are allocated by DRA in place of counted resources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from clusters.kube.kinds import RESOURCE_CLAIM_TEMPLATE
from clusters.kube.manifests import names

#: What a pod calls its claim, and a container the claim it uses.
CLAIM: Final = "gpus"
_MIG: Final = "nvidia.com/mig-"


def claim_template(
    name: str, *, resource: str, gpus: int, labels: Mapping[str, str], namespace: str
) -> dict[str, Any]:
    """Give the template of a claim of ``gpus`` devices of what the resource ``resource`` names."""
    request: dict[str, Any] = {
        "deviceClassName": "gpu.nvidia.com",
        "allocationMode": "ExactCount",
        "count": gpus,
    }
    if resource.startswith(_MIG):
        profile = resource.removeprefix(_MIG)
        request["deviceClassName"] = "mig.nvidia.com"
        request["selectors"] = [
            {"cel": {"expression": f"device.attributes['gpu.nvidia.com'].profile == '{profile}'"}}
        ]
    return names.new(
        RESOURCE_CLAIM_TEMPLATE,
        name,
        labels=labels,
        namespace=namespace,
        spec={"spec": {"devices": {"requests": [{"name": CLAIM, "exactly": request}]}}},
    )


def claimed_by(template: str) -> list[dict[str, Any]]:
    """Give a pod's claims, of the template of that name."""
    return [{"name": CLAIM, "resourceClaimTemplateName": template}]
