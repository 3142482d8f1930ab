"""What bars a pool or a shape from an order whatever is free there: law, licence, runtime, driver, silicon.

Each rule gives the reason and a sentence, or None where nothing is barred.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Final

from clusters.planning.plans import Reason
from clusters.planning.problem import GpuSpec, Order, OwnerPolicy, Pool, Precision
from clusters.planning.residency import residency_allows
from clusters.planning.versions import is_older

#: Runtimes whose models cannot be split over GPUs.
SINGLE_GPU_RUNTIMES: Final = frozenset({"triton-python"})

#: Runtimes whose replicas can span nodes, as a group with a leader.
SPANNING_RUNTIMES: Final = frozenset({"triton-llmapi", "trtllm-serve"})


@dataclasses.dataclass(frozen=True)
class Kind:
    """What pools have in common as far as a shape is concerned: a shape is judged once for each kind."""

    gpu: GpuSpec
    gpus_per_node: int
    runtime: str
    spans_nodes: bool


def pool_fault(order: Order, pool: Pool) -> tuple[Reason, str] | None:
    """Judge what no choice of shape can change: where the pool stands and what it can run."""
    model = order.model
    if not residency_allows(order.residency, pool.region, pool.zones):
        return Reason.RESIDENCY, (
            f"cluster {pool.cluster} stands in region {pool.region} (zones: {_listed(pool.zones)}) "
            f"and does not satisfy residency {order.residency}"
        )
    missing = order.certifications - pool.certifications
    if missing:
        return Reason.CERTIFICATION, (
            f"cluster {pool.cluster} lacks certification {_listed(missing)}; it has "
            f"{_listed(pool.certifications)}"
        )
    if model.zones is not None and not model.zones & pool.zones:
        return Reason.MODEL_ZONE, (
            f"the licence of {model.name} allows zones {_listed(model.zones)}; cluster "
            f"{pool.cluster} belongs to zones: {_listed(pool.zones)}"
        )
    if fault := _weights_fault(order):
        return fault
    for name, pinned, given in (
        ("GPU type", order.pins.gpu, pool.gpu.name),
        ("cluster", order.pins.cluster, pool.cluster),
    ):
        if pinned not in (None, given):
            return Reason.PINNED, f"the order keeps to {name} {pinned}; this is {given}"
    runtime = runtime_for(order, pool)
    if runtime is None:
        return Reason.RUNTIME, (
            f"{model.name} runs on {', '.join(model.runtimes) or 'no runtime'}; cluster {pool.cluster} "
            f"offers {_listed(pool.runtimes)}"
        )
    return _image_fault(runtime, pool) or _owner_fault(order, pool)


def _owner_fault(order: Order, pool: Pool) -> tuple[Reason, str] | None:
    if order.policy is None:
        return None
    fault = policy_fault_of_wish(
        order.policy, model=order.model.name, licence=order.model.licence, slo_class=order.slo.name
    ) or policy_fault_of_place(
        order.policy,
        cluster=pool.cluster,
        region=pool.region,
        zones=pool.zones,
        certifications=pool.certifications,
    )
    return (Reason.POLICY, fault) if fault else None


def policy_fault_of_wish(policy: OwnerPolicy, *, model: str, licence: str, slo_class: str) -> str:
    """Say what of a wish its owner's policy does not allow anywhere; empty where it allows all of it."""
    for kind, name, allowed in (
        ("the model", model, policy.models),
        ("the licence", licence, policy.licences),
        ("the class", slo_class, policy.classes),
    ):
        if allowed is not None and name not in allowed:
            return (
                f"{policy.says} does not allow {kind} {name}, only {_listed(allowed)}: ask for an exception"
            )
    return ""


def policy_fault_of_place(
    policy: OwnerPolicy,
    *,
    cluster: str,
    region: str,
    zones: Collection[str],
    certifications: Collection[str],
) -> str:
    """Say why a place is not one that an owner's policy allows; empty where it is."""
    for allowed in policy.zones:
        if allowed.isdisjoint({region, *zones}):
            return (
                f"{policy.says} allows {_listed(allowed)}; cluster {cluster} stands in region {region} "
                f"(zones: {_listed(zones)}): ask for an exception"
            )
    missing = policy.certifications.difference(certifications)
    if missing:
        return (
            f"{policy.says} demands certification {_listed(missing)}, which cluster {cluster} lacks: "
            "ask for an exception"
        )
    return ""


