"""An endpoint's history, line by line."""

from __future__ import annotations

from clusters.models import Endpoint, EndpointEvent


def record(endpoint: Endpoint, kind: str, message: str, *, actor: str = "") -> EndpointEvent:
    """Add a line; ``actor`` is empty for what the reconciler saw or did."""
    return EndpointEvent.objects.create(
        tenant_id=endpoint.tenant_id, endpoint=endpoint, kind=kind, message=message[:1000], actor=actor[:120]
    )
