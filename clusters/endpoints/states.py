"""The badge of an endpoint, derived from its conditions, and what to do next."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from clusters.models import Condition, EndpointState, Wanted
from clusters.specs import Trouble


@dataclasses.dataclass(frozen=True)
class Known:
    """One condition in short."""

    status: str
    reason: str
    message: str


@dataclasses.dataclass(frozen=True)
class Change:
    """What is to be told of a change: that it ``waits``, how it ``goes_on``, why it was ``undone``.

    ``serves`` says whether the revision before it still does.
    """

    waits: str = ""
    goes_on: str = ""
    undone: str = ""
    serves: bool = True


#: Reason of the condition Placed of what a budget keeps from running: it waits, or was paused.
BUDGET_SPENT = "BudgetSpent"
#: Reason of the condition Placed of what the tenant's own policy keeps from running.
POLICY_REFUSED = "PolicyRefused"
_WAITING = {"NoCapacity", BUDGET_SPENT}

#: The message of the condition EngineReady while no replica is wanted.
ASLEEP = "No replica runs until a request comes."

UNKNOWN = Known(Condition.Status.UNKNOWN, "NotYet", "")

NEXT_ACTION: dict[str, str] = {
    EndpointState.WAITING_FOR_APPROVAL: "Somebody has to agree first; its request says who, and until when. Nothing is "
    "reserved and nothing costs until then.",
    EndpointState.WAITING_FOR_CAPACITY: "Berth takes the first GPUs that fit. You can change the residency or the "
    "class, or ask the operators for capacity.",
    EndpointState.PROVISIONING: "Nothing to do: the engine is being started.",
    EndpointState.READY: "Call it with an inference key of its project.",
    EndpointState.UPDATING: "Nothing to do: the change is being carried out. Its rollout shows how far it is; you can "
    "promote it now or roll it back there.",
    EndpointState.UPDATE_FAILED: "It serves as before the change. Read in its rollout what was worse, then try the "
    "change again, order another one, or dismiss the failure.",
    EndpointState.DEGRADED: "It serves with fewer replicas than ordered; Berth is bringing them back.",
    EndpointState.PAUSED: "It holds no GPUs and costs nothing. Resume it to serve again.",
    EndpointState.SCALED_TO_ZERO: "Call it: the first request wakes it and is held until an engine answers, "
    "unless the reason says what stands in the way. It holds no GPUs and costs nothing meanwhile.",
    EndpointState.UNREACHABLE: "Its cluster does not answer. Engines there may still serve; Berth keeps trying and the "
    "operators see the cluster in their console.",
    EndpointState.FAILED: "Read the reason and the engine's log, then pause and resume it to try again, or delete it.",
    EndpointState.DELETING: "Nothing to do: its GPUs are being released.",
    EndpointState.DELETED: "It is gone; its cost stays on the statement.",
}


#: Reasons of the condition EngineReady under which an engine does not come up by itself.
FAILING = {str(trouble) for trouble in Trouble} - {Trouble.NONE, Trouble.UNSCHEDULABLE}


def derive(
    *,
    wanted: str,
    conditions: Mapping[str, Known],
    ready: int,
    replicas: int,
    served: bool,
    holds: bool,
    before: int = 0,
    grown_from: int | None = None,
    asleep: bool = False,
    change: Change | None = None,
) -> tuple[str, str]:
    """Give the state and the reason shown with it.

    ``ready`` of ``replicas`` engines answer; ``served`` says whether it was ready before; ``holds`` whether anything
    of it is left on a cluster; ``before`` counts engines of the revision that serves until this one does; ``change``
    is what its rollout tells.
    ``grown_from`` is how many replicas were enough before more were wanted, None where none are on their way.
    ``asleep``: none is wanted until a request comes.
    """
    kind = Condition.Type
    placed = conditions.get(kind.PLACED, UNKNOWN)
    provisioned = conditions.get(kind.PROVISIONED, UNKNOWN)
    engine = conditions.get(kind.ENGINE_READY, UNKNOWN)
    routed = conditions.get(kind.ROUTED, UNKNOWN)
    reachable = conditions.get(kind.REACHABLE, UNKNOWN)
    approved = conditions.get(kind.APPROVED, UNKNOWN)

    if wanted == Wanted.DELETED:
        return EndpointState.DELETING, reachable.message if _is_false(
            reachable
        ) else "Its engines are being stopped."
    if wanted == Wanted.PAUSED:
        if holds:
            return EndpointState.UPDATING, "Its engines are being stopped."
        if _is_false(placed) and placed.reason in (BUDGET_SPENT, POLICY_REFUSED):
            return EndpointState.PAUSED, placed.message
        return EndpointState.PAUSED, "Paused; it holds no GPUs."
    if _is_false(approved):
        return EndpointState.WAITING_FOR_APPROVAL, approved.message
    if _is_false(placed):
        state = EndpointState.WAITING_FOR_CAPACITY if placed.reason in _WAITING else EndpointState.FAILED
        return state, placed.message
    if change is not None and change.goes_on and (ready or not change.serves):
        return EndpointState.UPDATING, change.goes_on
    if before:
        refused = _is_false(provisioned) and provisioned.reason == "Refused"
        news = next(
            condition.message
            for condition, says in ((reachable, _is_false(reachable)), (provisioned, refused), (engine, True))
            if says
        )
        return EndpointState.UPDATING, f"The revision before it serves until this one does. {news}".strip()
    if asleep:
        scaling = conditions.get(kind.SCALING, UNKNOWN)
        text = scaling.message if _is_false(scaling) else engine.message
        return EndpointState.SCALED_TO_ZERO, text or ASLEEP
    if _is_false(reachable):
        return EndpointState.UNREACHABLE, reachable.message
    if _is_false(provisioned) and provisioned.reason == "Refused":
        return EndpointState.FAILED, provisioned.message
    if ready == 0 and engine.reason in FAILING:
        return EndpointState.FAILED, engine.message
    growing = grown_from is not None and grown_from <= ready < replicas
    if growing and not ready:
        return (
            EndpointState.PROVISIONING,
            engine.message or "A request woke it; its engines are being started.",
        )
    if ready and routed.status == Condition.Status.TRUE:
        if growing:
            more = f"{ready} of {replicas} replicas are ready; the others are being started."
            return EndpointState.UPDATING, more
        if ready < replicas:
            return (
                EndpointState.DEGRADED,
                f"{ready} of {replicas} replicas are ready. {engine.message}".strip(),
            )
        told = f"{ready} of {replicas} replicas are ready."
        if change is not None and change.undone:
            return EndpointState.UPDATE_FAILED, change.undone
        return EndpointState.READY, f"{told} {change.waits}" if change is not None and change.waits else told
    if ready:
        return EndpointState.PROVISIONING, routed.message
    if served:
        return EndpointState.DEGRADED, engine.message or "No replica is ready."
    return (
        EndpointState.PROVISIONING,
        engine.message or provisioned.message or "Its engines are being started.",
    )


def _is_false(condition: Known) -> bool:
    return condition.status == Condition.Status.FALSE
