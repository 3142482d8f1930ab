"""Reserving GPUs for revisions and giving them back. Callers hold the tenant's lock and a transaction."""

from __future__ import annotations

from django.utils import timezone

from clusters.endpoints.conditions import set_condition
from clusters.endpoints.history import record
from clusters.endpoints.names import deployment_name
from clusters.inventory.capacity import PoolCapacity, capacities
from clusters.models import Cluster, Condition, Endpoint, Reservation, Revision
from clusters.planning.placement import nodes_for
from clusters.planning.plans import Configuration, Plan, PlanStatus
from tenants.errors import Conflict, OverQuota
from tenants.services import quota_limits


def settle(endpoint: Endpoint, plan: Plan, found: list[PoolCapacity]) -> Revision | None:
    """Write what a plan means for an endpoint: a revision with its GPUs reserved, or the wait for capacity."""
    if plan.status != PlanStatus.PLACED or plan.configuration is None:
        reason = "NoCapacity" if plan.status == PlanStatus.NO_CAPACITY else "NotPlaceable"
        set_condition(endpoint, Condition.Type.PLACED, Condition.Status.FALSE, reason, plan.message)
        return None
    chosen = plan.configuration
    revision = _revision(endpoint, plan, chosen, found)
    Reservation.objects.create(
        tenant_id=endpoint.tenant_id,
        endpoint=endpoint,
        revision=revision,
        pool=revision.pool,
        nodes=list(chosen.nodes),
        gpus_per_replica=chosen.gpus_per_replica,
    )
    where = f"{chosen.replicas} x {chosen.gpus_per_replica} {chosen.gpu} in {chosen.pool} ({chosen.region})"
    set_condition(endpoint, Condition.Type.PLACED, Condition.Status.TRUE, "Reserved", f"Holds {where}.")
    price = f"{chosen.price_per_hour:.2f} {endpoint.tenant.currency} per hour"
    record(endpoint, "placed", f"Revision {revision.number}: {where} at {price}.")
    return revision


def current_revision(endpoint: Endpoint) -> Revision | None:
    """Give the revision that is wanted now."""
    return (
        Revision.objects.select_related("cluster", "pool").filter(endpoint=endpoint, retired_at=None).first()
    )


def retire_all(endpoint: Endpoint) -> None:
    """Want none of the endpoint's revisions any more; what was never applied gives its GPUs back at once."""
    now = timezone.now()
    Revision.objects.filter(endpoint=endpoint, retired_at=None).update(retired_at=now)
    unapplied = Revision.objects.filter(endpoint=endpoint, applied_at=None, cleaned_at=None)
    Reservation.objects.held().filter(revision__in=unapplied).update(released_at=now)
    unapplied.update(cleaned_at=now)


def resize(endpoint: Endpoint, revision: Revision, replicas: int) -> None:
    """Give a revision another number of replicas in its pool.

    Raises:
        OverQuota: the tenant may not hold that many GPUs.
        Conflict: the pool has not enough free GPUs.
    """
    reservation = Reservation.objects.select_for_update().get(revision=revision)
    more = replicas - len(reservation.nodes)
    if more > 0:  # fewer are given back by the reconciler, once the cluster shows them released
        if revision.cluster.state != Cluster.State.ACTIVE:
            raise Conflict(
                f"Cluster {revision.cluster.name} is {revision.cluster.state} and takes no more engines."
            )
        _keep_quota(endpoint, more * reservation.gpus_per_replica)
        pool = capacities(lock=True, pool_ids=[revision.pool_id])[0]
        added = nodes_for(pool.free_per_node, reservation.gpus_per_replica, more)
        if added is None:
            raise Conflict(
                f"{revision.pool} has {pool.free} free GPUs; {more} more replicas need "
                f"{more * reservation.gpus_per_replica}. Ask for fewer, or the operators for capacity.",
                free_gpus=pool.free,
            )
        reservation.nodes = [*reservation.nodes, *added]
        reservation.save(update_fields=["nodes"])
    revision.replicas = replicas
    revision.save(update_fields=["replicas"])


def _keep_quota(endpoint: Endpoint, more: int) -> None:
    limit = quota_limits().get("gpus")
    used = Reservation.objects.held().gpus()
    if limit is not None and used + more > limit:
        raise OverQuota(
            f"Your quota is {limit} GPUs and {used} are held; {more} more would exceed it. "
            "Pause or shrink another endpoint, or ask the operators for a larger quota.",
            resource="gpus",
            limit=limit,
            used=used,
        )


def _revision(endpoint: Endpoint, plan: Plan, chosen: Configuration, found: list[PoolCapacity]) -> Revision:
    pool = next(capacity.pool for capacity in found if str(capacity.pool) == chosen.pool)
    last = (
        Revision.objects.filter(endpoint=endpoint)
        .order_by("-number")
        .values_list("number", flat=True)
        .first()
    )
    number = (last or 0) + 1
    return Revision.objects.create(
        tenant_id=endpoint.tenant_id,
        endpoint=endpoint,
        number=number,
        generation=endpoint.generation,
        cluster=pool.cluster,
        pool=pool,
        deployment=deployment_name(endpoint.tenant.slug, endpoint.name, endpoint.id, number),
        runtime=chosen.runtime,
        gpu_type=chosen.gpu,
        precision=chosen.precision,
        tensor_parallel=chosen.tp,
        pipeline_parallel=chosen.pp,
        replicas=chosen.replicas,
        price_factor=endpoint.slo_class.price_factor,
        context_tokens=endpoint.context_tokens or endpoint.model.context_tokens,
        max_batch_size=chosen.max_batch_size,
        plan=plan.to_document(),
    )
