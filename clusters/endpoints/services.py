"""What tenants do with endpoints: quote, order, scale, pause, resume, move, delete.

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
from clusters.endpoints.approvals.asking import approvable, hold, let_go, refuse_held, supersede
from clusters.endpoints.approvals.deciding import Asker
from clusters.endpoints.approvals.figures import planned, running
from clusters.endpoints.approvals.judging import NeedsApproval, judge
from clusters.endpoints.approvals.placing import place_first
from clusters.endpoints.autoscaling.setting import scaling_by_hand, scaling_ordered
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
    rollout_withdraw,
)
from clusters.endpoints.rollouts.opening import rollout_open
from clusters.endpoints.rollouts.terms import terms_running, terms_take
from clusters.endpoints.states import BUDGET_SPENT
from clusters.endpoints.wake import wake
from clusters.endpoints.wishes import bump, for_update, refusals, refuse_hopeless, tenant_for_update
from clusters.models import (
    ApprovalRequest,
    Cluster,
    Condition,
    Endpoint,
    Reservation,
    Wanted,
)
from clusters.planning.plans import Plan, PlanStatus
from tenants import scope
from tenants.announcements import announce
from tenants.errors import Conflict, Invalid
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
    """Stop its engines and release its GPUs, keeping the order; a change that is under way is taken back.

    ``why`` a budget or, by ``reason``, the policy stopped it is shown with its state until it is placed again. What
    it asked approval for is asked for no more. Pausing again changes nothing.
    """
    endpoint = for_update(endpoint, if_generation)
    if endpoint.wanted != Wanted.PAUSED:
        endpoint.wanted, endpoint.restoring, endpoint.cleared = Wanted.PAUSED, None, False
        taken = rollout_withdraw(endpoint, why="It is paused.", actor=actor)
        placement.retire_all(endpoint)
        supersede(endpoint, actor=actor)
        let_go(endpoint, "Paused", "It is asked about when it is resumed.")
        bump(endpoint, "wanted", "restoring", "cleared", *taken)
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
            before=running(endpoint, current, market) if current else None,
            granted=granted,
        )
    bump(endpoint, "cluster", "restoring")
    what = f"Move to cluster {cluster.name}."
    record(endpoint, "move", f"Move to cluster {cluster.name} asked for.", actor=actor)
    revision = placement.settle(endpoint, plan, market.capacities)
    placement.begin_change(endpoint)
    rollout_open(endpoint, before=current, revision=revision, back=back, what=what, actor=actor)
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
