"""From a cluster's nodes and pods to facts about GPUs. Plain functions on the API's dicts; no database, no network.

Labels are those of NVIDIA's GPU Feature Discovery, resources those of its device plugin.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from clusters.inventory.faults import OFFERS_NONE, node_fault
from clusters.kube.gpus import pod_gpus, whole
from clusters.planning.gpus import gpu_catalog, mig_slice
from clusters.planning.problem import GpuSpec

GPU: Final = "nvidia.com/gpu"
MIG: Final = "nvidia.com/mig-"
PRODUCT: Final = "nvidia.com/gpu.product"
COUNT: Final = "nvidia.com/gpu.count"
POOL: Final = "berth.dev/pool"

#: What GPU Feature Discovery calls a product, without NVIDIA's name before it, and the planner's word for it.
PRODUCTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "A100-SXM4-40GB": "a100_sxm_40gb",
        "A100-SXM4-80GB": "a100_sxm",
        "A100-SXM-80GB": "a100_sxm",
        "A100-PCIE-40GB": "a100_pcie_40gb",
        "A100-80GB-PCIE": "a100_pcie",
        "A30": "a30",
        "B200": "b200_sxm",
        "B300-SXM6-AC": "b300_sxm",
        "B300": "b300_sxm",
        "GB200": "gb200",
        "GB300": "gb300",
        "H100-80GB-HBM3": "h100_sxm",
        "H100-SXM5-80GB": "h100_sxm",
        "H100-PCIE": "h100_pcie",
        "H200": "h200_sxm",
        "H200-SXM": "h200_sxm",
        "L4": "l4",
        "L40S": "l40s",
        "RTX-PRO-6000-BLACKWELL-SERVER-EDITION": "rtx_pro_6000_server",
    }
)

#: Taints that every engine bears, since they are what keeps other pods off GPU nodes.
BORNE: Final = frozenset({"nvidia.com/gpu"})

_MIG_PRODUCT: Final = re.compile(
    r"(?P<product>.+)-MIG-(?P<profile>[1-7]g\.[0-9]+gb(?:[+.][a-z]+)?)", re.IGNORECASE
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NodeFacts:
    """GPUs of one resource on one node: what a pool is made of.

    ``usable`` of its ``capacity`` are healthy, ``foreign`` are held by pods that are not this installation's, ``own``
    by those that are.
    """

    name: str
    gpu: GpuSpec
    resource: str
    capacity: int
    usable: int
    foreign: int
    own: int
    driver_version: str
    schedulable: bool
    fault: str
    pool: str  # the operator's label, empty without
    selector: Mapping[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unread:
    """Something in a cluster that Berth does not plan on: where, why, and what to do."""

    what: str
    why: str
    todo: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """All that a look at a cluster's nodes gave."""

    nodes: tuple[NodeFacts, ...]
    unread: tuple[Unread, ...]
    names: frozenset[str]  # of every node that is there, whether it has GPUs or not
    faults: Mapping[str, str]  # of those of them that have one


def read_nodes(
    nodes: Iterable[Mapping[str, Any]],
    pods: Iterable[Mapping[str, Any]],
    *,
    installation: str,
    tolerate: Sequence[str] = (),
) -> Reading:
    """Read nodes and the pods bound to them.

    ``installation`` is the value of the label ``berth.dev/installation`` on this installation's own pods;
    ``tolerate`` are taint keys that its engines bear beyond NVIDIA's own.
    """
    foreign, own = _holders(pods, installation)
    facts: list[NodeFacts] = []
    left_out: dict[tuple[str, str], list[str]] = defaultdict(list)
    names: set[str] = set()
    faults: dict[str, str] = {}
    for node in sorted(nodes, key=_name):
        names.add(_name(node))
        if fault := node_fault(node):
            faults[_name(node)] = fault
        found, notes = _read_node(node, fault, foreign[_name(node)], own[_name(node)], tolerate)
        facts += found
        for why, todo in notes:
            left_out[why, todo].append(_name(node))
    unread = tuple(
        Unread(what=_listed(where), why=why, todo=todo) for (why, todo), where in sorted(left_out.items())
    )
    return Reading(nodes=tuple(facts), unread=unread, names=frozenset(names), faults=faults)


