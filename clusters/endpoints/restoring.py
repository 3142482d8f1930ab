"""Running an earlier revision's configuration again, beside what runs or in its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clusters.endpoints import placement
from clusters.endpoints.approvals.asking import approvable, refuse_held
from clusters.endpoints.approvals.figures import running
from clusters.endpoints.approvals.judging import judge
from clusters.endpoints.blueprint import SpecUnusable, kept_spec
from clusters.endpoints.history import record
from clusters.endpoints.planning import Market
from clusters.endpoints.rollouts.closing import change_give_up
from clusters.endpoints.rollouts.opening import rollout_open
from clusters.endpoints.rollouts.outage import expected_outage
from clusters.endpoints.rollouts.terms import OF_ENGINES, terms_running, terms_take
from clusters.endpoints.wishes import bump, for_update
from clusters.models import ApprovalRequest, Endpoint, Revision, RolloutWay, Wanted
from tenants.errors import Conflict, Invalid, OverQuota


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
        before=running(endpoint, current, market) if current else None,
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


def _restore_in_place(endpoint: Endpoint, earlier: Revision, told: Mapping[str, Any]) -> None:
    outage = expected_outage(
        endpoint,
        model=endpoint.model,
        runtime=earlier.runtime,
        cluster=earlier.cluster.name,
        evaluated=False,  # it has served before
    )
    rollout_open(endpoint, revision=None, way=RolloutWay.REPLACE, outage=outage, at_once=True, **told)
    placement.retire_all(endpoint)
    endpoint.restoring = earlier.number


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
