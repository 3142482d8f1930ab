"""Registering regions, clusters, node pools and gateways, and taking clusters in and out of use."""

from __future__ import annotations

import hashlib
import secrets

from django.db import transaction

from clusters.models import Cluster, Gateway, GpuType, NodePool, Region, Reservation
from clusters.planning.gpus import gpu_catalog
from tenants import scope
from tenants.errors import Conflict, Invalid
from tenants.services import clean


def gpu_types_sync() -> int:
    """Write the GPU types that the planner knows into the database; return how many there are."""
    for name, spec in gpu_catalog().items():
        GpuType.objects.update_or_create(
            name=name,
            defaults={
                "title": name.replace("_", " ").upper(),
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
    """Add a cluster.

    Raises:
        Invalid: the name is taken, or the driver is not one that this installation has.
    """
    if driver != Cluster.DriverKind.LOCAL:
        raise Invalid(
            f"The driver {driver!r} is not available in this version; use 'local'.",
            errors={"driver": ["Only the local driver is built in."]},
        )
    cluster = Cluster(name=name, region=region, driver=driver, runtimes=runtimes, declared=declared)
    clean(cluster)
    cluster.save()
    return cluster


@transaction.atomic
def pool_add(
    *, cluster: Cluster, name: str, gpu_type: GpuType, nodes: int, gpus_per_node: int, reserve: int = 0
) -> NodePool:
    """Declare a node pool of a cluster."""
    pool = NodePool(
        cluster=cluster,
        name=name,
        gpu_type=gpu_type,
        nodes=nodes,
        gpus_per_node=gpus_per_node,
        reserve=reserve,
    )
    if reserve > nodes * gpus_per_node:
        raise Invalid(
            "The reserve is larger than the pool.", errors={"reserve": ["At most all GPUs of the pool."]}
        )
    clean(pool)
    pool.save()
    return pool


@transaction.atomic
def pool_change(*, pool: NodePool, nodes: int, reserve: int) -> NodePool:
    """Give a pool another number of nodes or another reserve.

    Raises:
        Invalid: an endpoint holds GPUs on a node that would go, or the reserve is larger than the pool.
    """
    pool = NodePool.objects.select_for_update(no_key=True).get(id=pool.id)
    with scope.platform("GPUs held on a pool's nodes"):
        held = Reservation.objects.held().filter(pool=pool).values_list("nodes", flat=True)
        last_used = max((node for per_replica in held for node in per_replica), default=-1)
    if nodes <= last_used:
        raise Invalid(
            f"Node {last_used} of {pool} is in use.",
            errors={"nodes": [f"At least {last_used + 1}: node {last_used} is in use."]},
        )
    if reserve > nodes * pool.gpus_per_node:
        raise Invalid(
            "The reserve is larger than the pool.", errors={"reserve": ["At most all GPUs of the pool."]}
        )
    pool.nodes, pool.reserve = nodes, reserve
    clean(pool)
    pool.save(update_fields=["nodes", "reserve"])
    return pool


def cluster_cordon(*, cluster: Cluster, reason: str) -> Cluster:
    """Let no new endpoints onto a cluster; what runs there goes on."""
    if not reason.strip():
        raise Invalid("Say why the cluster is taken out of use.", errors={"reason": ["Give a reason."]})
    cluster.state, cluster.state_reason = Cluster.State.CORDONED, reason.strip()[:300]
    cluster.save(update_fields=["state", "state_reason"])
    return cluster


def cluster_uncordon(*, cluster: Cluster) -> Cluster:
    """Take a cordoned cluster back into use.

    Raises:
        Conflict: it is not cordoned.
    """
    if cluster.state != Cluster.State.CORDONED:
        raise Conflict(f"Cluster {cluster.name} is {cluster.state}, not cordoned.")
    cluster.state, cluster.state_reason = Cluster.State.ACTIVE, ""
    cluster.save(update_fields=["state", "state_reason"])
    return cluster


@transaction.atomic
def gateway_register(
    *, name: str, region: Region, public_url: str = "", token: str | None = None
) -> tuple[Gateway, str]:
    """Admit a gateway and give it with its token, which is kept nowhere; registering again renews both."""
    token = token or secrets.token_urlsafe(32)
    gateway, _ = Gateway.objects.update_or_create(
        name=name,
        defaults={"region": region, "public_url": public_url, "token_digest": token_digest(token)},
    )
    return gateway, token


@transaction.atomic
def gateway_add(*, name: str, region: Region, public_url: str = "") -> tuple[Gateway, str]:
    """Admit a new gateway and give it with its token, which is kept nowhere.

    Raises:
        Invalid: the name is taken or malformed.
    """
    token = secrets.token_urlsafe(32)
    clean(Gateway(name=name, region=region, public_url=public_url, token_digest=token_digest(token)))
    return gateway_register(name=name, region=region, public_url=public_url, token=token)


def token_digest(token: str) -> str:
    """Give the SHA-256 of a gateway's token, which has 256 random bits and so needs no pepper."""
    return hashlib.sha256(token.encode()).hexdigest()
