"""Specs that the tests of runtimes and manifests share."""

from __future__ import annotations

import dataclasses
from typing import Any

from clusters.specs import DeploymentSpec, EngineImage, Owner, Placement, Weights, WeightsKind
from clusters.triton.tuning import defaults_for

IMAGE = EngineImage(
    reference="registry.example/tritonserver:26.07-trtllm-python-py3",
    digest="sha256:" + "0a" * 32,
    engine_version="1.2.1",
    min_driver="590.44.01",
)
HUB = Weights(
    kind=WeightsKind.HUGGING_FACE, uri="https://hub.example/meta/llama", revision="0ff1ce", size_gib=140
)
CLAIM = Weights(kind=WeightsKind.PVC, uri="models/llama-70b", size_gib=140)

SHAPES: dict[str, dict[str, Any]] = {
    "single": {},
    "tp4": {"gpus_per_replica": 4, "tensor_parallel": 4},
    "tp8-pp2": {"gpus_per_replica": 16, "tensor_parallel": 8, "pipeline_parallel": 2},
    "mig": {
        "placement": Placement(
            resource="nvidia.com/mig-3g.40gb",
            node_selector={"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"},
        )
    },
}
CLASSES = {
    "interactive": {"ttft_bound": True, "itl_bound": True},
    "standard": {"ttft_bound": True, "itl_bound": True},
    "batch": {"ttft_bound": False, "itl_bound": False},
}


def spec_of(
    runtime: str, shape: str = "single", slo_class: str = "standard", **changes: Any
) -> DeploymentSpec:
    """A deployment of one of the shapes, for one of the classes."""
    base = DeploymentSpec(
        name="acme-chat-5f3a9c21-r1",
        labels={"tenant": "tenant-1", "endpoint": "endpoint-1", "revision": "revision-1"},
        runtime=runtime,
        model="berth-docs-ngram" if runtime == "triton-python" else "llama-3.1-70b",
        replicas=2,
        gpu_type="h100_sxm",
        gpus_per_replica=1,
        context_tokens=2048 if runtime == "triton-python" else 16384,
        max_output_tokens=1024,
        max_batch_size=96,
        owner=Owner(tenant="acme", project="default", project_id="project-1"),
        slo_class=slo_class,
        precision="bf16",
        tuning=defaults_for(slo_class, **CLASSES[slo_class]),
        weights=Weights() if runtime == "triton-python" else CLAIM,
        image=IMAGE,
        placement=Placement(node_selector={"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}),
    )
    return dataclasses.replace(base, **{**SHAPES[shape], **changes})


def llmapi(**changes: Any) -> DeploymentSpec:
    """The default runtime on one GPU."""
    return spec_of("triton-llmapi", **changes)