def _weights_fault(order: Order) -> tuple[Reason, str] | None:
    model = order.model
    if model.weights_local or order.residency == "global":
        return None
    if not model.weights_zones:
        return Reason.WEIGHTS_LOCATION, (
            f"nobody said where the weights of {model.name} are fetched from, so residency {order.residency} "
            "cannot be shown; an operator can name the place in the catalog"
        )
    if any(residency_allows(order.residency, place, {place}) for place in model.weights_zones):
        return None
    return Reason.WEIGHTS_LOCATION, (
        f"the weights of {model.name} are fetched from {_listed(model.weights_zones)}, which does not satisfy "
        f"residency {order.residency}; an operator can give a copy that stands there"
    )


def _image_fault(runtime: str, pool: Pool) -> tuple[Reason, str] | None:
    if pool.driver == "kubernetes" and runtime in pool.unpinned:
        return Reason.IMAGE, (
            f"the image of runtime {runtime} has no digest, and nothing is started from a tag alone; an "
            "operator can look the digest up and set it"
        )
    needed = pool.min_drivers.get(runtime, "")
    if pool.driver_version and needed and is_older(pool.driver_version, needed):
        return Reason.DRIVER, (
            f"the nodes of {pool.id} run NVIDIA driver {pool.driver_version}; the image of runtime {runtime} "
            f"needs {needed} or newer: upgrade the driver there, or choose an older image"
        )
    return None


def precision_fault(order: Order, gpu: GpuSpec, precision: Precision) -> tuple[Reason, str] | None:
    """Judge whether the order wants the precision, the GPU computes in it, and its answers were accepted."""
    model, pinned = order.model, order.pins.precision
    if pinned not in (None, precision):
        return Reason.PINNED, f"the order keeps to precision {pinned}; this is {precision}"
    if gpu.tflops(precision) <= 0:
        return Reason.PRECISION, f"{gpu.name} cannot compute in {precision}"
    if precision not in model.made:
        return None
    quality = model.quality.get(precision)
    if quality is None:
        return Reason.QUALITY, (
            f"nobody said how good the answers of {model.name} are in {precision}, which is not its checkpoint's "
            "own; an operator can write it into the catalog"
        )
    if quality.needs_approval and precision not in order.approved:
        return Reason.QUALITY, f"{precision} has to be accepted first: {quality.note}"
    return None


def shape_fault(order: Order, kind: Kind, *, tp: int, pp: int) -> tuple[Reason, str] | None:
    """Judge whether nodes and runtime of the kind can take the shape at all."""
    pins, heads, gpus = order.pins, order.model.architecture.heads, tp * pp
    for name, pinned, given in (("TP", pins.tp, tp), ("PP", pins.pp, pp)):
        if pinned not in (None, given):
            return Reason.PINNED, f"the order keeps to {name} {pinned}; this is {name} {given}"
    if gpus > 1 and kind.runtime in SINGLE_GPU_RUNTIMES:
        return Reason.RUNTIME, f"runtime {kind.runtime} cannot split a model over {gpus} GPUs"
    if heads % tp:
        return Reason.RUNTIME, f"{order.model.name} has {heads} attention heads: no split by {tp}"
    if pp > order.model.architecture.layers:
        return Reason.RUNTIME, f"{order.model.name} has too few layers for {pp} stages"
    if gpus > 1 and kind.gpu.slice_of:
        return Reason.NODE_SIZE, (
            f"{kind.gpu.name} is a part of a GPU, and parts serve no model together: no replica of {gpus}"
        )
    if gpus <= kind.gpus_per_node:
        return None
    if tp > kind.gpus_per_node:
        return (
            Reason.NODE_SIZE,
            f"a tensor-parallel group of {tp} does not fit into a node of {kind.gpus_per_node}",
        )
    if kind.spans_nodes and tp < kind.gpus_per_node:
        return (
            Reason.NODE_SIZE,
            f"each stage of a replica that spans nodes is one whole node of {kind.gpus_per_node}",
        )
    if not kind.spans_nodes or kind.runtime not in SPANNING_RUNTIMES:
        return Reason.NODE_SIZE, (
            f"a replica of {gpus} GPUs does not fit into a node of {kind.gpus_per_node}, and runtime "
            f"{kind.runtime} cannot span nodes there"
        )
    return None


def kind_of(order: Order, pool: Pool) -> Kind:
    """Give the kind of a pool that no :func:`pool_fault` bars."""
    return Kind(pool.gpu, pool.gpus_per_node, runtime_for(order, pool) or "", pool.spans_nodes)


def runtime_for(order: Order, pool: Pool) -> str | None:
    """The model's most preferred runtime that the pool offers and can start, else one that it offers only."""
    offered = [runtime for runtime in order.model.runtimes if runtime in pool.runtimes]
    startable = (runtime for runtime in offered if _image_fault(runtime, pool) is None)
    return next(startable, offered[0] if offered else None)


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "none"
