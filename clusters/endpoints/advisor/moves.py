"""Carrying out moves that were proposed: decided by operators, begun a few at a time, checked again before each."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterable
from decimal import Decimal
from typing import Any, Final

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from clusters.endpoints import placement
from clusters.endpoints.advisor.relocating import endpoint_relocate, plan_into
from clusters.endpoints.load.measured import measured_terms
from clusters.endpoints.load.replanning import endpoint_replan, replan_find
from clusters.endpoints.planning import Market
from clusters.endpoints.wake import wake
from clusters.endpoints.wishes import tenant_for_update
from clusters.models import (
    AdviceMove,
    AdvicePolicy,
    AdviceRun,
    Endpoint,
    EndpointState,
    Revision,
    Rollout,
    Wanted,
)
from clusters.planning.plans import Plan, PlanStatus, price_text
from tenants import scope
from tenants.errors import BerthError, Conflict, Stale

_LONGEST_REASON: Final = 500
_HERE: Final = (EndpointState.READY, EndpointState.DEGRADED)


class _Outdated(Exception):
    """What a move was proposed for is no longer so; the message says what changed."""


class _NoRoomYet(Exception):
    """Another move has to make room first."""


@transaction.atomic
def moves_accept(
    *, run: AdviceRun, moves: Collection[AdviceMove], actor: str, unasked: bool = False
) -> list[AdviceMove]:
    """Have moves of a run carried out, as many at a time as the policy allows.

    Raises:
        Conflict: one was decided upon before, or another move of its endpoint is under way.
    """
    with scope.platform("decide upon moves of the fleet"):
        rows = list(
            AdviceMove.objects.select_for_update(of=("self",))
            .filter(run=run, id__in=[move.id for move in moves])
            .select_related("endpoint")
            .order_by("step", "number")
        )
        _refuse_decided(rows)
        busy = set(AdviceMove.objects.under_way().values_list("endpoint_id", flat=True))
        if taken := [move.endpoint.name for move in rows if move.endpoint_id in busy]:
            raise Conflict(f"Another move of {', '.join(taken)} is under way.")
        for move in rows:
            move.decided_by, move.begun_unasked = actor[:120], unasked
            _say(move, AdviceMove.State.ACCEPTED, "", "decided_by", "begun_unasked")
    return rows


@transaction.atomic
def moves_dismiss(*, run: AdviceRun, moves: Collection[AdviceMove], actor: str) -> list[AdviceMove]:
    """Decide against moves of a run; those that wait for their turn are taken back.

    Raises:
        Conflict: one is being carried out, or is over.
    """
    with scope.platform("decide upon moves of the fleet"):
        rows = list(
            AdviceMove.objects.select_for_update(of=("self",))
            .filter(run=run, id__in=[move.id for move in moves])
            .select_related("endpoint")
            .order_by("number")
        )
        _refuse_decided(rows, besides=AdviceMove.State.ACCEPTED)
        for move in rows:
            move.decided_by = actor[:120]
            _say(move, AdviceMove.State.DISMISSED, "", "decided_by")
    return rows


def moves_advance(now: dt.datetime | None = None) -> int:
    """Look at every move under way and begin those whose turn it is; return how many changed."""
    now = now or timezone.now()
    with scope.platform("carry out moves of the fleet"):
        rows = list(
            AdviceMove.objects.under_way()
            .select_related("endpoint__tenant", "endpoint__slo_class", "run")
            .order_by("run_id", "step", F("saving").desc(), "number")
        )
        policy = AdvicePolicy.current()
    if not rows:
        return 0
    changed = sum(_watch(move) for move in rows if move.state == AdviceMove.State.APPLYING)
    applying = sum(move.state == AdviceMove.State.APPLYING for move in rows)
    waiting = [move for move in rows if move.state == AdviceMove.State.ACCEPTED]
    for move in waiting:
        if applying >= policy.concurrent_moves:
            break
        if move.begun_unasked and not policy.is_open(now):
            continue  # until the window opens again
        # While another is on its way, or decided upon before this one, room may still come.
        others = applying > 0 or any(
            each.state == AdviceMove.State.ACCEPTED and each.step < move.step for each in waiting
        )
        changed += _begin(move, policy, now, others=others)
        applying += move.state == AdviceMove.State.APPLYING
    return changed


def _refuse_decided(rows: Iterable[AdviceMove], *, besides: str = AdviceMove.State.PROPOSED) -> None:
    open_states = {AdviceMove.State.PROPOSED, besides}
    for move in rows:
        if move.state not in open_states:
            raise Conflict(f"The move of {move.endpoint.name} is {move.get_state_display().lower()} already.")


def _begin(move: AdviceMove, policy: AdvicePolicy, now: dt.datetime, *, others: bool) -> bool:
    """Begin one move if it still stands; say whether anything of it changed."""
    with scope.platform("begin a move of the fleet"):
        held = AdviceMove.objects.select_for_update(of=("self",)).get(id=move.id)
        if held.state != AdviceMove.State.ACCEPTED:  # dismissed a moment ago
            move.state = held.state
            return False
        try:
            with scope.tenant(move.endpoint.tenant_id):
                _BEGIN[AdviceMove.Kind(move.kind)](move, policy)
        except _Outdated as error:
            return _close(move, AdviceMove.State.OUTDATED, str(error))
        except _NoRoomYet as error:
            if not others:
                return _close(move, AdviceMove.State.OUTDATED, str(error))
            return _close(move, AdviceMove.State.ACCEPTED, f"It waits for other moves: {error}")
        except Stale:
            return False  # somebody changed it just now: look again
        except BerthError as error:
            return _close(move, AdviceMove.State.REFUSED, error.message)
        move.begun_at = now
        return _close(move, AdviceMove.State.APPLYING, "", "begun_at", "revision")


def _move(move: AdviceMove, policy: AdvicePolicy) -> None:
    tenant = tenant_for_update()
    endpoint, current = _unchanged(move)
    market = Market.read(tenant=tenant, besides=endpoint, lock=True)
    prices = {pool.id: pool.price_per_gpu_hour for pool in market.pools}
    for pool in (move.after["pool"], str(current.pool)):
        if pool not in prices:
            raise _Outdated(f"{pool} is not for sale any more.")
    plan = plan_into(endpoint, move.after, market)
    chosen = _placed(plan)
    saving = prices[str(current.pool)] * current.replicas * current.gpus_per_replica - chosen.cost_per_hour
    _refuse_dear(move, policy, saving)
    revision = endpoint_relocate(
        endpoint=endpoint,
        plan=plan,
        market=market,
        actor=move.decided_by,
        why=_why(move, saving),
        if_generation=endpoint.generation,
    )
    move.revision = revision.number


def _place(move: AdviceMove, policy: AdvicePolicy) -> None:
    tenant = tenant_for_update()
    endpoint = _fresh(move)
    if placement.current_revision(endpoint) is not None:
        return  # it got its GPUs meanwhile, which is what was wanted
    if endpoint.wanted != Wanted.RUNNING or endpoint.state != EndpointState.WAITING_FOR_CAPACITY:
        raise _Outdated("It does not wait for capacity any more.")
    _placed(plan_into(endpoint, move.after, Market.read(tenant=tenant, besides=endpoint)))
    wake(endpoint)


def _replan(move: AdviceMove, policy: AdvicePolicy) -> None:
    tenant = tenant_for_update()
    endpoint, current = _unchanged(move)
    try:
        terms = measured_terms(endpoint)
    except Conflict as error:
        raise _Outdated(error.message) from error
    market = Market.read(tenant=tenant, besides=endpoint, lock=True)
    found = replan_find(endpoint=endpoint, terms=terms, market=market)
    chosen = _placed(found.plan)
    if not found.deploys:
        raise _Outdated("It runs as its measured load needs by now.")
    prices = {pool.id: pool.price_per_gpu_hour for pool in market.pools}
    held = prices.get(str(current.pool), Decimal(0)) * current.replicas * current.gpus_per_replica
    _refuse_dear(move, policy, held - chosen.cost_per_hour)
    endpoint_replan(
        endpoint=endpoint,
        actor=move.decided_by,
        terms=terms,
        if_generation=endpoint.generation,
        may_ask=False,
    )
    now_wanted = placement.current_revision(endpoint)
    move.revision = now_wanted.number if now_wanted else None


_BEGIN: Final[dict[AdviceMove.Kind, Callable[[AdviceMove, AdvicePolicy], None]]] = {
    AdviceMove.Kind.MOVE: _move,
    AdviceMove.Kind.PLACE: _place,
    AdviceMove.Kind.REPLAN: _replan,
}


def _placed(plan: Plan) -> Any:
    if plan.configuration is not None:
        return plan.configuration
    if plan.status == PlanStatus.NO_CAPACITY:
        raise _NoRoomYet(plan.message)
    if plan.status == PlanStatus.OVER_QUOTA:
        raise Conflict(f"The tenant's quota does not allow it: {plan.message}")
    if plan.status == PlanStatus.POLICY:
        raise Conflict(f"The tenant's policy does not allow it: {plan.message}")
    raise _Outdated(f"It may not run there any more: {plan.message}")


def _fresh(move: AdviceMove) -> Endpoint:
    found = (
        Endpoint.objects.select_related("tenant", "project", "model", "slo_class", "cluster")
        .select_for_update(of=("self",))
        .get(id=move.endpoint_id)
    )
    if found.deleted_at or found.wanted == Wanted.DELETED:
        raise _Outdated("It is being deleted.")
    return found


def _unchanged(move: AdviceMove) -> tuple[Endpoint, Revision]:
    """Give the endpoint and what it runs, if that is still what the move is about."""
    endpoint = _fresh(move)
    if endpoint.wanted != Wanted.RUNNING:
        raise _Outdated("It is paused.")
    if endpoint.cluster_id is not None:
        raise _Outdated("Operators chose its cluster meanwhile.")
    if endpoint.restoring is not None:
        raise _Outdated("An earlier revision of it is being restored.")
    wanted = list(Revision.objects.select_related("pool").filter(endpoint=endpoint, retired_at=None))
    if [revision.number for revision in wanted] != [move.from_revision]:
        raise _Outdated(f"It does not run revision {move.from_revision} alone any more.")
    shape = (str(wanted[0].pool), wanted[0].replicas)
    if shape != (move.before["pool"], move.before["replicas"]):
        raise _Outdated("It was scaled meanwhile.")
    if endpoint.state not in _HERE:
        raise _Outdated(f"It is {endpoint.get_state_display().lower()}.")
    return endpoint, wanted[0]


def _refuse_dear(move: AdviceMove, policy: AdvicePolicy, saving: Decimal) -> None:
    if move.is_costly:  # it was decided upon for the room that it makes
        if saving < move.saving:
            raise _Outdated(f"It would cost {price_text(-saving)} {move.currency} more per hour by now.")
        return
    if saving < policy.least_saving_per_hour or saving <= 0:
        raise _Outdated(f"By now it would save only {price_text(saving)} {move.currency} per hour.")


def _why(move: AdviceMove, saving: Decimal) -> str:
    after = move.after
    shape = f"{after['replicas']} x {after['tp'] * after['pp']} {after['gpu']} in {after['precision']}"
    money = f"saves {price_text(saving)}" if saving > 0 else f"costs {price_text(-saving)} more"
    return f"The advisor moves it to {shape} in {after['pool']}: {money} {move.currency} per hour."


def _watch(move: AdviceMove) -> bool:
    """See how a move that was begun stands; say whether that is news."""
    with scope.tenant(move.endpoint.tenant_id):
        endpoint = Endpoint.objects.select_related("slo_class").get(id=move.endpoint_id)
        wanted = list(
            Revision.objects.filter(endpoint=endpoint, retired_at=None)
            .order_by("number")
            .values_list("number", flat=True)
        )
        if move.kind == AdviceMove.Kind.PLACE:
            return _watch_placing(move, endpoint, wanted)
        if move.revision not in wanted:
            return _close(move, AdviceMove.State.REFUSED, _why_not(move))
        if wanted == [move.revision]:
            return _close(move, AdviceMove.State.APPLIED, "")
    return False  # its rollout goes on, or undoes it


def _watch_placing(move: AdviceMove, endpoint: Endpoint, wanted: list[int]) -> bool:
    if wanted:
        move.revision = wanted[-1]
        return _close(move, AdviceMove.State.APPLIED, "", "revision")
    if endpoint.wanted != Wanted.RUNNING:
        return _close(move, AdviceMove.State.OUTDATED, "It does not wait for capacity any more.")
    return False


def _why_not(move: AdviceMove) -> str:
    """Say why the revision of a move does not run."""
    undone = Rollout.objects.filter(
        endpoint=move.endpoint_id, revision__number=move.revision, phase__in=Rollout.UNDONE
    ).first()
    if undone is None:
        return "It was paused, deleted or changed meanwhile."
    return f"Revision {move.revision} was given up, and what ran before goes on. {undone.reason}"


def _close(move: AdviceMove, state: str, reason: str, *fields: str) -> bool:
    if (move.state, move.state_reason) == (state, reason[:_LONGEST_REASON]) and not fields:
        return False
    with scope.platform("write how a move of the fleet stands"):
        _say(move, state, reason, *fields)
    return True


def _say(move: AdviceMove, state: str, reason: str, *fields: str) -> None:
    if move.state != state:
        move.state_since = timezone.now()
    move.state, move.state_reason = state, reason[:_LONGEST_REASON]
    move.save(update_fields=["state", "state_reason", "state_since", *fields])
