"""Let go of what served before, once the current revision does."""

from __future__ import annotations

from django.utils import timezone

from clusters.endpoints.history import record
from clusters.endpoints.reconcile.work import Work
from clusters.models import Condition, Endpoint, Revision
from tenants import scope


def hand_over(work: Work) -> None:
    """Retire the predecessors when every engine of the current revision answers and gateways route to it."""
    if not work.predecessors or work.current is None:
        return
    with scope.tenant(work.endpoint.tenant_id):
        work.lock()
        # What people did meanwhile goes first: a pause retires all of them.
        if not Endpoint.objects.filter(id=work.endpoint.id, generation=work.endpoint.generation).exists():
            work.soon(0)
            return
        served = Condition.objects.filter(
            endpoint=work.endpoint,
            type__in=(Condition.Type.ENGINE_READY, Condition.Type.ROUTED),
            status=Condition.Status.TRUE,
        )
        if served.count() < 2:
            return
        numbers = [revision.number for revision in work.predecessors]
        Revision.objects.filter(
            id__in=[revision.id for revision in work.predecessors], retired_at=None
        ).update(retired_at=timezone.now())
        before = ", ".join(map(str, sorted(numbers)))
        record(
            work.endpoint, "replaced", f"Revision {work.current.number} serves in place of revision {before}."
        )
    work.leftovers += work.predecessors
    work.predecessors = []
    work.soon(0)
