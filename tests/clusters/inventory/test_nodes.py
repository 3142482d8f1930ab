"""From nodes and pods to facts: which GPUs there are, whose they are, and what is wrong with them."""

from __future__ import annotations

import pytest

from clusters.inventory.nodes import gpu_of_product, gpu_part, lean_node, lean_pod, node_part, read_nodes
from tests.clusters.inventory.shapes import H100, container, node, pod

OURS = "ours"


def one(*nodes, pods=(), **how):
    """Read; there must be facts of exactly one node and resource."""
    (facts,) = read_nodes(nodes, pods, installation=OURS, **how).nodes
    return facts


def unread(*nodes):
    reading = read_nodes(nodes, (), installation=OURS)
    return [(each.what, each.why, each.todo) for each in reading.unread]


def test_a_gpu_node_becomes_facts():
    facts = one(node("gpu-1"))
    assert (facts.gpu.name, facts.resource, facts.capacity, facts.usable) == (
        "h100_sxm",
        "nvidia.com/gpu",
        8,
        8,
    )
    assert (facts.foreign, facts.fault, facts.schedulable) == (0, "", True)
    assert facts.driver_version == "590.44.01"
    assert facts.selector == {"nvidia.com/gpu.product": H100, "nvidia.com/gpu.count": "8"}


def test_nodes_without_gpus_are_there_and_say_nothing():
    plain = {"metadata": {"name": "cpu-1", "labels": {}}, "status": {"allocatable": {"cpu": "8"}}}
    reading = read_nodes([plain], (), installation=OURS)
    assert (reading.nodes, reading.unread, reading.names) == ((), (), {"cpu-1"})


@pytest.mark.parametrize(
    ("product", "name"),
    [
        ("NVIDIA-H100-80GB-HBM3", "h100_sxm"),
        ("NVIDIA-H100-PCIe", "h100_pcie"),
        ("NVIDIA-H200", "h200_sxm"),
        ("NVIDIA-A100-SXM4-80GB", "a100_sxm"),
        ("NVIDIA-A100-SXM4-40GB", "a100_sxm_40gb"),
        ("A100-SXM4-40GB", "a100_sxm_40gb"),
        ("NVIDIA-A100-80GB-PCIe", "a100_pcie"),
        ("NVIDIA-L40S", "l40s"),
        ("NVIDIA-L4", "l4"),
        ("NVIDIA-B200", "b200_sxm"),
        ("NVIDIA-GB200", "gb200"),
        ("NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition", "rtx_pro_6000_server"),
        ("NVIDIA-H100-80GB-HBM3-MIG-1g.10gb", "h100_sxm-1g-10gb"),
        ("NVIDIA-A100-SXM4-40GB-MIG-3g.20gb", "a100_sxm_40gb-3g-20gb"),
    ],
)
def test_products_are_known_by_their_labels(product, name):
    assert gpu_of_product(product).name == name


@pytest.mark.parametrize("product", ["NVIDIA-H100-NVL", "Tesla-V100-SXM2-16GB", "NVIDIA-L4-MIG-1g.6gb", ""])
def test_what_has_no_figures_is_no_gpu_type(product):
    assert gpu_of_product(product) is None


def test_an_unknown_product_is_told_and_not_planned_on():
    ((what, why, todo),) = unread(
        node("a", product="Tesla-V100-SXM2-16GB"), node("b", product="Tesla-V100-SXM2-16GB")
    )
    assert what == "Nodes a, b"
    assert "Tesla-V100-SXM2-16GB" in why
    assert "by hand" in todo


def test_gpus_without_a_product_label_ask_for_feature_discovery():
    bare = node("a")
    del bare["metadata"]["labels"]["nvidia.com/gpu.product"]
    ((_, why, todo),) = unread(bare)
    assert "no label says which" in why
    assert "GPU Feature Discovery" in todo


