"""What holds of every object, whatever is rendered."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from clusters.kube.kinds import kind_of
from clusters.kube.manifests import (
    Autoscaler,
    CannotRender,
    gateway,
    namespace_of,
    quantities,
    render,
    workload_name,
)
from clusters.kube.manifests.files import LIMIT, config_maps, volume
from clusters.kube.manifests.names import service_name
from clusters.specs import GIB, MIB, Owner, Scaling, Weights, WeightsKind
from clusters.triton.runtimes import engine_of
from tests.clusters.manifests.test_objects import CASES, FACTS, GATEWAY
from tests.clusters.triton.specs import HUB, spec_of


def objects_of(name: str) -> list[dict[str, Any]]:
    if name == "gateway":
        return gateway(GATEWAY, FACTS)
    spec, facts = CASES[name]
    return render(spec, engine_of(spec), facts)


def pods_of(objects: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every pod template, wherever it stands."""
    for obj in objects:
        group = obj.get("spec", {}).get("leaderWorkerTemplate")
        if group:
            yield from (group["leaderTemplate"], group["workerTemplate"])
        elif obj["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield obj["spec"]["template"]


ALL = [*CASES, "gateway"]


@pytest.mark.parametrize("name", ALL)
def test_no_pod_has_rights(name):
    for pod in pods_of(objects_of(name)):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        for volume_ in spec["volumes"]:
            assert "hostPath" not in volume_
        for container in (*spec["containers"], *spec.get("initContainers", ())):
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert "@sha256:" in container["image"]
            limits, requests = container["resources"]["limits"], container["resources"]["requests"]
            assert limits["memory"] == requests["memory"]


@pytest.mark.parametrize("name", ALL)
def test_commands_survive_the_kubelets_expansion(name):
    """It makes one dollar of two, and of $(NAME) a variable's value, in whatever a command says."""
    for pod in pods_of(objects_of(name)):
        for container in (*pod["spec"]["containers"], *pod["spec"].get("initContainers", ())):
            for part in container["command"]:
                assert "$$" not in part
                assert "$(" not in part.replace("$(ADMIN_KEY)", "")


@pytest.mark.parametrize("name", CASES)
def test_only_containers_that_a_plugin_gives_gpus_see_any(name):
    """The images ask for all GPUs of the node, and the node's runtime may believe them."""
    for pod in pods_of(objects_of(name)):
        for container in (*pod["spec"]["containers"], *pod["spec"].get("initContainers", ())):
            given = any(resource.startswith("nvidia.com/") for resource in container["resources"]["limits"])
            env = {each["name"]: each.get("value") for each in container["env"]}
            assert env.get("NVIDIA_VISIBLE_DEVICES") == (None if given else "void")


@pytest.mark.parametrize("name", ALL)
def test_everything_says_whose_it_is(name):
    for obj in objects_of(name):
        labels = obj["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "berth"
        assert labels["berth.dev/installation"] == "berth-test"
        kind = kind_of(obj)
        assert bool(obj["metadata"].get("namespace")) is kind.namespaced
        assert len(obj["metadata"]["name"]) <= 253


@pytest.mark.parametrize("name", CASES)
def test_engines_have_no_way_out_and_one_way_in(name):
    objects = objects_of(name)
    spec = CASES[name][0]
    policies = {obj["metadata"]["name"]: obj["spec"] for obj in objects if obj["kind"] == "NetworkPolicy"}
    assert policies["berth-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    own = policies[spec.name]
    gateways = own["ingress"][0]["from"][0]
    assert gateways["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "berth-gateway"}
    assert gateways["podSelector"]["matchLabels"]["app.kubernetes.io/name"] == "gateway"
    out = own.get("egress", [])
    if spec.nodes_per_replica == 1:
        assert out == []
    else:
        own_pods, names = out
        assert own_pods == {"to": [{"podSelector": own["podSelector"]}]}
        assert {port["port"] for port in names["ports"]} == {53, 5353}
        assert names["to"] == [{"namespaceSelector": {}}, {"ipBlock": {"cidr": "169.254.20.10/32"}}]
    assert policies["berth-load"]["egress"][0]["to"][1] == {"ipBlock": {"cidr": "169.254.20.10/32"}}
    load = policies["berth-load"]["podSelector"]["matchLabels"].items()
    for pod in pods_of(objects):
        fetches = pod["spec"]["containers"][0]["name"] == "load"
        assert (load <= pod["metadata"]["labels"].items()) is fetches


@pytest.mark.parametrize("name", CASES)
def test_a_pod_gets_the_time_it_needs(name):
    spec = CASES[name][0]
    for pod in pods_of(objects_of(name)):
        container = pod["spec"]["containers"][0]
        if "startupProbe" not in container:
            continue
        startup = container["startupProbe"]
        assert startup["periodSeconds"] * startup["failureThreshold"] >= spec.tuning.load_s
        pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
        assert pod["spec"]["terminationGracePeriodSeconds"] > pause + spec.tuning.drain_s


def test_shared_memory_counts_in_the_containers_own():
    spec = spec_of("triton-llmapi", "tp4")
    container = engine_of(spec)
    assert container.shm_bytes < container.memory_bytes
    (pod,) = pods_of(render(spec, container, FACTS))
    shm = next(volume_ for volume_ in pod["spec"]["volumes"] if volume_["name"] == "shm")
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": quantities.of_bytes(container.shm_bytes)}


def test_an_autoscaler_alone_owns_the_number_of_replicas():
    fixed = spec_of("triton-llmapi")
    spec = dataclasses.replace(fixed, scaling=Scaling(least=1, most=4, in_flight_per_replica=8))
    for scaler, kind in ((Autoscaler.KEDA, "ScaledObject"), (Autoscaler.HPA, "HorizontalPodAutoscaler")):
        facts = dataclasses.replace(FACTS, autoscaler=scaler)
        kinds = {obj["kind"]: obj for obj in render(spec, engine_of(spec), facts)}
        assert "replicas" not in kinds["Deployment"]["spec"]
        assert kinds[kind]["spec"]["scaleTargetRef"]["name"] == spec.name
        assert (
            "replicas" in {o["kind"]: o for o in render(fixed, engine_of(fixed), facts)}["Deployment"]["spec"]
        )
    assert "replicas" in {o["kind"]: o for o in render(spec, engine_of(spec), FACTS)}["Deployment"]["spec"]


def test_keda_may_take_an_endpoint_to_none_and_back_and_an_hpa_never_does():
    spec = spec_of("triton-llmapi", scaling=Scaling(least=0, most=4, in_flight_per_replica=8))

    def scaler(autoscaler: Autoscaler, kind: str) -> dict:
        facts = dataclasses.replace(FACTS, autoscaler=autoscaler)
        return {obj["kind"]: obj for obj in render(spec, engine_of(spec), facts)}[kind]["spec"]

    keda = scaler(Autoscaler.KEDA, "ScaledObject")
    assert (keda["minReplicaCount"], keda["maxReplicaCount"]) == (0, 4)
    # The gateways' gauge, which counts requests that are held: an engine's own would end with its last pod.
    (trigger,) = keda["triggers"]
    assert trigger["metadata"]["query"] == (
        f'sum(berth_gateway_endpoint_in_flight{{endpoint="{spec.labels["endpoint"]}"}})'
    )
    assert trigger["metadata"]["activationThreshold"] == "0"
    assert scaler(Autoscaler.HPA, "HorizontalPodAutoscaler")["minReplicas"] == 1


def test_files_come_back_whole_from_their_maps():
    spec = spec_of("triton-llmapi")
    files = {"a/b_c": "1", "a_b/c": "2", "a/b/c": "3", "x": "y" * (LIMIT - 10), "z": "w" * 50}
    maps = {obj["metadata"]["name"]: obj["data"] for obj in config_maps(spec, files, FACTS)}
    assert len(maps) == 2
    found = {
        item["path"]: maps[source["configMap"]["name"]][item["key"]]
        for source in volume(spec, files)["projected"]["sources"]
        for item in source["configMap"]["items"]
    }
    assert found == files
    assert all(sum(map(len, data.values())) <= LIMIT for data in maps.values())
    with pytest.raises(CannotRender, match="one file may have"):
        config_maps(spec, {"x": "y" * (LIMIT + 1)}, FACTS)


@pytest.mark.parametrize(
    ("changes", "facts", "message"),
    [
        ({"gpus_per_replica": 16, "tensor_parallel": 8, "pipeline_parallel": 2},
         {"leader_worker_sets": False}, "no LeaderWorkerSet API"),
        ({"weights": Weights(kind=WeightsKind.OCI_IMAGE, uri="r/x@sha256:1")},
         {"image_volumes": False}, "cannot mount images"),
        ({}, {"autoscaler": Autoscaler.KEDA, "prometheus_url": ""}, "prometheus_url"),
        ({"weights": HUB}, {"storage_access_mode": "ReadWriteOnce"}, "run in 2 pods; give the cluster a storage"),
        ({"weights": HUB, "replicas": 1}, {"storage_access_mode": "ReadWriteOnce", "autoscaler": Autoscaler.HPA},
         "ReadWriteOnce, for one node at a time"),
        ({"weights": HUB, "replicas": 1, "gpus_per_replica": 16, "tensor_parallel": 8, "pipeline_parallel": 2},
         {"storage_access_mode": "ReadWriteOnce"}, "run in 2 pods"),
    ],
)  # fmt: skip
def test_what_a_cluster_cannot_do_is_refused_with_what_to_change(changes, facts, message):
    spec = spec_of("triton-llmapi", scaling=Scaling(least=1, most=2, in_flight_per_replica=1), **changes)
    with pytest.raises(CannotRender, match=message):
        render(spec, engine_of(spec), dataclasses.replace(FACTS, **facts))


def test_claims_for_one_node_are_made_where_one_pod_mounts_them():
    once = dataclasses.replace(FACTS, storage_access_mode="ReadWriteOnce")
    spec = spec_of("triton-llmapi", weights=dataclasses.replace(HUB, quantize="fp8"), replicas=1)
    claims = [obj for obj in render(spec, engine_of(spec), once) if obj["kind"] == "PersistentVolumeClaim"]
    assert len(claims) == 2
    assert all(claim["spec"]["accessModes"] == ["ReadWriteOnce"] for claim in claims)
    own = spec_of("triton-llmapi", replicas=2)  # on a claim that is there already
    assert render(own, engine_of(own), once)


def test_a_claim_that_holds_weights_already_is_never_written():
    spec = spec_of("triton-engine")
    found = [
        volume_["persistentVolumeClaim"]
        for pod in pods_of(render(spec, engine_of(spec), FACTS))
        for volume_ in pod["spec"]["volumes"]
        if volume_["name"] == "weights"
    ]
    assert len(found) == 3  # two jobs and the engine
    assert all(claim == {"claimName": "models", "readOnly": True} for claim in found)


def test_an_image_volume_holds_the_weights():
    uri = "registry.example/llama@sha256:" + "1" * 64
    spec = spec_of("triton-llmapi", weights=Weights(kind=WeightsKind.OCI_IMAGE, uri=uri))
    (pod,) = pods_of(render(spec, engine_of(spec), FACTS))
    assert {"name": "weights", "image": {"reference": uri, "pullPolicy": "IfNotPresent"}} in pod["spec"][
        "volumes"
    ]


def test_names_fit_whatever_people_choose():
    long = spec_of("triton-llmapi", owner=Owner(tenant="T" * 90, project="Ä/ö_x" * 30, project_id="p"))
    name = namespace_of(long, FACTS)
    assert len(name) <= 63
    assert name.startswith("berth-ttt")
    other = dataclasses.replace(long, owner=dataclasses.replace(long.owner, project_id="q"))
    assert namespace_of(other, FACTS) != name
    spanning = spec_of("triton-llmapi", "tp8-pp2", name="9" + "x" * 62)
    assert len(workload_name(spanning)) <= 40
    assert workload_name(spanning)[0].isalpha()
    assert len(service_name(spanning)) <= 63
    with pytest.raises(ValueError, match=r"label berth\.dev/tenant"):
        render(spec := spec_of("triton-llmapi", labels={"tenant": "a b"}), engine_of(spec), FACTS)


@pytest.mark.parametrize("name", ["acme-chat-r1", "9" + "x" * 62])
def test_the_name_of_the_groups_own_service_is_left_to_its_controller(name):
    spec = spec_of("triton-llmapi", "tp8-pp2", name=name)
    objects = render(spec, engine_of(spec), FACTS)
    (service,) = (obj for obj in objects if obj["kind"] == "Service")
    assert service["metadata"]["name"] == service_name(spec) != workload_name(spec)
    (group,) = (obj for obj in objects if obj["kind"] == "LeaderWorkerSet")
    assert group["metadata"]["name"] == workload_name(spec)


def test_amounts_are_written_as_the_server_writes_them():
    assert [quantities.of_bytes(n) for n in (0, 1023, 1024, 512 * MIB, GIB, 1024 * GIB, 1536 * MIB)] == [
        "0", "1023", "1Ki", "512Mi", "1Gi", "1Ti", "1536Mi",
    ]  # fmt: skip
