"""Find out whether requests can reach the endpoint: a gateway where residency allows it holds its routes."""

from __future__ import annotations

from django.utils import timezone

from clusters.endpoints.conditions import set_condition
from clusters.endpoints.reconcile.work import Work
from clusters.models import Condition, Gateway, Replica
from clusters.planning.residency import residency_allows
from tenants import scope

LOOK_AGAIN_S = 0.3
SILENT_AFTER_S = 90.0


def route(work: Work) -> None:
    """Compare the moment its newest ready engine appeared with what the gateways last confirmed."""
    if work.current is None or not work.running_wanted:
        return
    with scope.tenant(work.endpoint.tenant_id):
        ready = list(
            Replica.objects.filter(
                revision=work.current, gone_at=None, phase=Replica.Phase.READY
            ).values_list("created_at", "ready_at")
        )
        status, reason, message = _judge(work, ready)
        set_condition(work.endpoint, Condition.Type.ROUTED, status, reason, message)
        if ready and status != Condition.Status.TRUE:
            work.soon(LOOK_AGAIN_S)


def _judge(work: Work, ready: list) -> tuple[str, str, str]:
    if not ready:
        return Condition.Status.FALSE, "NoEngine", "No engine answers yet."
    lawful = [
        gateway
        for gateway in Gateway.objects.select_related("region")
        if residency_allows(work.endpoint.residency, gateway.region.code, frozenset(gateway.region.zones))
    ]
    if not lawful:
        message = f"No gateway is registered where {work.endpoint.residency} allows requests to pass."
        return Condition.Status.FALSE, "NoGateway", message
    # One engine in the routes is enough; further ones join with the next snapshot.
    routable_since = min(max(created, at or created) for created, at in ready)
    if any(gateway.confirmed_at and gateway.confirmed_at >= routable_since for gateway in lawful):
        names = ", ".join(gateway.name for gateway in lawful)
        return Condition.Status.TRUE, "InSnapshot", f"Gateways that may serve it: {names}."
    heard = max((gateway.last_seen_at for gateway in lawful if gateway.last_seen_at), default=None)
    if heard is None or (timezone.now() - heard).total_seconds() > SILENT_AFTER_S:
        return (
            Condition.Status.FALSE,
            "GatewaySilent",
            "Engines are ready; no gateway has been heard of lately.",
        )
    return Condition.Status.FALSE, "Propagating", "Engines are ready; gateways are taking up the route."
