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


#: Reason of the condition Placed of what a budget keeps from running: it waits, or was paused.
BUDGET_SPENT = "BudgetSpent"
#: Reason of the condition Placed of what the tenant's own policy keeps from running.
POLICY_REFUSED = "PolicyRefused"
_WAITING = {"NoCapacity", BUDGET_SPENT}

UNKNOWN = Known(Condition.Status.UNKNOWN, "NotYet", "")

NEXT_ACTION: dict[str, str] = {
    EndpointState.WAITING_FOR_APPROVAL: "Somebody has to agree first; its request says who, and until when. Nothing is "
    "reserved and nothing costs until then.",
    EndpointState.WAITING_FOR_CAPACITY: "Berth takes the first GPUs that fit. You can change the residency or the "
    "class, or ask the operators for capacity.",
    EndpointState.PROVISIONING: "Nothing to do: the engine is being started.",
    EndpointState.READY: "Call it with an inference key of its project.",
    EndpointState.UPDATING: "Nothing to do: it goes on serving while the change is carried out.",
    EndpointState.DEGRADED: "It serves with fewer replicas than ordered; Berth is bringing them back.",
    EndpointState.PAUSED: "It holds no GPUs and costs nothing. Resume it to serve again.",
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
) -> tuple[str, str]:
    """Give the state and the reason shown with it.

    ``ready`` of ``replicas`` engines answer; ``served`` says whether it was ready before; ``holds`` whether anything
    of it is left on a cluster; ``before`` counts engines of the revision that serves until this one does.
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
    if before:
        refused = _is_false(provisioned) and provisioned.reason == "Refused"
        news = next(
            condition.message
            for condition, says in ((reachable, _is_false(reachable)), (provisioned, refused), (engine, True))
            if says
        )
        return EndpointState.UPDATING, f"The revision before it serves until this one does. {news}".strip()
    if _is_false(reachable):
        return EndpointState.UNREACHABLE, reachable.message
    if _is_false(provisioned) and provisioned.reason == "Refused":
        return EndpointState.FAILED, provisioned.message
    if ready == 0 and engine.reason in FAILING:
        return EndpointState.FAILED, engine.message
    if ready and routed.status == Condition.Status.TRUE:
        if ready < replicas:
            return (
                EndpointState.DEGRADED,
                f"{ready} of {replicas} replicas are ready. {engine.message}".strip(),
            )
        return EndpointState.READY, f"{ready} of {replicas} replicas are ready."
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
