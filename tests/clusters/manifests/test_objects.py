"""Whole objects, compared with files beside this one. BERTH_WRITE_GOLDEN=1 writes them anew: read the diff.

Scripts and model files stand there by name only; what they hold is compared with the engine's own.
"""

from __future__ import annotations

import base64
import copy
import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from clusters.kube.manifests import Autoscaler, ClusterFacts, gateway, render, to_texts
from clusters.kube.manifests.texts import dumper_on
from clusters.specs import EngineImage, GatewaySpec, Scaling
from clusters.triton.runtimes import engine_of, weights
from tests.clusters.triton.specs import HUB, spec_of

GOLDEN = Path(__file__).parent / "golden"
FACTS = ClusterFacts(
    installation="berth-test",
    prometheus_namespace="monitoring",
    prometheus_url="http://prometheus.monitoring:9090",
    storage_class="shared",
    leader_worker_sets=True,
    image_volumes=True,
)
QUANTIZED = dataclasses.replace(HUB, quantize="fp8")
CASES: dict[str, tuple[Any, ClusterFacts]] = {
    **{
        f"{runtime}-{shape}": (spec_of(runtime, shape), FACTS)
        for runtime, shapes in {
            "triton-llmapi": ("single", "tp4", "tp8-pp2", "mig"),
            "trtllm-serve": ("single", "tp4", "tp8-pp2", "mig"),
            "triton-engine": ("single", "tp4", "mig"),
            "triton-python": ("single", "mig"),
        }.items()
        for shape in shapes
    },
    **{
        f"triton-llmapi-{slo_class}": (spec_of("triton-llmapi", slo_class=slo_class), FACTS)
        for slo_class in ("interactive", "batch")
    },
    "weights-fetched-and-quantized": (
        spec_of("triton-llmapi", "tp4", weights=QUANTIZED, precision="fp8", secrets={"HF_TOKEN": "hf_secret"}),
        dataclasses.replace(FACTS, loader_image="registry.example/loader@sha256:11", pull_secret="registry",
                            loader_cidrs=("198.51.100.0/24",)),
    ),
    "all-that-is-optional": (
        spec_of("triton-llmapi", "mig", weights=QUANTIZED, precision="fp8",
                scaling=Scaling(least=1, most=8, in_flight_per_replica=32)),
        dataclasses.replace(FACTS, service_monitors=True, autoscaler=Autoscaler.KEDA, kueue_queue="gpus",
                            dra=True),
    ),
    "prepared-namespace": (
        spec_of("triton-python", scaling=Scaling(least=1, most=3, in_flight_per_replica=4)),
        dataclasses.replace(FACTS, namespace="team-a", autoscaler=Autoscaler.HPA),
    ),
}  # fmt: skip
GATEWAY = GatewaySpec(
    name="eu-a",
    region="eu-a",
    replicas=2,
    image=EngineImage(reference="registry.example/berth:0.2", digest="sha256:" + "0b" * 32),
    control_plane_url="https://berth.example",
    token="the-token",
    peppers={1: "aa11", 2: "bb22"},
)


