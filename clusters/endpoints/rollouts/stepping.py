"""One look at the rollout of an endpoint: what of it can go on goes on, each step in one transaction.

Its row is the truth: whoever is killed between two steps leaves a row from which the next look goes on.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator
from typing import Final

from clusters.endpoints.evaluations.gate import Evaluated, evaluation_verdict
from clusters.endpoints.history import record
from clusters.endpoints.placement import retire_revisions
from clusters.endpoints.reconcile.work import Work
from clusters.endpoints.rollouts import judging
from clusters.endpoints.rollouts.closing import (
    rollout_of,
    rollout_promote,
    rollout_undo,
    rollout_withdraw,
)
from clusters.endpoints.rollouts.judging import Finding
from clusters.endpoints.rollouts.measuring import counted, judged
from clusters.endpoints.rollouts.outage import length
from clusters.endpoints.rollouts.policy import RolloutPolicy
from clusters.endpoints.rollouts.room import has_room, make_room
from clusters.endpoints.states import FAILING
from clusters.endpoints.wishes import bump, tenant_for_update
from clusters.models import Condition, Endpoint, OnLittleTraffic, Revision, Rollout, RolloutWay
from clusters.specs import Trouble
from tenants import scope
from tenants.announcements import announce

Phase = Rollout.Phase

LOOK_AGAIN_S: Final = 5.0
WAITING_S: Final = 60.0
#: Reasons of the condition EngineReady that pass by themselves: such an engine is being replaced.
_PASSING: Final = {str(Trouble.NODE)}


def advance(work: Work, rollout: Rollout) -> None:
    """Take the rollout of an endpoint as far as it can go now."""
    with _held(work, rollout) as held:
        if held is None:
            work.soon(0)
            return
        endpoint, rollout = held
        now, policy = work.now, RolloutPolicy.from_document(rollout.policy)
        if _nothing_is_left(rollout):
            why = "What ran before is gone: its cluster was lost."
            bump(endpoint, *rollout_withdraw(endpoint, why=why, now=now))
            work.soon(0)
        elif _was_taken_away(rollout):
            _undo(work, endpoint, rollout, Phase.FAILED, "Its revision is gone: its cluster was lost.")
        elif rollout.phase == Phase.WAITING and rollout.way == RolloutWay.REPLACE:
            _wait_for_window(work, endpoint, rollout, policy, now)
        elif rollout.phase == Phase.WAITING:
            _wait_for_room(work, endpoint, rollout, policy, now)
        elif rollout.revision_id is None:
            work.soon(LOOK_AGAIN_S)  # what it replaces still lets go of its GPUs
        elif rollout.phase == Phase.STARTING:
            _start(work, endpoint, rollout, policy, now)
        elif rollout.phase == Phase.EVALUATING:
            _evaluate(work, endpoint, rollout, policy, now)
        else:
            _canary(work, endpoint, rollout, policy, now)


@contextlib.contextmanager
def _held(work: Work, rollout: Rollout) -> Iterator[tuple[Endpoint, Rollout] | None]:
    """Hold tenant, endpoint and rollout; give None where somebody changed one of them since the pass began."""
    with scope.tenant(work.endpoint.tenant_id):
        tenant_for_update()
        work.lock()
        endpoint = (
            Endpoint.objects.select_related("tenant", "project", "model", "slo_class", "cluster")
            .filter(id=work.endpoint.id, generation=work.endpoint.generation)
            .first()
        )
        current = rollout_of(work.endpoint)
        same = current is not None and (current.id, current.phase, current.step) == (
            rollout.id, rollout.phase, rollout.step,
        )  # fmt: skip
        if endpoint is None or current is None or not same:
            yield None
            return
        current.endpoint = endpoint
        yield endpoint, current


def _still_serves(before: Revision) -> bool:
    """Say whether there is anything to compare with: it was not lost with its cluster, and does not sleep."""
    return before.retired_at is None and before.replicas > 0


def _nothing_is_left(rollout: Rollout) -> bool:
    """Say whether there is neither anything to go back to nor anything that is to serve."""
    if rollout.way == RolloutWay.REPLACE or rollout.before.retired_at is None:
        return False
    return rollout.revision is None or rollout.revision.retired_at is not None


def _was_taken_away(rollout: Rollout) -> bool:
    return rollout.revision is not None and rollout.revision.retired_at is not None


def _wait_for_window(
    work: Work, endpoint: Endpoint, rollout: Rollout, policy: RolloutPolicy, now: dt.datetime
) -> None:
    opens, sleeps = policy.opens_at(now), rollout.before.replicas == 0
    if opens > now and not sleeps:
        work.soon(min(WAITING_S, (opens - now).total_seconds()))
        return
    retire_revisions(endpoint, Revision.objects.filter(id=rollout.before_id))
    _enter(rollout, Phase.STARTING, now, f"Revision {rollout.before.number} is stopped to make room.")
    why = "Nothing serves that would be interrupted" if sleeps else "The window is open"
    record(endpoint, "rollout", f"{why}: revision {rollout.before.number} is stopped to make room.")
    announce()
    work.soon(0)


def _wait_for_room(
    work: Work, endpoint: Endpoint, rollout: Rollout, policy: RolloutPolicy, now: dt.datetime
) -> None:
    reason = make_room(endpoint, rollout)
    if reason:
        _undo(work, endpoint, rollout, Phase.FAILED, reason)
    elif rollout.revision is not None:
        _enter(rollout, Phase.STARTING, now, f"Revision {rollout.revision.number} is starting.")
        work.soon(0)
    elif (now - rollout.phase_since).total_seconds() > policy.start_s:
        _undo(work, endpoint, rollout, Phase.FAILED, f"No room was made within {length(policy.start_s)}.")
    else:
        work.soon(LOOK_AGAIN_S)


def _start(work: Work, endpoint: Endpoint, rollout: Rollout, policy: RolloutPolicy, now: dt.datetime) -> None:
    trouble = _trouble(endpoint)
    if trouble:
        _undo(work, endpoint, rollout, Phase.FAILED, f"Its engines do not come up: {trouble}")
    elif serves(endpoint):
        _enter(rollout, Phase.EVALUATING, now, "")
        _evaluate(work, endpoint, rollout, policy, now)
    elif (now - rollout.phase_since).total_seconds() > policy.start_s:
        _undo(
            work,
            endpoint,
            rollout,
            Phase.FAILED,
            f"Its engines did not serve within {length(policy.start_s)}.",
        )
    else:
        work.soon(LOOK_AGAIN_S)


def _evaluate(
    work: Work, endpoint: Endpoint, rollout: Rollout, policy: RolloutPolicy, now: dt.datetime
) -> None:
    found = evaluation_verdict(rollout)
    if found.state is Evaluated.PENDING:
        _say(rollout, found.reason)
        work.soon(LOOK_AGAIN_S)
        return
    if found.state is Evaluated.FAILED:
        _undo(work, endpoint, rollout, Phase.FAILED, found.reason)
        return
    if found.reason:
        record(endpoint, "rollout", f"The new revision and its evaluation: {found.reason}")
    if not policy.steps or rollout.way == RolloutWay.REPLACE or not _still_serves(rollout.before):
        _promote(
            work, endpoint, rollout, now, "The class has no canary." if not policy.steps else "It serves."
        )
    else:
        _enter(rollout, Phase.CANARY, now, found.reason)
        _step(work, endpoint, rollout, policy, 0, now)


def _canary(
    work: Work, endpoint: Endpoint, rollout: Rollout, policy: RolloutPolicy, now: dt.datetime
) -> None:
    trouble = _trouble(endpoint)
    if trouble:
        _undo(work, endpoint, rollout, Phase.FAILED, f"Its engines failed in the canary: {trouble}")
        return
    if rollout.before.retired_at is not None:
        _promote(
            work, endpoint, rollout, now, f"Revision {rollout.before.number} is gone: its cluster was lost."
        )
        return
    work.soon(LOOK_AGAIN_S)
    found = judged(endpoint, rollout, now=now)
    document = found.to_document()
    if document != rollout.verdict:
        rollout.verdict = document
        rollout.save(update_fields=["verdict"])
    since = (now - (rollout.step_since or now)).total_seconds()
    if found.finding is Finding.WORSE:
        _undo(work, endpoint, rollout, Phase.ROLLED_BACK, found.why)
        return
    little = found.finding is Finding.TOO_FEW
    if little and since < policy.patience_s:
        _say(rollout, _needs(found, policy, rollout.weight))
    elif little and policy.little_traffic == OnLittleTraffic.HOLD:
        _say(rollout, f"It is held: too few requests to tell. {_needs(found, policy, rollout.weight)}")
    elif since >= policy.step_s:
        _next(work, endpoint, rollout, policy, now, little=little)
    else:
        _say(rollout, f"As good as the revision before it so far; the step takes {length(policy.step_s)}.")


def _next(
    work: Work, endpoint: Endpoint, rollout: Rollout, policy: RolloutPolicy, now: dt.datetime, *, little: bool
) -> None:
    further = rollout.step + 1
    if further >= len(policy.steps):
        why = "Too few requests came to tell." if little else "It is as good as the revision before it."
        _promote(work, endpoint, rollout, now, why)
    elif not has_room(endpoint, rollout, policy.steps[further]):
        _say(rollout, "It waits for replicas of the revision before it to make room.")
    elif serves(endpoint):
        _step(work, endpoint, rollout, policy, further, now)


def _step(
    work: Work, endpoint: Endpoint, rollout: Rollout, policy: RolloutPolicy, step: int, now: dt.datetime
) -> None:
    rollout.step, rollout.step_since, rollout.weight = step, now, policy.steps[step]
    rollout.counted, rollout.verdict, rollout.reason = counted(endpoint, rollout), {}, ""
    rollout.save(update_fields=["step", "step_since", "weight", "counted", "verdict", "reason"])
    assert rollout.revision is not None
    record(
        endpoint,
        "canary",
        f"Revision {rollout.revision.number} gets {rollout.weight} % of the requests "
        f"(step {step + 1} of {len(policy.steps)}).",
    )
    announce()
    work.soon(LOOK_AGAIN_S)


def _promote(work: Work, endpoint: Endpoint, rollout: Rollout, now: dt.datetime, why: str) -> None:
    rollout_promote(endpoint, rollout, now=now, why=why)
    work.leftovers += work.predecessors
    work.predecessors, work.rollout = [], None
    work.soon(0)


def _undo(work: Work, endpoint: Endpoint, rollout: Rollout, phase: str, why: str) -> None:
    rollout_undo(endpoint, rollout, phase=phase, why=why, now=work.now)
    work.soon(0)


def _enter(rollout: Rollout, phase: str, now: dt.datetime, reason: str) -> None:
    rollout.phase, rollout.phase_since, rollout.reason = phase, now, reason
    rollout.save(update_fields=["phase", "phase_since", "reason"])


def _say(rollout: Rollout, reason: str) -> None:
    if rollout.reason != reason[:1000]:
        rollout.reason = reason[:1000]
        rollout.save(update_fields=["reason"])


def _trouble(endpoint: Endpoint) -> str:
    """Say why the new engines do not come up by themselves, if they do not."""
    conditions = {each.type: each for each in Condition.objects.filter(endpoint=endpoint)}
    engine, provisioned = (
        conditions.get(Condition.Type.ENGINE_READY),
        conditions.get(Condition.Type.PROVISIONED),
    )
    if provisioned is not None and (provisioned.status, provisioned.reason) == (
        Condition.Status.FALSE, "Refused",
    ):  # fmt: skip
        return provisioned.message
    if engine is not None and engine.status == Condition.Status.FALSE and engine.reason in FAILING - _PASSING:
        return engine.message
    return ""


def serves(endpoint: Endpoint) -> bool:
    """Say whether every engine of the newest revision answers and gateways route to it."""
    served = Condition.objects.filter(
        endpoint=endpoint,
        type__in=(Condition.Type.ENGINE_READY, Condition.Type.ROUTED),
        status=Condition.Status.TRUE,
    )
    return served.count() == 2


def _needs(found: judging.Verdict, policy: RolloutPolicy, weight: int) -> str:
    new, old = found.new_requests, found.old_requests
    told = f"{new} requests of {policy.requests} that are enough to tell"
    if old < policy.requests:
        return f"{told}, {old} at the revision before it."
    if judging.wilson(new, new + old, judging.CERTAIN)[1] < weight / 200:
        return (
            f"{told}. Of {new + old} requests its share of {weight} % would be {(new + old) * weight // 100}: the "
            "others went to the revision before it, because its engines were full or could not be reached."
        )
    return f"{told}."
