"""Deployments as an order for an 8B model would make them, without a database."""

from __future__ import annotations

import uuid

from clusters.specs import DeploymentSpec, EngineImage, Owner, Placement, Weights, WeightsKind

IMAGE = EngineImage(
    reference="nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3",
    digest="sha256:" + "7" * 64,
    engine_version="1.2.1",
    min_driver="590.44.01",
)
WEIGHTS = Weights(kind=WeightsKind.PVC, uri="weights/llama-3.1-8b-instruct", size_gib=16)


def spec_of(number: int, *, projects: int = 1) -> DeploymentSpec:
    """Give the spec of one of many deployments, which are spread over ``projects``."""
    project = number % projects
    labels = {
        name: str(uuid.uuid5(uuid.NAMESPACE_OID, f"{name} {number}")) for name in ("endpoint", "revision")
    }
    return DeploymentSpec(
        name=f"bench-{number}",
        labels={"tenant": str(uuid.uuid5(uuid.NAMESPACE_OID, "tenant")), **labels},
        runtime="triton-llmapi",
        model="llama-3.1-8b-instruct",
        replicas=1,
        gpu_type="h100_sxm",
        gpus_per_replica=1,
        context_tokens=8192,
        max_output_tokens=8191,
        max_batch_size=64,
        owner=Owner(tenant="bench", project=f"p{project}", project_id=f"project-{project}"),
        slo_class="standard",
        weights=WEIGHTS,
        image=IMAGE,
        placement=Placement(resource="nvidia.com/gpu", gpus_per_node=8),
    )
