"""What an endpoint's state tells of its change: the one under way, or the last one if it was undone."""

from __future__ import annotations

from clusters.endpoints.states import Change
from clusters.models import Endpoint, Rollout, RolloutWay

Phase = Rollout.Phase


def change_of(endpoint: Endpoint) -> Change | None:
    """Give the newest change of an endpoint as its state shows it; None where nothing of it is to be shown."""
    rollout = (
        Rollout.objects.filter(endpoint=endpoint).select_related("revision", "before").order_by("-id").first()
    )
    if rollout is None:
        return None
    if rollout.phase in Rollout.UNDONE and rollout.dismissed_at is None:
        return Change(undone=f"Back to revision {rollout.before.number}: {rollout.reason}")
    if not rollout.is_active:
        return None
    if rollout.phase == Phase.WAITING:
        return Change(waits=rollout.reason)
    return Change(goes_on=_told(rollout), serves=rollout.before.retired_at is None)


def _told(rollout: Rollout) -> str:
    if rollout.way == RolloutWay.REPLACE:
        return f"Replaced in place; nothing serves until its new revision does. {rollout.reason}".strip()
    if rollout.phase == Phase.CANARY and rollout.revision is not None:
        return f"Revision {rollout.revision.number} gets {rollout.weight} % of the requests. {rollout.reason}".strip()
    if rollout.phase == Phase.EVALUATING:
        return f"Revision {rollout.before.number} serves while the new one is evaluated. {rollout.reason}".strip()
    return ""
