"""Reserving GPUs for revisions and giving them back. Callers hold the tenant's lock and a transaction."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from billing.budgets.reserving import gpus_claim, gpus_unclaim
from clusters.endpoints.blueprint import spec_again, spec_for
from clusters.endpoints.conditions import set_condition
from clusters.endpoints.history import record
from clusters.endpoints.names import deployment_name
from clusters.endpoints.policy.in_force import InForce, keep_policy
from clusters.endpoints.rollouts.terms import terms_document
from clusters.endpoints.states import POLICY_REFUSED
from clusters.endpoints.waiting import wait_begin, wait_end, wait_for
from clusters.inventory.capacity import PoolCapacity, capacities
from clusters.models import Cluster, Condition, Endpoint, NodePool, Reservation, Revision, Wanted
from clusters.planning.placement.nodes import nodes_for
from clusters.planning.plans import Plan, PlanStatus
from clusters.specs import DeploymentSpec
from tenants.errors import Conflict, OverQuota
from tenants.models import new_id
from tenants.services import quota_limits

_REASONS = {PlanStatus.NO_CAPACITY: "NoCapacity", PlanStatus.POLICY: POLICY_REFUSED}


def settle(endpoint: Endpoint, plan: Plan, found: list[PoolCapacity]) -> Revision | None:
    """Write what a plan means for an endpoint: a revision with its GPUs reserved, or the wait for capacity.

    Raises:
        OverBudget: a budget of its project or tenant has no room for it.
        PolicyRefused: the tenant's policy does not allow it.
    """
    if plan.status != PlanStatus.PLACED or plan.configuration is None:
        reason = _REASONS.get(plan.status, "NotPlaceable")
        set_condition(endpoint, Condition.Type.PLACED, Condition.Status.FALSE, reason, plan.message)
        wait_begin(endpoint, plan)
        return None
    chosen = plan.configuration
    pool = next(capacity.pool for capacity in found if str(capacity.pool) == chosen.pool)
    number, revision_id = _next_number(endpoint), new_id()
    name = deployment_name(endpoint.tenant.slug, endpoint.name, endpoint.id, number)
    spec = spec_for(endpoint=endpoint, chosen=chosen, pool=pool, name=name, revision_id=revision_id)
    gpus = spec.replicas * spec.tensor_parallel * spec.pipeline_parallel
    held = keep_policy(endpoint, pool, gpus=gpus, price_factor=endpoint.slo_class.price_factor)
    _claim(endpoint, pool, spec.gpu_type, gpus, endpoint.slo_class.price_factor)
    revision = _revision(
        endpoint,
        spec,
        pool,
        id=revision_id,
        number=number,
        price_factor=endpoint.slo_class.price_factor,
        plan=plan.to_document(),
        **_kept_to(held),
    )
    price = f"{chosen.price_per_hour:.2f} {endpoint.tenant.currency} per hour"
    _reserve(endpoint, revision, chosen.nodes, f"at {price}")
    return revision


def settle_again(endpoint: Endpoint, earlier: Revision) -> Revision | None:
    """Place an earlier revision's configuration as a new revision, in its own pool; None while there is no room.

    Its price factor is today's of the class; what it costs follows the price book.

    Raises:
        OverBudget: a budget of its project or tenant has no room for it.
        PolicyRefused: the tenant's policy does not allow it.
    """
    current = current_revision(endpoint)
    # What sleeps comes up with one: nobody has a look at a configuration that does not run.
    replicas = max(1, current.replicas if current else endpoint.replicas or earlier.replicas)
    pool = next(iter(capacities(lock=True, pool_ids=[earlier.pool_id])), None)
    nodes, why = None, "is no more"
    if pool is not None:
        active = pool.pool.cluster.state == Cluster.State.ACTIVE
        why = "has too few free GPUs" if active else f"is {pool.pool.cluster.state}"
        if active:
            nodes = nodes_for(
                pool.free_per_node, earlier.gpus_per_replica, replicas, gpus_per_node=pool.pool.gpus_per_node
            )
    if pool is None or nodes is None:
        message = f"Revision {earlier.number} is to run again in {earlier.pool}, which {why}."
        set_condition(endpoint, Condition.Type.PLACED, Condition.Status.FALSE, "NoCapacity", message)
        wait_for(endpoint, [str(earlier.pool)])
        return None
    number, revision_id = _next_number(endpoint), new_id()
    name = deployment_name(endpoint.tenant.slug, endpoint.name, endpoint.id, number)
    spec = spec_again(
        endpoint=endpoint, earlier=earlier, name=name, revision_id=revision_id, replicas=replicas
    )
    gpus = replicas * earlier.gpus_per_replica
    held = keep_policy(endpoint, pool.pool, gpus=gpus, price_factor=endpoint.slo_class.price_factor)
    _claim(endpoint, pool.pool, earlier.gpu_type, gpus, endpoint.slo_class.price_factor)
    revision = _revision(
        endpoint,
        spec,
        pool.pool,
        id=revision_id,
        number=number,
        price_factor=endpoint.slo_class.price_factor,
        plan=earlier.plan,
        restored_from=earlier.number,
        **_kept_to(held),
    )
    _reserve(endpoint, revision, nodes, f"as revision {earlier.number} was")
    return revision


def _kept_to(held: InForce | None) -> dict[str, Any]:
    """Give what a revision keeps of the policy that it was placed under."""
    if held is None:
        return {}
    return {"policy_version": held.version, "policy_exceptions": list(held.exceptions)}


def current_revision(endpoint: Endpoint) -> Revision | None:
    """Give the revision that is wanted now."""
    return (
        Revision.objects.select_related("cluster", "pool__cluster__region")
        .filter(endpoint=endpoint, retired_at=None)
        .first()
    )


def cancel_change(endpoint: Endpoint) -> bool:
    """Give up a change that is under way, so that what serves is current again; give whether there was one."""
    wanted = Revision.objects.filter(endpoint=endpoint, retired_at=None).order_by("number")
    serving = wanted.select_related("pool__cluster__region").first()
    if serving is None or wanted.count() < 2:
        return False
    retire_revisions(endpoint, wanted.exclude(id=serving.id))
    claim_for(endpoint, serving, refuse=False)
    begin_change(endpoint)
    return True


def begin_change(endpoint: Endpoint) -> None:
    """Say that another revision is on its way: what is known of engines and routes was of the one before."""
    for kind in (Condition.Type.PROVISIONED, Condition.Type.ENGINE_READY, Condition.Type.ROUTED):
        set_condition(
            endpoint, kind, Condition.Status.UNKNOWN, "Changing", "Another revision is being started."
        )


def retire_all(endpoint: Endpoint) -> None:
    """Want none of the endpoint's revisions any more; what was never applied gives its GPUs back at once."""
    retire_revisions(endpoint, Revision.objects.filter(endpoint=endpoint, retired_at=None))
    release_kept(endpoint)
    wait_end(endpoint)
    unclaim_released(endpoint)


