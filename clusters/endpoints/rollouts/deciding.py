"""What people decide of a rollout: go on with it now, go back, try again, say no more of its failure."""

from __future__ import annotations

import uuid

from django.db import transaction
from django.utils import timezone

from clusters.endpoints import restoring
from clusters.endpoints.approvals.deciding import Asker
from clusters.endpoints.history import record
from clusters.endpoints.rollouts.changing import CHANGEABLE, endpoint_change
from clusters.endpoints.rollouts.closing import (
    rollout_forget,
    rollout_of,
    rollout_promote,
    rollout_undo,
)
from clusters.endpoints.rollouts.terms import terms_document
from clusters.endpoints.wishes import bump, for_update
from clusters.models import CatalogModel, Endpoint, Rollout
from tenants.errors import Conflict, NotFound

Phase = Rollout.Phase


def rollout_get(endpoint: Endpoint, rollout_id: uuid.UUID) -> Rollout:
    """Give a rollout of an endpoint.

    Raises:
        NotFound: it has none of this id.
    """
    found = (
        Rollout.objects.filter(endpoint=endpoint, id=rollout_id).select_related("revision", "before").first()
    )
    if found is None:
        raise NotFound(f"{endpoint.name} has no such rollout.")
    return found


@transaction.atomic
def rollout_promote_now(
    *, endpoint: Endpoint, rollout_id: uuid.UUID, actor: str, if_generation: int | None = None
) -> Endpoint:
    """Let a new revision that is in its canary serve alone, whatever the gate would say.

    Raises:
        Conflict: it is over, or not in its canary yet.
    """
    endpoint, rollout = _open(endpoint, rollout_id, if_generation)
    if rollout.phase != Phase.CANARY:
        raise Conflict(
            f"The rollout is {rollout.get_phase_display().lower()}: only a new revision that is in its canary can be "
            "promoted. Wait for it, or roll it back."
        )
    rollout_promote(endpoint, rollout, now=timezone.now(), actor=actor, why=f"Promoted by {actor}.")
    bump(endpoint)
    return endpoint


@transaction.atomic
def rollout_roll_back(
    *, endpoint: Endpoint, rollout_id: uuid.UUID, actor: str, if_generation: int | None = None
) -> Endpoint:
    """Go back to what ran before, and to the order as it was.

    Raises:
        Conflict: it is over.
    """
    endpoint, rollout = _open(endpoint, rollout_id, if_generation)
    rollout_undo(
        endpoint,
        rollout,
        phase=Phase.ROLLED_BACK,
        why=f"Rolled back by {actor}.",
        now=timezone.now(),
        actor=actor,
    )
    return endpoint


@transaction.atomic
def rollout_dismiss(
    *, endpoint: Endpoint, rollout_id: uuid.UUID, actor: str, if_generation: int | None = None
) -> Endpoint:
    """Show a failed update no longer as the endpoint's state.

    Raises:
        Conflict: it did not fail, or was dismissed.
    """
    endpoint = for_update(endpoint, if_generation)
    rollout = rollout_get(endpoint, rollout_id)
    if rollout.phase not in Rollout.UNDONE or rollout.dismissed_at is not None:
        raise Conflict("There is no failed update to dismiss.")
    rollout_forget(endpoint, now=timezone.now())
    bump(endpoint)
    record(endpoint, "rollout", "The failed update is dismissed.", actor=actor)
    return endpoint


def rollout_retry(
    *,
    endpoint: Endpoint,
    rollout_id: uuid.UUID,
    actor: str,
    asked_by: Asker | None = None,
    if_generation: int | None = None,
) -> Endpoint:
    """Ask for the change of an undone rollout again; what was changed otherwise since then stays.

    Raises:
        Conflict: it was not undone, or what it changed is not the tenant's to ask for.
        Invalid, OverQuota, OverBudget, PolicyRefused: as for any change.
    """
    rollout = rollout_get(endpoint, rollout_id)
    if rollout.phase not in (*Rollout.UNDONE, Phase.CANCELLED):
        raise Conflict(
            f"The rollout is {rollout.get_phase_display().lower()}: only one that was undone can be tried again."
        )
    if rollout.revision is not None and rollout.revision.restored_from is not None:
        return restoring.endpoint_restore(
            endpoint=endpoint,
            number=rollout.revision.restored_from,
            actor=actor,
            asked_by=asked_by,
            if_generation=endpoint.generation if if_generation is None else if_generation,
        )
    now = terms_document(endpoint)
    wish, back = rollout.wish, rollout.back
    changes = {name: wish[name] for name in CHANGEABLE if wish.get(name) not in (back.get(name), now[name])}
    if "model" in changes:
        changes["model"] = CatalogModel.objects.filter(name=changes["model"]).first() or endpoint.model
    if not changes:
        raise Conflict(
            "Nothing of it differs from the order as it is. What operators moved they have to move again."
        )
    return endpoint_change(endpoint=endpoint, changes=changes, actor=actor, asked_by=asked_by)


def _open(endpoint: Endpoint, rollout_id: uuid.UUID, if_generation: int | None) -> tuple[Endpoint, Rollout]:
    endpoint = for_update(endpoint, if_generation)
    rollout = rollout_of(endpoint)
    if rollout is None or rollout.id != rollout_id:
        told = rollout_get(endpoint, rollout_id).get_phase_display().lower()
        raise Conflict(f"The rollout is over: it is {told}.")
    return endpoint, rollout