def normal(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The objects with what changes with every edit of a script named and not quoted."""
    objects = copy.deepcopy(objects)
    scripts = {weights.script(name): f"(script {name})" for name in ("load", "make")}

    def walk(node: Any) -> Any:
        if isinstance(node, dict):
            return {
                key: "(digest)" if key in ("berth.dev/files", "berth.dev/secret") else walk(value)
                for key, value in node.items()
            }
        if isinstance(node, list):
            return [walk(value) for value in node]
        return scripts.get(node, node) if isinstance(node, str) else node

    for obj in objects:
        if obj["kind"] == "ConfigMap":
            kept = (".pbtxt", ".yaml")
            obj["data"] = {key: text if key.endswith(kept) else "(file)" for key, text in obj["data"].items()}
    return walk(objects)


def compare(name: str, objects: list[dict[str, Any]]) -> None:
    texts = to_texts(normal(objects))
    assert len(texts) == len(objects), "two objects have one name"
    text = "---\n".join(texts.values())
    path = GOLDEN / f"{name}.yaml"
    if os.environ.get("BERTH_WRITE_GOLDEN"):
        path.write_text(text, "utf-8")
    assert path.exists(), "BERTH_WRITE_GOLDEN=1 writes it"
    assert text == path.read_text("utf-8")


@pytest.mark.parametrize("name", CASES)
def test_a_deployment_is_rendered_as_agreed(name):
    spec, facts = CASES[name]
    compare(name, render(spec, engine_of(spec), facts))


def test_a_gateway_is_rendered_as_agreed():
    compare("gateway", gateway(GATEWAY, FACTS))


def test_no_file_is_left_over():
    assert {path.stem for path in GOLDEN.glob("*.yaml")} == {*CASES, "gateway"}


@pytest.mark.parametrize("name", ["triton-llmapi-tp8-pp2", "all-that-is-optional"])
def test_equal_input_gives_equal_objects_and_text(name):
    spec, facts = CASES[name]
    first = render(spec, engine_of(spec), facts)
    assert render(spec, engine_of(spec), facts) == first
    for text, obj in zip(to_texts(first).values(), first, strict=True):
        if obj["kind"] != "Secret":
            assert yaml.safe_load(text) == obj


@pytest.mark.parametrize("name", CASES)
def test_the_text_is_the_same_with_and_without_libyaml(name):
    spec, facts = CASES[name]
    objects = render(spec, engine_of(spec), facts)
    assert to_texts(objects) == to_texts(objects, dumper=dumper_on(yaml.SafeDumper))


def test_a_gateway_keeps_files_on_the_volume_that_its_pods_share():
    def pod(**changes: str) -> dict:
        objects = {each["kind"]: each for each in gateway(dataclasses.replace(GATEWAY, **changes), FACTS)}
        return objects["StatefulSet"]["spec"]["template"]["spec"]

    told = pod(files_claim="shared", files_secret="files-keys")
    container = told["containers"][0]
    name = "gateway-eu-a"
    assert {"name": "files", "persistentVolumeClaim": {"claimName": "shared"}} in told["volumes"]
    assert {"name": "files", "mountPath": "/files"} in container["volumeMounts"]
    assert {"name": "BERTH_GATEWAY_FILES_DIR", "value": f"/files/{name}"} in container["env"]
    assert [each["secretRef"]["name"] for each in container["envFrom"]] == [name, "files-keys"]
    # A volume without keys, or keys without a volume that all see, would be no use.
    assert pod(files_claim="shared") == pod(files_secret="files-keys") == pod()


def test_a_gateway_reaches_the_redis_that_it_is_told_of():
    def told(**changes: str) -> tuple[dict, dict, str]:
        objects = {each["kind"]: each for each in gateway(dataclasses.replace(GATEWAY, **changes), FACTS)}
        pod = objects["StatefulSet"]["spec"]["template"]
        ports = objects["NetworkPolicy"]["spec"]["egress"][-1]["ports"]
        return objects["Secret"]["data"], ports, pod["metadata"]["annotations"]["berth.dev/secret"]

    data, ports, digest = told(redis_url="redis://:pw@redis.example:6380/1")
    assert base64.b64decode(data["BERTH_GATEWAY_REDIS_URL"]) == b"redis://:pw@redis.example:6380/1"
    assert [each["port"] for each in ports] == [443, 6380]
    assert [each["port"] for each in told(redis_url="rediss://redis.example")[1]] == [443, 6379]
    assert "BERTH_GATEWAY_REDIS_URL" not in told()[0]
    assert digest != told()[2]


def test_secrets_are_in_no_text():
    spec, facts = CASES["weights-fetched-and-quantized"]
    objects = render(spec, engine_of(spec), facts)
    assert any(obj["kind"] == "Secret" for obj in objects)
    for text in (*to_texts(objects).values(), *to_texts(gateway(GATEWAY, FACTS)).values()):
        for secret in ("hf_secret", "aGZfc2VjcmV0", "the-token", "dGhlLXRva2Vu", "aa11"):
            assert secret not in text