def release_kept(endpoint: Endpoint) -> None:
    """Give back GPUs that were kept for a revision in place of one that is gone."""
    kept = Reservation.objects.held().filter(endpoint=endpoint, revision__cleaned_at__isnull=False)
    kept.update(released_at=timezone.now())


def unclaim_released(endpoint: Endpoint) -> None:
    """Give back what budgets reserve for an endpoint that is not to run and holds no GPUs any more."""
    if (
        endpoint.wanted != Wanted.RUNNING
        and not Reservation.objects.held().filter(endpoint=endpoint).exists()
    ):
        gpus_unclaim(endpoint_id=endpoint.id)


def retire_revisions(endpoint: Endpoint, revisions: QuerySet[Revision]) -> None:
    """Want revisions no more; what was never applied gives its GPUs back at once."""
    now = timezone.now()
    revisions.update(retired_at=now)
    unapplied = Revision.objects.filter(
        endpoint=endpoint, retired_at__isnull=False, applied_at=None, cleaned_at=None
    )
    Reservation.objects.held().filter(revision__in=unapplied).update(released_at=now)
    unapplied.update(cleaned_at=now)


def resize(endpoint: Endpoint, revision: Revision, replicas: int) -> None:
    """Give a revision another number of replicas in its pool.

    Raises:
        OverQuota: the tenant may not hold that many GPUs.
        OverBudget: a budget of its project or tenant has no room for them.
        PolicyRefused: the tenant's policy does not allow it.
        Conflict: the pool has not enough free GPUs.
    """
    reservation = Reservation.objects.select_for_update().get(revision=revision)
    more = replicas - reservation.replicas
    if more > 0:  # fewer are given back by the reconciler, once the cluster shows them released
        if revision.cluster.state != Cluster.State.ACTIVE:
            raise Conflict(
                f"Cluster {revision.cluster.name} is {revision.cluster.state} and takes no more engines."
            )
        _keep_limits(endpoint, revision, reservation, replicas)
        pool = capacities(lock=True, pool_ids=[revision.pool_id])[0]
        added = nodes_for(
            pool.free_per_node,
            reservation.gpus_per_replica,
            more,
            gpus_per_node=pool.pool.gpus_per_node,
        )
        if added is None:
            raise Conflict(
                f"{revision.pool} has {pool.free} free GPUs; {more} more replicas need "
                f"{more * reservation.gpus_per_replica}. Ask for fewer, or the operators for capacity.",
                free_gpus=pool.free,
            )
        reservation.nodes = [*reservation.nodes, *itertools.chain.from_iterable(added)]
        reservation.save(update_fields=["nodes"])
    if more > 0:
        grown_from = min(
            revision.replicas, revision.replicas if revision.grown_from is None else revision.grown_from
        )
        revision.grown_from, revision.shrunk_at = grown_from, None
    else:
        revision.grown_from = revision.shrunk_at = None
    revision.replicas = replicas
    revision.save(update_fields=["replicas", "grown_from", "shrunk_at"])
    claim_for(endpoint, revision)


