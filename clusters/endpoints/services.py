"""What tenants do with endpoints: quote, order, scale, pause, resume, move, restore, delete.

Each changes rows and wakes the reconciler; none speaks to a cluster. ``if_generation`` lets a change pass only
while the endpoint is at that generation, and raises Stale otherwise.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import transaction
from django.utils import timezone

from billing.allocations import label_write
from clusters.endpoints import placement
from clusters.endpoints.approvals.asking import approvable, hold, is_held, let_go, supersede
from clusters.endpoints.approvals.deciding import Asker
from clusters.endpoints.approvals.figures import Figures, planned, running
from clusters.endpoints.approvals.judging import NeedsApproval, judge
from clusters.endpoints.approvals.placing import place_first
from clusters.endpoints.autoscaling.setting import scaling_by_hand, scaling_ordered
from clusters.endpoints.blueprint import SpecUnusable, kept_spec
from clusters.endpoints.conditions import set_condition
from clusters.endpoints.history import record
from clusters.endpoints.limits import check_fallbacks
from clusters.endpoints.names import refuse_name_of_route
from clusters.endpoints.planning import Market, OrderTerms
from clusters.endpoints.policy.in_force import refuse_by_policy
from clusters.endpoints.rollouts.closing import (
    change_give_up,
    rollout_cancel,
    rollout_forget,
    rollout_of,
)
from clusters.endpoints.rollouts.opening import rollout_open
from clusters.endpoints.rollouts.outage import expected_outage
from clusters.endpoints.rollouts.terms import OF_ENGINES, terms_running, terms_take
from clusters.endpoints.states import BUDGET_SPENT
from clusters.endpoints.wake import wake
from clusters.endpoints.wishes import bump, for_update, refusals, refuse_hopeless, tenant_for_update
from clusters.models import (
    ApprovalRequest,
    Cluster,
    Condition,
    Endpoint,
    Reservation,
    Revision,
    RolloutWay,
    Wanted,
)
from clusters.planning.plans import Plan, PlanStatus
from tenants import scope
from tenants.announcements import announce
from tenants.errors import Conflict, Invalid, OverQuota
from tenants.models import Project, Tenant, User
from tenants.validation import clean

MOST_REPLICAS = 64


def endpoint_quote(*, terms: OrderTerms, project: Project | None = None) -> Plan:
    """Compile an order into a priced plan with reasons, reserving nothing.

    Raises:
        Invalid: the terms contradict each other.
    """
    tenant = Tenant.objects.get(id=scope.current_tenant_id())
    return Market.read(tenant=tenant, project=project).plan(terms)


@transaction.atomic
def endpoint_order(
    *,
    project: Project,
    name: str,
    terms: OrderTerms,
    actor: str,
    created_by: User | None = None,
    asked_by: Asker | None = None,
    limits: Mapping[str, int | None] | None = None,
    fallbacks: Sequence[uuid.UUID] = (),
    scaling: Mapping[str, Any] | None = None,
) -> Endpoint:
    """Accept an order: plan it, reserve its GPUs and wake the reconciler.

    Where only capacity is wanting, or others wait for it already, the order is accepted and waits; so it does where a
    rule wants somebody's approval, who is asked. ``limits`` and ``fallbacks`` are those of
    :mod:`clusters.endpoints.limits`, ``scaling`` is what :func:`endpoint_scaling_set` takes.

    Raises:
        Invalid: a value is wrong, or the name is taken.
        Impossible: no cluster can ever satisfy it; ``extra`` holds the refusals.
        OverQuota: a quota of the tenant does not allow it.
        OverBudget: a budget of GPU time of the project or the tenant does not allow it.
        PolicyRefused: the tenant's policy does not allow it.
    """
    tenant = tenant_for_update()
    endpoint = Endpoint(
        tenant=tenant,
        project=project,
        name=name,
        created_by=created_by,
        fallbacks=list(fallbacks),
        **(limits or {}),
        **terms.to_fields(),
    )
    if not terms.model.published:
        raise Invalid(
            f"The model {terms.model.name} is no longer offered.",
            errors={"model": ["Choose one of the catalog."]},
        )
    refuse_name_of_route(name)
    check_fallbacks(endpoint, fallbacks)
    clean(endpoint)
    market = Market.read(tenant=tenant, project=project, lock=True)
    plan = market.plan(terms)
    refuse_hopeless(plan, market.policy)
    endpoint.save()
    label_write(
        endpoint_id=endpoint.id,
        project=project,
        name=name,
        model=terms.model.name,
        slo_class=terms.slo_class.name,
    )
    if scaling is not None:
        scaling_ordered(endpoint, **scaling)
    record(endpoint, "ordered", f"Ordered {terms.model.name} in class {terms.slo_class.name}.", actor=actor)
    try:
        place_first(endpoint, plan, market)
    except NeedsApproval as need:
        hold(endpoint, need, asked_by=asked_by or created_by, asked_as=actor)
    wake(endpoint)
    announce()
    return endpoint


@approvable(
    ApprovalRequest.What.SCALE,
    wish=lambda *, replicas, **_: {"replicas": replicas},
    title=lambda *, endpoint, replicas, **_: f"Scale {endpoint.name} to {replicas} replicas",
)
def endpoint_scale(
    *,
    endpoint: Endpoint,
    replicas: int,
    actor: str,
    if_generation: int | None = None,
    granted: ApprovalRequest | None = None,
) -> Endpoint:
    """Change the number of replicas, holding or giving back their GPUs. Berth chooses them no more, if it did.

    Raises:
        Invalid: the number is out of bounds.
        Conflict: the endpoint is being deleted, or the pool has not enough free GPUs.
        OverQuota: the tenant's quota does not allow it.
        OverBudget: a budget does not allow it.
        PolicyRefused: the tenant's policy does not allow it.
        Conflict: it waits for approval, which was asked for as it was ordered.
    """
    if not 1 <= replicas <= MOST_REPLICAS:
        raise Invalid(
            f"Replicas must be 1 to {MOST_REPLICAS}; to hold none, pause the endpoint.",
            errors={"replicas": [f"Choose 1 to {MOST_REPLICAS}."]},
        )
    endpoint = for_update(endpoint, if_generation)
    refuse_held(endpoint)
    before = endpoint.replicas
    revision = placement.current_revision(endpoint)
    if rollout_of(endpoint) is not None and revision is not None and revision.replicas != replicas:
        raise Conflict(
            f"{endpoint.name} is being changed; its replicas can be set when its rollout is over. Promote it or "
            "roll it back first, or change the order with the replicas that it is to have."
        )
    if revision is not None:
        before = revision.replicas
        if replicas > before:
            market = Market.read(tenant=endpoint.tenant, besides=endpoint)
            figures = running(endpoint, revision, market, replicas=replicas)
            judge(endpoint, figures, before=running(endpoint, revision, market), granted=granted)
        if replicas != before:
            placement.resize(endpoint, revision, replicas)
    by_hand = scaling_by_hand(endpoint, actor=actor)
    if replicas == before and endpoint.replicas == replicas and not by_hand:
        return endpoint
    endpoint.replicas = replicas
    endpoint.cleared = endpoint.cleared and revision is not None
    bump(endpoint, "replicas", "cleared")
    record(endpoint, "scaled", f"Replicas {before or 'by load'} -> {replicas}.", actor=actor)
    return endpoint


@transaction.atomic
def endpoint_pause(
    *,
    endpoint: Endpoint,
    actor: str,
    if_generation: int | None = None,
    why: str = "",
    reason: str = BUDGET_SPENT,
) -> Endpoint:
    """Stop its engines and release its GPUs, keeping the order. Pausing again changes nothing.

    ``why`` a budget or, by ``reason``, the policy stopped it is shown with its state until it is placed again. What
    it asked approval for is asked for no more.
    """
    endpoint = for_update(endpoint, if_generation)
    if endpoint.wanted != Wanted.PAUSED:
        endpoint.wanted, endpoint.restoring, endpoint.cleared = Wanted.PAUSED, None, False
        rollout_cancel(endpoint, why="It is paused.", actor=actor)
        placement.retire_all(endpoint)
        supersede(endpoint, actor=actor)
        let_go(endpoint, "Paused", "It is asked about when it is resumed.")
        bump(endpoint, "wanted", "restoring", "cleared")
        if why:
            set_condition(endpoint, Condition.Type.PLACED, Condition.Status.FALSE, reason, why)
        record(endpoint, "paused", why or "Pause asked for.", actor=actor)
    return endpoint


@approvable(
    ApprovalRequest.What.RESUME,
    wish=lambda **_: {},
    title=lambda *, endpoint, **_: f"Resume {endpoint.name}",
)
def endpoint_resume(
    *,
    endpoint: Endpoint,
    actor: str,
    if_generation: int | None = None,
    granted: ApprovalRequest | None = None,
) -> Endpoint:
    """Serve again after a pause: the order is planned afresh against today's capacity and prices.

    Raises:
        Impossible, OverQuota, OverBudget, PolicyRefused: as for an order.
    """
    endpoint = for_update(endpoint, if_generation)
    if endpoint.wanted == Wanted.RUNNING:
        return endpoint
    endpoint.wanted = Wanted.RUNNING
    if Reservation.objects.held().filter(endpoint=endpoint).exists():
        # Its engines are still being stopped: the reconciler plans it once they let go of their GPUs.
        bump(endpoint, "wanted")
        record(endpoint, "resumed", "Resume asked for; it waits for its GPUs to be released.", actor=actor)
        return endpoint
    market = Market.read(tenant=endpoint.tenant, besides=endpoint, lock=True)
    plan = market.plan(OrderTerms.of(endpoint))
    refuse_hopeless(plan, market.policy)
    bump(endpoint, "wanted")
    record(endpoint, "resumed", "Resume asked for.", actor=actor)
    place_first(endpoint, plan, market, granted=granted)
    return endpoint


@approvable(
    ApprovalRequest.What.MOVE,
    wish=lambda *, cluster, **_: {"cluster": cluster.name},
    title=lambda *, endpoint, cluster, **_: f"Move {endpoint.name} to cluster {cluster.name}",
)
def endpoint_move(
    *,
    endpoint: Endpoint,
    cluster: Cluster | None,
    actor: str,
    if_generation: int | None = None,
    granted: ApprovalRequest | None = None,
) -> Endpoint:
    """Have an endpoint run on another cluster; None gives the choice back to Berth and moves nothing.

    It is placed there beside what runs, and what runs serves until the new engines do. The GPUs it holds
    meanwhile count once against the tenant's quota. A paused endpoint goes there when it is resumed.

    Raises:
        Conflict: the cluster cannot take it now; ``extra`` holds the refusals.
        PolicyRefused: the tenant's policy does not allow it there.
    """
    endpoint = for_update(endpoint, if_generation)
    back = terms_running(endpoint)
    if cluster is not None and change_give_up(endpoint, actor=actor):
        # One change at a time: to move back to where it still serves is to give the change up.
        taken = terms_take(endpoint, back)
        if taken:
            endpoint.save(update_fields=taken)
    current = placement.current_revision(endpoint)
    endpoint.cluster, endpoint.restoring = cluster, None
    if cluster is None or endpoint.wanted != Wanted.RUNNING or (current and current.cluster == cluster):
        rollout_forget(endpoint, now=timezone.now())  # of a change that was undone: it is where it is wanted
        bump(endpoint, "cluster", "restoring")
        where = f"Cluster {cluster.name} chosen for it." if cluster else "Berth chooses its cluster again."
        record(endpoint, "cluster", where, actor=actor)
        return endpoint
    market = Market.read(tenant=endpoint.tenant, besides=endpoint, lock=True)
    plan = market.plan(OrderTerms.of(endpoint))
    refuse_by_policy(plan, market.policy, refusals(plan))
    if plan.status != PlanStatus.PLACED:
        raise Conflict(
            f"Cluster {cluster.name} cannot take {endpoint.name}: {plan.message}", refusals=refusals(plan)
        )
    if plan.configuration is not None:
        judge(
            endpoint,
            planned(endpoint, plan.configuration, market),
            before=_running_now(endpoint, current, market),
            granted=granted,
        )
    bump(endpoint, "cluster", "restoring")
    what = f"Move to cluster {cluster.name}."
    record(endpoint, "move", f"Move to cluster {cluster.name} asked for.", actor=actor)
    revision = placement.settle(endpoint, plan, market.capacities)
    placement.begin_change(endpoint)
    rollout_open(endpoint, before=current, revision=revision, back=back, what=what, actor=actor)
    return endpoint


@approvable(
    ApprovalRequest.What.RESTORE,
    wish=lambda *, number, in_place=False, **_: {"number": number, "in_place": in_place},
    title=lambda *, endpoint, number, **_: f"Run revision {number} of {endpoint.name} again",
)
def endpoint_restore(
    *,
    endpoint: Endpoint,
    number: int,
    actor: str,
    if_generation: int | None = None,
    in_place: bool = False,
    granted: ApprovalRequest | None = None,
) -> Endpoint:
    """Run an earlier revision's configuration again, as a new revision.

    What runs serves until it is ready. ``in_place`` stops what runs first, for when there is no room for both.

    Raises:
        Invalid: there is no such revision, or it is the one that runs, or it cannot be read any more.
        Conflict: the endpoint is paused; or its configuration may not run where it was, or has no room there.
        OverQuota: the tenant may not hold that many GPUs.
        PolicyRefused: the tenant's policy does not allow it any more.
    """
    endpoint = for_update(endpoint, if_generation)
    refuse_held(endpoint)
    if endpoint.wanted != Wanted.RUNNING:
        raise Conflict(f"{endpoint.name} is paused; resume it first.")
    current = placement.current_revision(endpoint)
    earlier = (
        Revision.objects.select_related("cluster", "pool").filter(endpoint=endpoint, number=number).first()
    )
    if earlier is None:
        raise Invalid(
            f"{endpoint.name} has no revision {number}.", errors={"number": ["Choose one of its revisions."]}
        )
    if current is not None and earlier.id == current.id:
        raise Invalid(
            f"Revision {number} is the one that runs.", errors={"number": ["Choose an earlier one."]}
        )
    back = terms_running(endpoint)
    # One change at a time: to restore what still serves is to give the change up.
    if change_give_up(endpoint, actor=actor):
        current = placement.current_revision(endpoint)
        if current is not None and earlier.id == current.id:
            bump(endpoint, *terms_take(endpoint, back))
            record(endpoint, "restore", f"Back to revision {number}, which still served.", actor=actor)
            return endpoint
    replicas = max(1, current.replicas if current else earlier.replicas)
    market = _check_restorable(endpoint, earlier, replicas)
    judge(
        endpoint,
        running(endpoint, earlier, market, replicas=replicas),
        before=_running_now(endpoint, current, market),
        granted=granted,
    )
    endpoint.restoring = None
    taken = terms_take(endpoint, {name: earlier.terms[name] for name in OF_ENGINES if name in earlier.terms})
    told = {"before": current, "back": back, "what": f"Run revision {number} again.", "actor": actor}
    if in_place:
        _restore_in_place(endpoint, earlier, told)
    elif (revision := placement.settle_again(endpoint, earlier)) is None:
        raise Conflict(
            f"There is no room in {earlier.pool} to run revision {number} beside what runs now. Restore it in "
            "place, with an outage while it starts, or ask the operators for capacity."
        )
    else:
        placement.begin_change(endpoint)
        rollout_open(endpoint, revision=revision, **told)
    bump(endpoint, "restoring", *taken)
    record(endpoint, "restore", f"Configuration of revision {number} asked for again.", actor=actor)
    return endpoint


@transaction.atomic
def endpoint_delete(*, endpoint: Endpoint, actor: str, if_generation: int | None = None) -> Endpoint:
    """Ask for the endpoint's end; it is gone when its cluster shows nothing of it. Repeating is safe."""
    endpoint = for_update(endpoint, if_generation, deleting_too=True)
    if endpoint.wanted != Wanted.DELETED:
        endpoint.wanted = Wanted.DELETED
        rollout_cancel(endpoint, why="It is deleted.", actor=actor)
        placement.retire_all(endpoint)
        supersede(endpoint, actor=actor)
        bump(endpoint, "wanted")
        record(endpoint, "deletion", "Deletion asked for.", actor=actor)
    return endpoint


