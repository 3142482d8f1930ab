"""Let go of what served before, once the current revision does: by its rollout, step by step."""

from __future__ import annotations

from clusters.endpoints.history import record
from clusters.endpoints.reconcile.work import Work
from clusters.endpoints.rollouts.stepping import advance, serves
from clusters.models import Endpoint, Revision
from tenants import scope


def hand_over(work: Work) -> None:
    """Take a rollout on; where there is none, retire the predecessors once gateways route to the current revision."""
    if work.rollout is not None:
        if work.running_wanted:
            advance(work, work.rollout)
        return
    if not work.predecessors or work.current is None:
        return
    with scope.tenant(work.endpoint.tenant_id):
        work.lock()
        # What people did meanwhile goes first: a pause retires all of them.
        if not Endpoint.objects.filter(id=work.endpoint.id, generation=work.endpoint.generation).exists():
            work.soon(0)
            return
        if not serves(work.endpoint):
            return
        numbers = [revision.number for revision in work.predecessors]
        Revision.objects.filter(
            id__in=[revision.id for revision in work.predecessors], retired_at=None
        ).update(retired_at=work.now)
        before = ", ".join(map(str, sorted(numbers)))
        record(
            work.endpoint, "replaced", f"Revision {work.current.number} serves in place of revision {before}."
        )
    work.leftovers += work.predecessors
    work.predecessors = []
    work.soon(0)
