"""Find a place for an endpoint that is wanted and has none."""

from __future__ import annotations

from django.db import transaction

from billing.errors import OverBudget
from clusters.endpoints import placement
from clusters.endpoints.approvals.asking import hold, is_held
from clusters.endpoints.approvals.judging import NeedsApproval
from clusters.endpoints.approvals.placing import granted_for, place_first
from clusters.endpoints.conditions import set_condition
from clusters.endpoints.planning import Market, OrderTerms
from clusters.endpoints.reconcile.work import Work
from clusters.endpoints.rollouts.closing import rollout_of
from clusters.endpoints.rollouts.replacing import replace, rollout_took
from clusters.endpoints.states import BUDGET_SPENT, POLICY_REFUSED
from clusters.errors import PolicyRefused
from clusters.models import Cluster, Condition, Endpoint, Revision, RolloutWay, Wanted
from tenants import scope
from tenants.models import Tenant

TRY_AGAIN_S = 3.0
BUDGET_AGAIN_S = 60.0  # until a budget begins anew, or has room again
REFUSED_AGAIN_S = 60.0  # until the policy allows it; who changes that wakes it


def place(work: Work) -> None:
    """Plan against what is free now and reserve it; wait where nothing is free, or somebody comes first."""
    if not work.running_wanted or work.current is not None:
        return
    if any(each.cluster.state != Cluster.State.UNREACHABLE for each in work.leftovers):
        return  # first it lets go of what it holds, where anybody can say that it did
    with scope.tenant(work.endpoint.tenant_id):
        tenant = Tenant.objects.select_for_update(no_key=True).get(id=work.endpoint.tenant_id)
        endpoint = (
            Endpoint.objects.select_related("tenant", "project", "model", "slo_class", "cluster")
            .select_for_update(of=("self",))
            .get(id=work.endpoint.id)
        )
        changed = endpoint.generation != work.endpoint.generation or endpoint.wanted != Wanted.RUNNING
        if not changed and is_held(endpoint):
            return  # whoever decides wakes it
        if changed or placement.current_revision(endpoint) is not None:
            work.soon(0)  # somebody changed it meanwhile: begin again
            return
        try:
            with transaction.atomic():
                placement.release_kept(endpoint)
                revision = _place(work, endpoint, tenant)
        except OverBudget as error:
            set_condition(
                endpoint, Condition.Type.PLACED, Condition.Status.FALSE, BUDGET_SPENT, error.message
            )
            work.soon(BUDGET_AGAIN_S)
            return
        except PolicyRefused as error:
            set_condition(
                endpoint, Condition.Type.PLACED, Condition.Status.FALSE, POLICY_REFUSED, error.message
            )
            work.soon(REFUSED_AGAIN_S)
            return
        if revision is None:
            if not is_held(endpoint):
                work.soon(TRY_AGAIN_S)
            return
        work.current = Revision.objects.select_related("cluster__region", "pool").get(id=revision.id)


def _place(work: Work, endpoint: Endpoint, tenant: Tenant) -> Revision | None:
    rollout = rollout_of(endpoint)
    if rollout is not None and (rollout.way != RolloutWay.REPLACE or rollout.revision is not None):
        return None  # what it brought is gone, too: first it ends, which says by which terms to place
    if rollout is not None:
        if endpoint.restoring:
            return rollout_took(endpoint, rollout, _again(endpoint), now=work.now)
        revision = replace(endpoint, tenant, rollout, now=work.now)
        if revision is not None or not endpoint.restoring:
            return revision
    return _again(endpoint) if endpoint.restoring else _anew(endpoint, tenant)


def _anew(endpoint: Endpoint, tenant: Tenant) -> Revision | None:
    market = Market.read(tenant=tenant, besides=endpoint, lock=True)
    plan = market.plan(OrderTerms.of(endpoint))
    try:
        return place_first(endpoint, plan, market, granted=granted_for(endpoint))
    except NeedsApproval as need:
        resumed = Revision.objects.filter(endpoint=endpoint).exists()
        hold(endpoint, need, asked_by=endpoint.created_by, asked_as=_asker(endpoint), resumed=resumed)
        return None


def _asker(endpoint: Endpoint) -> str:
    return endpoint.created_by.email if endpoint.created_by else "Berth"


def _again(endpoint: Endpoint) -> Revision | None:
    earlier = Revision.objects.select_related("pool").get(endpoint=endpoint, number=endpoint.restoring)
    revision = placement.settle_again(endpoint, earlier)
    if revision is not None:
        endpoint.restoring = None
        endpoint.save(update_fields=["restoring"])
    return revision