def _restore_in_place(endpoint: Endpoint, earlier: Revision, told: Mapping[str, Any]) -> None:
    outage = expected_outage(
        endpoint, model=endpoint.model.name, runtime=earlier.runtime, cluster=earlier.cluster.name
    )
    rollout_open(endpoint, revision=None, way=RolloutWay.REPLACE, outage=outage, at_once=True, **told)
    placement.retire_all(endpoint)
    endpoint.restoring = earlier.number


def refuse_held(endpoint: Endpoint) -> None:
    """Refuse to change what waits for approval as it is.

    Raises:
        Conflict: it does.
    """
    if is_held(endpoint):
        raise Conflict(
            f"{endpoint.name} waits for approval as it was ordered. Change it with its request, or delete it."
        )


def _running_now(endpoint: Endpoint, current: Revision | None, market: Market) -> Figures | None:
    return running(endpoint, current, market) if current else None


def _check_restorable(endpoint: Endpoint, earlier: Revision, replicas: int) -> Market:
    try:
        kept_spec(earlier)
    except SpecUnusable as error:
        raise Invalid(str(error), errors={"number": [str(error)]}) from error
    if endpoint.cluster_id not in (None, earlier.cluster_id):
        raise Conflict(
            f"Revision {earlier.number} ran on cluster {earlier.cluster.name}; the operators keep "
            f"{endpoint.name} on another one."
        )
    market = Market.read(tenant=endpoint.tenant, besides=endpoint)
    if str(earlier.pool) not in {pool.id for pool in market.pools}:
        raise Conflict(f"{earlier.pool}, where revision {earlier.number} ran, is not for sale any more.")
    needed, limit = replicas * earlier.gpus_per_replica, market.quota.gpu_limit
    if limit is not None and market.quota.gpus_used + needed > limit:
        raise OverQuota(
            f"Revision {earlier.number} needs {needed} GPUs; your quota is {limit} and other endpoints hold "
            f"{market.quota.gpus_used}.",
            resource="gpus",
            limit=limit,
            used=market.quota.gpus_used,
        )
    return market
