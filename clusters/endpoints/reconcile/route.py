"""Find out whether requests can reach the endpoint: a gateway where residency allows it holds its routes."""

from __future__ import annotations

import datetime as dt

from django.utils import timezone

from clusters.endpoints.conditions import set_condition
from clusters.endpoints.reconcile.observe import is_asleep
from clusters.endpoints.reconcile.work import Work
from clusters.models import Condition, Gateway, Replica
from clusters.planning.residency import residency_allows
from tenants import scope
from tenants.announcements import announce

LOOK_AGAIN_S = 0.3
PATIENT_S = 5.0
SILENT_AFTER_S = 90.0
PROPAGATING = "Propagating"
IN_SNAPSHOT = "InSnapshot"
HELD = (Condition.Status.TRUE, "Held", "Gateways hold the first request and have it woken.")


def route(work: Work) -> None:
    """Say "routed" once a gateway confirmed a snapshot that was built after the engine had been written down.

    A confirmation counts from the moment of "Propagating" on: what observing wrote is committed by then.
    """
    if work.current is None or not work.running_wanted:
        return
    with scope.tenant(work.endpoint.tenant_id):
        ready = Replica.objects.filter(
            revision=work.current, gone_at=None, phase=Replica.Phase.READY
        ).exists()
        held = Condition.objects.filter(endpoint=work.endpoint, type=Condition.Type.ROUTED).first()
        if not ready and is_asleep(work.current):
            status, reason, message = HELD
        else:
            status, reason, message = _judge(work, ready, held)
        news = set_condition(work.endpoint, Condition.Type.ROUTED, status, reason, message)
        if news and reason == PROPAGATING:
            announce()  # gateways confirm at once, not at their next look
        if ready and status != Condition.Status.TRUE:
            work.soon(LOOK_AGAIN_S if reason == PROPAGATING else PATIENT_S)


def _judge(work: Work, ready: bool, held: Condition | None) -> tuple[str, str, str]:
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
    in_snapshot = held is not None and (
        held.reason == IN_SNAPSHOT
        or (held.reason == PROPAGATING and _confirmed_since(lawful, held.changed_at))
    )
    if in_snapshot:
        names = ", ".join(gateway.name for gateway in lawful)
        return Condition.Status.TRUE, IN_SNAPSHOT, f"Gateways that may serve it: {names}."
    heard = max((gateway.last_seen_at for gateway in lawful if gateway.last_seen_at), default=None)
    if heard is None or (timezone.now() - heard).total_seconds() > SILENT_AFTER_S:
        message = "Engines are ready; no gateway has been heard of lately."
        return Condition.Status.FALSE, "GatewaySilent", message
    return Condition.Status.FALSE, PROPAGATING, "Engines are ready; gateways are taking up the route."


def _confirmed_since(gateways: list[Gateway], moment: dt.datetime) -> bool:
    return any(gateway.confirmed_at and gateway.confirmed_at >= moment for gateway in gateways)