def gpu_of_product(product: str, resource: str = GPU) -> GpuSpec | None:
    """Give the GPU type that a product label and a resource name together, None where Berth knows no figures."""
    profile = resource.removeprefix(MIG) if resource.startswith(MIG) else ""
    single = _MIG_PRODUCT.fullmatch(product)
    if single:
        product, profile = single["product"], profile or single["profile"]
    name = PRODUCTS.get(re.sub(r"^(NVIDIA|TESLA)-", "", product.upper()))
    if name is None:
        return None
    whole = gpu_catalog()[name]
    try:
        return mig_slice(whole, profile) if profile else whole
    except ValueError:
        return None


def node_part(node: Mapping[str, Any]) -> tuple[Any, ...]:
    """Give what of a node matters here: equal parts read equal, whatever its heartbeats changed."""
    status = node.get("status") or {}
    return (
        (node.get("metadata") or {}).get("labels"),
        node.get("spec"),
        status.get("capacity"),
        status.get("allocatable"),
        [
            (condition.get("type"), condition.get("status"), condition.get("message"))
            for condition in status.get("conditions") or ()
        ],
    )


def gpu_part(pod: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Give where a pod holds which GPUs, None where it holds none."""
    node, ended = (pod.get("spec") or {}).get("nodeName"), _has_ended(pod)
    gpus = None if ended or not node else pod_gpus(pod)
    return (node, tuple(sorted(gpus.items()))) if gpus else None


def lean_node(node: Mapping[str, Any]) -> dict[str, Any]:
    """Give what of a node :func:`read_nodes` looks at: without the images on it, its annotations, its addresses."""
    status = node.get("status") or {}
    return {
        **only_metadata(node),
        "spec": node.get("spec"),
        "status": {part: status.get(part) for part in ("capacity", "allocatable", "conditions")},
    }


def lean_pod(pod: Mapping[str, Any]) -> dict[str, Any]:
    """Give what of a pod :func:`read_nodes` looks at: whose it is, where, and what it asks for."""
    spec = pod.get("spec") or {}
    return {
        **only_metadata(pod),
        "spec": {
            "nodeName": spec.get("nodeName"),
            **{
                kind: [
                    {part: container.get(part) for part in ("resources", "restartPolicy")}
                    for container in spec.get(kind) or ()
                ]
                for kind in ("containers", "initContainers")
            },
        },
        "status": {"phase": (pod.get("status") or {}).get("phase")},
    }


def only_metadata(obj: Mapping[str, Any]) -> dict[str, Any]:
    """Give an object's name, version and labels, and nothing else of it."""
    metadata = obj.get("metadata") or {}
    kept = ("name", "namespace", "uid", "resourceVersion", "labels")
    return {"metadata": {part: metadata[part] for part in kept if part in metadata}}


def driver_version(labels: Mapping[str, str]) -> str:
    """Give the NVIDIA driver's version from a node's labels, as much of it as they say; empty where they do not."""
    if full := labels.get("nvidia.com/cuda.driver-version.full"):
        return full
    for prefix, last in (("nvidia.com/cuda.driver-version", "revision"), ("nvidia.com/cuda.driver", "rev")):
        parts = [labels.get(f"{prefix}.{part}", "") for part in ("major", "minor", last)]
        if parts[0]:
            known = parts[: parts.index("")] if "" in parts else parts
            return ".".join(known)
    return ""


def _read_node(
    node: Mapping[str, Any], fault: str, foreign: Counter[str], own: Counter[str], tolerate: Sequence[str]
) -> tuple[list[NodeFacts], list[tuple[str, str]]]:
    labels = (node.get("metadata") or {}).get("labels") or {}
    facts: list[NodeFacts] = []
    notes: list[tuple[str, str]] = []
    for resource, (capacity, allocatable) in _resources(node, labels).items():
        product = labels.get(PRODUCT, "")
        if note := _left_out(resource, product, labels):
            notes.append(note)
            continue
        gpu = gpu_of_product(product, resource)
        if gpu is None:
            kind = f"{product}, {resource.removeprefix('nvidia.com/')}" if resource != GPU else product
            notes.append(
                (
                    f"Berth has no figures for the GPU {kind}.",
                    "Its GPUs are not planned on. Declare a pool of the GPU type that comes closest by hand.",
                )
            )
            continue
        facts.append(
            NodeFacts(
                name=_name(node),
                gpu=gpu,
                resource=resource,
                capacity=capacity,
                usable=min(allocatable, capacity),
                foreign=min(foreign[resource], capacity),
                own=min(own[resource], capacity),
                driver_version=driver_version(labels),
                schedulable=_schedulable(node, tolerate),
                fault=fault or ("" if allocatable else f"{OFFERS_NONE} of its {capacity} GPUs."),
                pool=labels.get(POOL, ""),
                selector=_selector(labels, resource),
            )
        )
    if facts and not driver_version(labels):
        notes.append(
            (
                "The labels do not say which NVIDIA driver runs there.",
                "Drivers are not checked against images there. Update GPU Feature Discovery.",
            )
        )
    return facts, notes


def _resources(node: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    status = node.get("status") or {}
    capacity, allocatable = status.get("capacity") or {}, status.get("allocatable") or {}
    names = sorted(name for name in {*capacity, *allocatable} if name.startswith(("nvidia.com/gpu", MIG)))
    found = {}
    for name in names:
        usable = whole(allocatable.get(name))
        total = max(usable, whole(capacity.get(name)))
        if name == GPU and not total and labels.get("nvidia.com/mig.strategy") != "mixed":
            total = whole(labels.get(COUNT))  # a restarted kubelet shows 0 until the device plugin is back
        if total:
            found[name] = (total, usable)
    return found


def _left_out(resource: str, product: str, labels: Mapping[str, str]) -> tuple[str, str] | None:
    shared = labels.get("nvidia.com/gpu.sharing-strategy", "none") not in ("none", "")
    replicas = whole(labels.get("nvidia.com/gpu.replicas")) > 1
    if resource.endswith(".shared") or product.upper().endswith("-SHARED") or shared or replicas:
        return (
            "Its GPUs are shared between pods (time-slicing or MPS), so that none is an engine's own.",
            "They are not planned on. Turn sharing off, or divide the GPUs by MIG.",
        )
    if not product:
        return (
            "It offers GPUs, but no label says which.",
            "They are not planned on. Install GPU Feature Discovery (part of NVIDIA's GPU Operator).",
        )
    if resource != GPU and not resource.startswith(MIG):
        return f"Berth does not know the resource {resource}.", "It is not planned on."
    return None


def _selector(labels: Mapping[str, str], resource: str) -> Mapping[str, str]:
    wanted = [PRODUCT, POOL, *([COUNT] if resource == GPU else [])]
    return {key: labels[key] for key in wanted if labels.get(key)}


def _schedulable(node: Mapping[str, Any], tolerate: Sequence[str]) -> bool:
    spec = node.get("spec") or {}
    borne = BORNE | set(tolerate)
    barring = [
        taint
        for taint in spec.get("taints") or ()
        if taint.get("effect") in ("NoSchedule", "NoExecute") and taint.get("key") not in borne
    ]
    return not spec.get("unschedulable") and not barring


def _holders(
    pods: Iterable[Mapping[str, Any]], installation: str
) -> tuple[dict[str, Counter[str]], dict[str, Counter[str]]]:
    """Count the GPUs of each node that other pods hold, and those that this installation's hold."""
    foreign: dict[str, Counter[str]] = defaultdict(Counter)
    own: dict[str, Counter[str]] = defaultdict(Counter)
    for pod in pods:
        node = (pod.get("spec") or {}).get("nodeName")
        labels = (pod.get("metadata") or {}).get("labels") or {}
        if node and not _has_ended(pod):
            held = own if labels.get("berth.dev/installation") == installation else foreign
            held[node].update(pod_gpus(pod))
    return foreign, own


def _has_ended(pod: Mapping[str, Any]) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _name(node: Mapping[str, Any]) -> str:
    return str((node.get("metadata") or {}).get("name", ""))


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{'Nodes' if len(names) > 1 else 'Node'} {', '.join(names[:most])}{more}"