def keep_to_limits(endpoint: Endpoint, revision: Revision, replicas: int) -> None:
    """Insist that a revision may have so many replicas, whatever its pool has free. Nothing is changed.

    Raises:
        OverQuota, OverBudget, PolicyRefused: as for :func:`resize`.
    """
    reservation = Reservation.objects.get(revision=revision)
    if replicas > reservation.replicas:
        _keep_limits(endpoint, revision, reservation, replicas)
    with transaction.atomic():
        claim_for(endpoint, revision, replicas=replicas)
        transaction.set_rollback(True)


def _keep_limits(endpoint: Endpoint, revision: Revision, reservation: Reservation, replicas: int) -> None:
    each = reservation.gpus_per_replica
    _keep_quota(revision, (replicas - reservation.replicas) * each)
    keep_policy(endpoint, revision.pool, gpus=replicas * each, price_factor=revision.price_factor)


def claim_for(
    endpoint: Endpoint, revision: Revision, *, replicas: int | None = None, refuse: bool = True
) -> None:
    """Reserve in budgets what a revision comes to with so many replicas, without a number those that it has now."""
    gpus = (revision.replicas if replicas is None else replicas) * revision.gpus_per_replica
    _claim(endpoint, revision.pool, revision.gpu_type, gpus, revision.price_factor, refuse=refuse)


def _claim(
    endpoint: Endpoint,
    pool: NodePool,
    gpu_type: str,
    gpus: int,
    price_factor: Decimal,
    *,
    refuse: bool = True,
) -> None:
    """Reserve in budgets what the newest revision holds; a change counts once, as with quotas."""
    gpus_claim(
        project=endpoint.project,
        endpoint_id=endpoint.id,
        region=pool.cluster.region.code,
        gpu_type=gpu_type,
        gpus=gpus,
        price_factor=price_factor,
        refuse=refuse,
    )


def _keep_quota(revision: Revision, more: int) -> None:
    """Refuse what goes beyond the quota. A change counts once: what is to take ``revision``'s place is left out."""
    limit = quota_limits().get("gpus")
    newer = {"revision__retired_at": None, "revision__number__gt": revision.number}
    used = Reservation.objects.held().exclude(endpoint=revision.endpoint_id, **newer).gpus()
    if limit is not None and used + more > limit:
        raise OverQuota(
            f"Your quota is {limit} GPUs and {used} are held; {more} more would exceed it. "
            "Pause or shrink another endpoint, or ask the operators for a larger quota.",
            resource="gpus",
            limit=limit,
            used=used,
        )


def _next_number(endpoint: Endpoint) -> int:
    numbers = Revision.objects.filter(endpoint=endpoint).order_by("-number").values_list("number", flat=True)
    return (numbers.first() or 0) + 1


def _revision(endpoint: Endpoint, spec: DeploymentSpec, pool: NodePool, **values: Any) -> Revision:
    return Revision.objects.create(
        tenant_id=endpoint.tenant_id,
        endpoint=endpoint,
        generation=endpoint.generation,
        cluster=pool.cluster,
        pool=pool,
        deployment=spec.name,
        runtime=spec.runtime,
        gpu_type=spec.gpu_type,
        precision=spec.precision,
        tensor_parallel=spec.tensor_parallel,
        pipeline_parallel=spec.pipeline_parallel,
        replicas=spec.replicas,
        context_tokens=spec.context_tokens,
        max_batch_size=spec.max_batch_size,
        spec=spec.to_document(),
        place=pool.cluster.region.attributes,
        terms=terms_document(endpoint),
        **values,
    )


def _reserve(endpoint: Endpoint, revision: Revision, nodes: Sequence[Sequence[int]], terms: str) -> None:
    Reservation.objects.create(
        tenant_id=endpoint.tenant_id,
        endpoint=endpoint,
        revision=revision,
        pool=revision.pool,
        nodes=list(itertools.chain.from_iterable(nodes)),
        span=len(nodes[0]) if nodes else 1,
        gpus_per_replica=revision.gpus_per_replica,
    )
    gpus = f"{revision.replicas} x {revision.gpus_per_replica} {revision.gpu_type}"
    where = f"{gpus} in {revision.pool} ({revision.cluster.region})"
    set_condition(endpoint, Condition.Type.PLACED, Condition.Status.TRUE, "Reserved", f"Holds {where}.")
    wait_end(endpoint, str(revision.pool))
    record(endpoint, "placed", f"Revision {revision.number}: {where} {terms}.")