@pytest.mark.parametrize(
    "shared",
    [
        node("a", resources={"nvidia.com/gpu.shared": 32}),
        node(
            "a",
            gpus=32,
            labels={"nvidia.com/gpu.sharing-strategy": "time-slicing", "nvidia.com/gpu.replicas": "4"},
        ),
        node("a", product=f"{H100}-SHARED"),
    ],
)
def test_shared_gpus_are_refused_with_a_note(shared):
    reading = read_nodes([shared], (), installation=OURS)
    assert reading.nodes == ()
    assert "shared between pods" in reading.unread[0].why


def test_mixed_mig_gives_each_profile_and_the_whole_gpus_left():
    mixed = node(
        "a",
        gpus=8,
        resources={"nvidia.com/gpu": 6, "nvidia.com/mig-1g.10gb": 7, "nvidia.com/mig-3g.40gb": 2},
        labels={"nvidia.com/mig.strategy": "mixed"},
    )
    pods = [pod("a", 2, resource="nvidia.com/mig-1g.10gb"), pod("a", 1)]
    facts = {each.resource: each for each in read_nodes([mixed], pods, installation=OURS).nodes}
    assert {key: (each.gpu.name, each.capacity, each.foreign) for key, each in facts.items()} == {
        "nvidia.com/gpu": ("h100_sxm", 6, 1),
        "nvidia.com/mig-1g.10gb": ("h100_sxm-1g-10gb", 7, 2),
        "nvidia.com/mig-3g.40gb": ("h100_sxm-3g-40gb", 2, 0),
    }
    assert facts["nvidia.com/mig-1g.10gb"].selector == {"nvidia.com/gpu.product": H100}


def test_a_cordoned_node_and_one_with_a_foreign_taint_take_nothing():
    assert not one(node("a", cordoned=True)).schedulable
    taints = [{"key": "team", "value": "vision", "effect": "NoSchedule"}]
    assert not one(node("a", taints=taints)).schedulable
    assert one(node("a", taints=taints), tolerate=["team"]).schedulable
    assert one(node("a", taints=[{"key": "team", "effect": "PreferNoSchedule"}])).schedulable


@pytest.mark.parametrize(
    ("condition", "status", "fault"),
    [
        ("Ready", "False", "Not ready"),
        ("Ready", "Unknown", "Not ready"),
        ("GpuUnhealthy", "True", "GPU fault (GpuUnhealthy)"),
        ("GPUHealthy", "False", "GPU fault (GPUHealthy)"),
        ("AcceleratedHardwareReady", "False", "GPU fault (AcceleratedHardwareReady)"),
        ("XIDErrors", "True", "XID error (XIDErrors)"),
        ("SysLogsXIDError", "True", "XID error (SysLogsXIDError)"),
        ("GpuXidError", "True", "XID error (GpuXidError)"),
        ("GpuEccErrors", "True", "ECC error (GpuEccErrors)"),
        ("GpuMemWatch", "True", "GPU fault (GpuMemWatch)"),
        ("NVLinkStatusInactive", "True", "GPU fault (NVLinkStatusInactive)"),
        ("GPUMissing", "True", "GPU fault (GPUMissing)"),
    ],
)
def test_faults_are_read_from_conditions_of_either_polarity(condition, status, fault):
    told = one(node("a", conditions={condition: status})).fault
    assert told.startswith(fault)
    assert f"{condition} is {status}" in told


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ("GpuUnhealthy", "False"),
        ("GPUHealthy", "True"),
        ("GPUHealthy", "Unknown"),
        ("AcceleratedHardwareReady", "True"),
        ("XIDErrors", "False"),
        ("GpuEccErrors", "Unknown"),
        ("MemoryPressure", "True"),
        ("FrequentKubeletRestart", "True"),
        ("GpuDriverInstalled", "True"),
    ],
)
def test_other_conditions_are_no_faults_of_gpus(condition, status):
    assert one(node("a", conditions={condition: status})).fault == ""


