"""What every wish for an endpoint begins and ends with: its lock, its generation, waking the reconciler."""

from __future__ import annotations

from clusters.endpoints.policy.in_force import InForce, refuse_by_policy
from clusters.endpoints.wake import wake
from clusters.errors import Impossible
from clusters.models import Endpoint, Wanted
from clusters.planning.plans import Plan, PlanStatus
from tenants import scope
from tenants.announcements import announce
from tenants.errors import Conflict, OverQuota, Stale
from tenants.models import Tenant


def tenant_for_update() -> Tenant:
    """Give the open tenant and hold it: its orders go one after the other, so that two cannot pass one quota."""
    return Tenant.objects.select_for_update(no_key=True).get(id=scope.current_tenant_id())


def for_update(endpoint: Endpoint, if_generation: int | None, *, deleting_too: bool = False) -> Endpoint:
    """Give the endpoint as it is now and hold its row.

    Raises:
        Conflict: it is being deleted, unless ``deleting_too``.
        Stale: it is at another generation than ``if_generation``.
    """
    tenant_for_update()
    # Its row alone: joined rows (class, model, tenant) are shared with everybody else.
    locked = (
        Endpoint.objects.select_related("tenant", "model", "slo_class", "project", "cluster")
        .select_for_update(of=("self",))
        .get(id=endpoint.id)
    )
    if locked.wanted == Wanted.DELETED and not deleting_too:
        raise Conflict(
            f"The endpoint {locked.name} {'is gone' if locked.deleted_at else 'is being deleted'}."
        )
    if if_generation not in (None, locked.generation):
        raise Stale(f"The endpoint {locked.name} is at generation {locked.generation} now; read it again.")
    return locked


def bump(endpoint: Endpoint, *fields: str) -> None:
    """Count a wish, save ``fields`` with it, wake the reconciler and let gateways look."""
    endpoint.generation += 1
    endpoint.save(update_fields=["generation", *fields])
    wake(endpoint)
    announce()


def refusals(plan: Plan) -> list[dict]:
    """Give why pools were not chosen, as problem documents show it."""
    return [
        {
            "gpu": refusal.gpu,
            "pools": list(refusal.pools),
            "clusters": list(refusal.clusters),
            "reason": refusal.reason,
            "message": refusal.message,
        }
        for refusal in plan.headlines()
    ]


def refuse_hopeless(plan: Plan, policy: InForce | None) -> None:
    """Refuse what waiting for capacity would not help; ``policy`` is the one that it was planned under.

    Raises:
        Impossible: no cluster can ever satisfy it.
        OverQuota: a quota of the tenant does not allow it.
        PolicyRefused: the tenant's policy does not allow it.
    """
    if plan.status == PlanStatus.IMPOSSIBLE:
        raise Impossible(
            plan.message, refusals=refusals(plan), alternatives=plan.to_document()["alternatives"]
        )
    if plan.status == PlanStatus.OVER_QUOTA:
        raise OverQuota(plan.message, refusals=refusals(plan))
    refuse_by_policy(plan, policy, refusals(plan))
