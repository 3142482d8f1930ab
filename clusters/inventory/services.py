"""Registering regions, local clusters and node pools, and taking clusters in and out of use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from django.db import transaction
from django.utils import timezone

from clusters.inventory.reading import gpu_title
from clusters.inventory.supply import supply_keep
from clusters.models import Cluster, GpuType, NodePool, Region, Reservation
from clusters.planning.gpus import gpu_catalog
from clusters.planning.versions import version_numbers
from tenants import scope
from tenants.errors import Conflict, Invalid
from tenants.validation import clean


def gpu_types_sync() -> int:
    """Write the GPU types that the planner knows into the database; return how many there are."""
    for name, spec in gpu_catalog().items():
        GpuType.objects.update_or_create(
            name=name,
            defaults={
                "title": gpu_title(name),
                "memory_gib": spec.memory_gib,
                "bandwidth_gbs": spec.bandwidth_gbs,
            },
        )
    return GpuType.objects.count()


@transaction.atomic
def region_register(
    *, code: str, name: str, country: str, zones: list[str], certifications: list[str]
) -> Region:
    """Add a region."""
    region = Region(code=code, name=name, country=country, zones=zones, certifications=certifications)
    clean(region)
    region.save()
    return region


@transaction.atomic
def cluster_register(
    *, name: str, region: Region, driver: str, runtimes: list[str], declared: bool = False
) -> Cluster:
    """Add a cluster of the local driver: processes on this machine.

    Raises:
        Invalid: the name is taken, or it is a cluster of another driver, which is registered with credentials.
    """
    if driver != Cluster.DriverKind.LOCAL:
        raise Invalid(
            f"A cluster of the driver {driver!r} cannot be added without credentials; use the local driver here, "
            "or register a Kubernetes cluster with its address and credentials.",
            errors={"driver": ["Choose local, or register a Kubernetes cluster with its credentials."]},
        )
    cluster = Cluster(name=name, region=region, driver=driver, runtimes=runtimes, declared=declared)
    clean(cluster)
    cluster.save()
    return cluster


@transaction.atomic
def pool_add(
    *,
    cluster: Cluster,
    name: str,
    gpu_type: GpuType,
    nodes: int,
    gpus_per_node: int,
    reserve: int = 0,
    resource: str = "nvidia.com/gpu",
    selector: Mapping[str, str] | None = None,
    driver_version: str = "",
) -> NodePool:
    """Declare a node pool of a cluster.

    On Kubernetes ``resource`` is what its pods ask for and ``selector`` the labels of its nodes;
    ``driver_version`` is their NVIDIA driver, empty when nobody knows.

    Raises:
        Invalid: the name is taken, the reserve is larger than the pool, or a value is malformed.
    """
    _check_place(resource, selector or {}, driver_version)
    pool = NodePool(
        cluster=cluster,
        name=name,
        gpu_type=gpu_type,
        nodes=nodes,
        gpus_per_node=gpus_per_node,
        reserve=reserve,
        resource=resource,
        selector=dict(selector or {}),
        driver_version=driver_version,
    )
    if reserve > nodes * gpus_per_node:
        raise Invalid(
            "The reserve is larger than the pool.", errors={"reserve": ["At most all GPUs of the pool."]}
        )
    clean(pool)
    pool.save()
    supply_keep(cluster, now=timezone.now())
    return pool


@transaction.atomic
def pool_change(*, pool: NodePool, nodes: int, reserve: int, higher_share: int | None = None) -> NodePool:
    """Give a pool another number of nodes, another reserve, or leave higher classes another share to grow into.

    Raises:
        Invalid: an endpoint holds GPUs on a node that would go, the reserve is larger than the pool, or its nodes
            are read from the cluster.
    """
    # The cluster first, as readings of its nodes lock them.
    Cluster.objects.select_for_update(no_key=True).get(id=pool.cluster_id)
    pool = NodePool.objects.select_for_update(no_key=True).get(id=pool.id)
    if pool.discovered and nodes != pool.nodes:
        raise Invalid(
            f"The nodes of {pool} are read from its cluster; only the reserve can be set.",
            errors={"nodes": [f"The cluster shows {pool.nodes}."]},
        )
    with scope.platform("GPUs held on a pool's nodes"):
        held = Reservation.objects.held().filter(pool=pool).values_list("nodes", flat=True)
        last_used = max((node for per_replica in held for node in per_replica), default=-1)
    if not pool.discovered and nodes <= last_used:
        raise Invalid(
            f"Node {last_used} of {pool} is in use.",
            errors={"nodes": [f"At least {last_used + 1}: node {last_used} is in use."]},
        )
    if reserve > nodes * pool.gpus_per_node:
        raise Invalid(
            "The reserve is larger than the pool.", errors={"reserve": ["At most all GPUs of the pool."]}
        )
    pool.nodes, pool.reserve = nodes, reserve
    if higher_share is not None:
        if not 0 <= higher_share <= 100:
            raise Invalid("The share is a percentage.", errors={"higher_share": ["Choose 0 to 100."]})
        pool.higher_share = higher_share
    if not pool.discovered:
        clean(pool)
    pool.save(update_fields=["nodes", "reserve", "higher_share"])
    supply_keep(pool.cluster, now=timezone.now())
    return pool


def cluster_cordon(*, cluster: Cluster, reason: str) -> Cluster:
    """Let no new endpoints onto a cluster, whether or not it answers; what runs there goes on.

    Raises:
        Invalid: no reason is given.
    """
    if not reason.strip():
        raise Invalid("Say why the cluster is taken out of use.", errors={"reason": ["Give a reason."]})
    with transaction.atomic():
        row = Cluster.objects.select_for_update(no_key=True).get(id=cluster.id)
        row.cordon_reason = reason.strip()[:300]
        if row.state != Cluster.State.UNREACHABLE:
            row.state, row.state_reason = Cluster.State.CORDONED, row.cordon_reason
        row.save(update_fields=["cordon_reason", "state", "state_reason"])
        supply_keep(row, now=timezone.now())
    return row


def cluster_uncordon(*, cluster: Cluster) -> Cluster:
    """Take a cordoned cluster back into use; one that does not answer, as soon as it does again.

    Raises:
        Conflict: it is not cordoned.
    """
    with transaction.atomic():
        row = Cluster.objects.select_for_update(no_key=True).get(id=cluster.id)
        if row.state != Cluster.State.CORDONED and not row.cordon_reason:
            raise Conflict(f"Cluster {row.name} is {row.state}, not cordoned.")
        row.cordon_reason = ""
        if row.state == Cluster.State.CORDONED:
            row.state, row.state_reason = Cluster.State.ACTIVE, ""
        row.save(update_fields=["cordon_reason", "state", "state_reason"])
        supply_keep(row, now=timezone.now())
    return row


_RESOURCE: Final = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_LABEL_KEY: Final = re.compile(
    r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)
_LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


def _check_place(resource: str, selector: Mapping[str, str], driver_version: str) -> None:
    errors: dict[str, list[str]] = {}
    if not _RESOURCE.fullmatch(resource):
        errors["resource"] = ["Write the resource that pods ask for, for instance nvidia.com/gpu."]
    wrong = [
        key
        for key, value in selector.items()
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value)
    ]
    if wrong:
        errors["selector"] = [f"No label of a node: {', '.join(map(repr, wrong))}."]
    if driver_version and not version_numbers(driver_version):
        errors["driver_version"] = ["Write a driver version, for instance 590.44.01."]
    if errors:
        raise Invalid(next(iter(errors.values()))[0], errors=errors)
