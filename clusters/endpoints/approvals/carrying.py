"""Carrying out what was approved: the same services as without rules, under the approval."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from django.utils import timezone

from clusters.endpoints import restoring, services
from clusters.endpoints.approvals.asking import Requoted, let_go
from clusters.endpoints.approvals.deciding import Decider
from clusters.endpoints.approvals.judging import NeedsApproval
from clusters.endpoints.approvals.placing import place_first
from clusters.endpoints.approvals.rewording import terms_wished
from clusters.endpoints.approvals.rules import rule_put
from clusters.endpoints.load.replanning import BESIDE, endpoint_replan
from clusters.endpoints.planning import Market, OrderTerms
from clusters.endpoints.policy.exceptions import exception_grant
from clusters.endpoints.policy.setting import policy_put
from clusters.endpoints.wishes import bump, for_update, refuse_hopeless
from clusters.models import ApprovalRequest, Cluster, Endpoint, Wanted
from tenants.errors import Conflict

What = ApprovalRequest.What


def carry_out(request: ApprovalRequest, decider: Decider) -> None:
    """Do what a request wishes, which everybody agreed to whose agreement it takes.

    Raises:
        Requoted: it comes to something else by now than what was agreed to.
        BerthError: it cannot be done.
    """
    _CARRY[What(request.what)](request, decider)


def _actor(request: ApprovalRequest, decider: Decider) -> str:
    return f"{request.asked_as}, approved by {decider.actor}"[:120]


def _place(request: ApprovalRequest, decider: Decider) -> None:
    endpoint = for_update(_endpoint(request), None)
    if endpoint.wanted == Wanted.PAUSED:
        services.endpoint_resume(endpoint=endpoint, actor=_actor(request, decider), granted=request)
        _keep(request)
        return
    market = Market.read(tenant=endpoint.tenant, besides=endpoint, lock=True)
    plan = market.plan(OrderTerms.of(endpoint))
    refuse_hopeless(plan, market.policy)
    try:
        place_first(endpoint, plan, market, granted=request)
    except NeedsApproval as need:
        raise Requoted(need.figures, need.trips) from need
    let_go(endpoint, "Approved", f"Approved by {decider.actor}.")
    bump(endpoint)
    _keep(request)


def _keep(request: ApprovalRequest) -> None:
    """Remember of what state of the endpoint the approval is, for where it still waits for capacity."""
    request.generation = Endpoint.objects.values_list("generation", flat=True).get(id=request.endpoint_id)
    request.save(update_fields=["generation"])


def _scale(request: ApprovalRequest, decider: Decider) -> None:
    services.endpoint_scale(
        endpoint=_endpoint(request),
        replicas=request.wish["replicas"],
        actor=_actor(request, decider),
        granted=request,
    )


def _replan(request: ApprovalRequest, decider: Decider) -> None:
    endpoint = _endpoint(request)
    endpoint_replan(
        endpoint=endpoint,
        terms=terms_wished(endpoint, request),
        ways=request.wish.get("ways", BESIDE),
        actor=_actor(request, decider),
        granted=request,
    )


def _restore(request: ApprovalRequest, decider: Decider) -> None:
    restoring.endpoint_restore(
        endpoint=_endpoint(request),
        number=request.wish["number"],
        in_place=request.wish["in_place"],
        actor=_actor(request, decider),
        granted=request,
    )


def _move(request: ApprovalRequest, decider: Decider) -> None:
    cluster = Cluster.objects.present().filter(name=request.wish["cluster"]).first()
    if cluster is None:
        raise Conflict(f"There is no cluster {request.wish['cluster']} any more.")
    services.endpoint_move(
        endpoint=_endpoint(request), cluster=cluster, actor=_actor(request, decider), granted=request
    )


def _exception(request: ApprovalRequest, decider: Decider) -> None:
    exception_grant(request=request, approved_by=decider.user, approved_as=decider.actor, now=timezone.now())


def _policy(request: ApprovalRequest, decider: Decider) -> None:
    policy_put(
        values=request.wish["policy"],
        based_on=request.wish["version"],
        set_by=request.asked_by,
        set_as=_actor(request, decider),
    )


def _rule(request: ApprovalRequest, decider: Decider) -> None:
    rule_put(rule_id=request.wish["rule"], changes=request.wish["changes"])


def _endpoint(request: ApprovalRequest) -> Endpoint:
    return Endpoint.objects.select_related("tenant", "project", "model", "slo_class", "cluster").get(
        id=request.endpoint_id
    )


_CARRY: Final[dict[What, Callable[[ApprovalRequest, Decider], None]]] = {
    What.ORDER: _place,
    What.RESUME: _place,
    What.SCALE: _scale,
    What.REPLAN: _replan,
    What.RESTORE: _restore,
    What.MOVE: _move,
    What.EXCEPTION: _exception,
    What.POLICY: _policy,
    What.RULE: _rule,
}
