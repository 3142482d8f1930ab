"""Writing conditions: only a change is written, and a change of status or reason starts its clock anew."""

from __future__ import annotations

from django.utils import timezone

from clusters.models import Condition, Endpoint

LONGEST_MESSAGE = 1000


def set_condition(endpoint: Endpoint, kind: str, status: str, reason: str, message: str = "") -> bool:
    """Say what is known of one aspect; return whether that is news."""
    message = message[:LONGEST_MESSAGE]
    held = Condition.objects.filter(endpoint=endpoint, type=kind).first()
    if held is None:
        Condition.objects.create(
            tenant_id=endpoint.tenant_id,
            endpoint=endpoint,
            type=kind,
            status=status,
            reason=reason,
            message=message,
            observed_generation=endpoint.generation,
            changed_at=timezone.now(),
        )
        return True
    if (held.status, held.reason, held.message) == (status, reason, message):
        return False
    if (held.status, held.reason) != (status, reason):
        held.changed_at = timezone.now()
    held.status, held.reason, held.message = status, reason, message
    held.observed_generation = endpoint.generation
    held.save(update_fields=["status", "reason", "message", "observed_generation", "changed_at"])
    return True