def test_unhealthy_devices_cost_their_gpus_and_not_the_node():
    facts = one(node("a", gpus=8, usable=6))
    assert (facts.capacity, facts.usable, facts.fault) == (8, 6, "")


def test_a_node_whose_device_plugin_is_silent_keeps_its_place_with_a_fault():
    silent = node("a", gpus=8, resources={"nvidia.com/gpu": 0})
    facts = one(silent)
    assert (facts.capacity, facts.usable) == (8, 0)
    assert "device plugin" in facts.fault


def test_gpus_of_other_pods_are_foreign_and_ours_are_not():
    pods = [
        pod("a", 2),
        pod("a", 1, phase="Pending"),
        pod("a", 4, phase="Succeeded"),
        pod("a", 4, phase="Failed"),
        pod("a", 1, installation=OURS),
        pod("a", 1, installation="another"),
        pod("b", 8),
        pod("", 8),
    ]
    assert one(node("a"), pods=pods).foreign == 4


def test_init_containers_count_as_the_scheduler_counts_them():
    # The hungriest of one after the other, or the sum of those that run at once.
    assert one(node("a"), pods=[pod("a", 1, inits=[container(4), container(2)])]).foreign == 4
    assert one(node("a"), pods=[pod("a", 3, inits=[container(2)])]).foreign == 3
    # Sidecars run beside what starts after them, and to the end.
    assert one(node("a"), pods=[pod("a", 2, inits=[container(1, stays=True), container(4)])]).foreign == 5
    assert one(node("a"), pods=[pod("a", 2, inits=[container(1), container(1, stays=True)])]).foreign == 3


def test_the_driver_is_read_from_old_and_new_labels_as_far_as_they_say():
    assert one(node("a", driver="580.95.05")).driver_version == "580.95.05"
    old = node(
        "a", driver="", labels={"nvidia.com/cuda.driver.major": "535", "nvidia.com/cuda.driver.minor": "104"}
    )
    assert one(old).driver_version == "535.104"
    ((_, why, _),) = unread(node("a", driver=""))
    assert "which NVIDIA driver" in why


def test_what_is_kept_of_objects_reads_as_the_whole_of_them():
    nodes = [
        node("a", taints=[{"key": "team", "effect": "NoSchedule"}]),
        node("b", conditions={"Ready": "False"}),
    ]
    pods = [
        pod("a", 1, inits=[container(1, stays=True), container(4)]),
        pod("a", 1, installation=OURS),
        pod("b", 2, phase="Pending"),
    ]
    for each in nodes:
        each["status"]["images"] = [{"names": ["registry.example.org/any:1"], "sizeBytes": 1}]
    lean_nodes, lean_pods = [lean_node(each) for each in nodes], [lean_pod(each) for each in pods]
    assert read_nodes(lean_nodes, lean_pods, installation=OURS) == read_nodes(nodes, pods, installation=OURS)
    assert [node_part(each) for each in lean_nodes] == [node_part(each) for each in nodes]
    assert [gpu_part(each) for each in lean_pods] == [gpu_part(each) for each in pods]
    assert "images" not in lean_nodes[0]["status"]
    assert "image" not in lean_pods[0]["spec"]["containers"][0]


def test_heartbeats_change_nothing_that_matters_here():
    quiet, beat, broken = node("a"), node("a"), node("a", conditions={"XIDErrors": "True"})
    beat["status"]["conditions"][0]["lastHeartbeatTime"] = "2026-01-01T00:00:00Z"
    beat["metadata"]["resourceVersion"] = "2"
    assert node_part(quiet) == node_part(beat) != node_part(broken)
    assert gpu_part(pod("a", 2)) == gpu_part(pod("a", 2)) != gpu_part(pod("b", 2))
    assert gpu_part(pod("a", 0)) is None
    assert gpu_part(pod("a", 2, phase="Succeeded")) is None
