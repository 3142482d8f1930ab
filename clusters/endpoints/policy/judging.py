"""Judging what runs by the policy in force: what it does not allow is shown, and stays as it is."""

from __future__ import annotations

from collections.abc import Iterator

from clusters.endpoints.conditions import set_condition
from clusters.endpoints.history import record
from clusters.endpoints.policy.in_force import fault_of, policy_in_force
from clusters.endpoints.wake import wake
from clusters.models import Condition, Endpoint, Revision, Wanted
from tenants.models import Tenant


def endpoints_judge(tenant: Tenant) -> int:
    """Show of each endpoint of the open tenant whether its policy allows how it runs; give of how many it does not.

    Endpoints that wait because of the policy are planned again.
    """
    outside = 0
    for endpoint, revision in running_endpoints(tenant):
        held = policy_in_force(tenant=tenant, endpoint=endpoint, spend=False)
        fault = fault_of(held.owner, endpoint, revision.pool) if held else ""
        outside += bool(fault)
        show_fault(endpoint, fault)
    for endpoint in Endpoint.objects.live().filter(tenant=tenant, wanted=Wanted.RUNNING):
        refused = Condition.objects.filter(
            endpoint=endpoint,
            type=Condition.Type.PLACED,
            status=Condition.Status.FALSE,
            reason="PolicyRefused",
        )
        if refused.exists():
            wake(endpoint)
    return outside


def show_fault(endpoint: Endpoint, fault: str) -> None:
    """Show what of an endpoint the policy does not allow; empty: nothing. Only news is written."""
    kind = Condition.Type.POLICY
    if fault:
        if set_condition(endpoint, kind, Condition.Status.FALSE, "OutsidePolicy", fault):
            record(endpoint, "policy", f"It runs outside the policy: {fault}.")
    elif Condition.objects.filter(endpoint=endpoint, type=kind).exists() and set_condition(
        endpoint, kind, Condition.Status.TRUE, "Allowed", "The policy allows how it runs."
    ):
        record(endpoint, "policy", "The policy allows how it runs.")


def running_endpoints(tenant: Tenant) -> Iterator[tuple[Endpoint, Revision]]:
    """Give the open tenant's endpoints that run, each with the revision that is wanted now."""
    rows = Revision.objects.filter(
        tenant=tenant, retired_at=None, endpoint__deleted_at=None, endpoint__wanted=Wanted.RUNNING
    )
    newest = rows.order_by("endpoint_id", "-number").distinct("endpoint_id")
    for revision in newest.select_related(
        "pool__cluster__region", "endpoint__model", "endpoint__slo_class", "endpoint__tenant"
    ):
        yield revision.endpoint, revision
