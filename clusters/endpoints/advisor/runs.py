"""The advisor: plan the whole fleet anew, and propose what of it is worth moving."""

from __future__ import annotations

import functools
import logging
import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from celery import current_app
from celery.exceptions import OperationalError
from django.db import transaction
from django.utils import timezone

from clusters.endpoints.advisor.drafts import Draft, draft, figures, risks, worth_proposing
from clusters.endpoints.advisor.fleet import Fleet, Place, Subject, read_fleet
from clusters.endpoints.advisor.solving import Outcome, replan
from clusters.models import AdviceMove, AdvicePolicy, AdviceRun, LoadObservation
from tenants import scope
from tenants.errors import Conflict
from tenants.locks import Lock, claimed, held

log = logging.getLogger(__name__)

ADVISE: Final = "clusters.endpoints.tasks.advise"
#: Runs of which the moves are kept in full; of older ones the totals are.
_LONGEST_REASON: Final = 500


def advice_run_start(*, actor: str, automatic: bool = False) -> AdviceRun:
    """Have the fleet planned anew by a worker.

    Raises:
        Conflict: a run is under way already.
    """
    with held(Lock.ADVICE_RUNS, wait=True), scope.platform("start a re-plan of the fleet"):
        under_way = AdviceRun.objects.filter(
            state__in=[AdviceRun.State.WAITING, AdviceRun.State.RUNNING]
        ).first()
        if under_way is not None:
            raise Conflict("The fleet is being planned already; wait for the result.")
        run = AdviceRun.objects.create(started_by=actor[:120], automatic=automatic)
        transaction.on_commit(functools.partial(enqueue, str(run.id)))
    return run


def enqueue(run_id: str) -> None:
    """Enqueue a run. A broker that is away costs only time: the sweep finds the waiting row."""
    try:
        current_app.send_task(ADVISE, args=[run_id], retry=False)
    except OperationalError as error:
        log.warning("broker away, re-plan %s waits for the sweep: %s", run_id, error)


def advice_run_execute(run_id: uuid.UUID | str) -> bool:
    """Carry out a waiting run; say whether it was this call that did."""
    with claimed("advice:run") as mine:
        if not mine:
            return False
        now = timezone.now()
        with scope.platform("re-plan the fleet of all tenants"):
            taken = AdviceRun.objects.filter(id=run_id, state=AdviceRun.State.WAITING).update(
                state=AdviceRun.State.RUNNING, started_at=now
            )
            policy = AdvicePolicy.current()
        if not taken:
            return False
        try:
            _propose(run_id, policy)
        except Exception as error:
            log.exception("re-plan %s failed", run_id)
            _end(run_id, AdviceRun.State.FAILED, state_reason=f"{type(error).__name__}: {error}")
            raise
    return True


def advice_runs_revive() -> int:
    """Wake runs whose task was lost, and end those whose worker is gone; return how many that were."""
    with claimed("advice:run") as mine:
        if not mine:
            return 0  # one is at work
        with scope.platform("look for re-plans that nobody works on"):
            lost = list(AdviceRun.objects.filter(state=AdviceRun.State.RUNNING).values_list("id", flat=True))
            waiting = list(
                AdviceRun.objects.filter(state=AdviceRun.State.WAITING).values_list("id", flat=True)
            )
        for run_id in lost:
            _end(run_id, AdviceRun.State.FAILED, state_reason="Its worker was stopped. Start it again.")
    for run_id in waiting:
        enqueue(str(run_id))
    return len(lost) + len(waiting)


def _propose(run_id: uuid.UUID | str, policy: AdvicePolicy) -> None:
    fleet = read_fleet(policy, timezone.now())
    drifting = _drifting(fleet)
    drafts: list[Draft] = []
    outcomes: dict[str, Outcome] = {}
    for currency, outcome in replan(fleet, policy, besides=set(drifting)):
        outcomes[currency] = outcome
        by_id = {each.endpoint.id: each for each in fleet.of_currency(currency)}
        for endpoint_id, place in outcome.places.items():
            subject = by_id[endpoint_id]
            if place is not None and place != subject.current:
                drafts.append(draft(subject, place, fleet))
    drafts += [
        draft(subject, place, fleet, kind=AdviceMove.Kind.REPLAN) for subject, place in drifting.values()
    ]
    ordered, left_out = worth_proposing(drafts, fleet, policy)
    _end(
        run_id,
        AdviceRun.State.FINISHED,
        moves=ordered,
        endpoints=len(fleet.subjects),
        kept=dict(Counter(fleet.kept) + left_out),
        totals=[_totals(currency, fleet, ordered, outcomes.get(currency)) for currency in fleet.currencies],
    )


def _totals(currency: str, fleet: Fleet, ordered: Sequence[Draft], outcome: Outcome | None) -> dict[str, Any]:
    of_currency = [each for each in ordered if each.subject.endpoint.tenant.currency == currency]
    solved = outcome.to_document() if outcome else {}
    summed = figures(fleet.of_currency(currency), of_currency, fleet.pools[currency])
    return {"currency": currency, **summed, **solved}


def _drifting(fleet: Fleet) -> dict[Any, tuple[Subject, Place]]:
    """Give those whose load is not as ordered, with where they would run if planned by what was measured."""
    by_id = {each.endpoint.id: each for each in fleet.subjects if each.current is not None}
    with scope.platform("re-plans that measured load has priced"):
        rows = LoadObservation.objects.filter(drifting_since__isnull=False, endpoint__in=by_id)
        priced = {row.endpoint_id: row.replan for row in rows if row.replan}
    found = {}
    for endpoint_id, document in priced.items():
        subject, after = by_id[endpoint_id], document.get("after")
        pool = fleet.pools[subject.endpoint.tenant.currency].get(after["pool"]) if after else None
        if after is not None and pool is not None and document.get("changes"):
            shape = {name: after[name] for name in ("gpu", "precision", "tp", "pp", "replicas")}
            place = Place(pool=pool.id, cluster=pool.cluster, region=pool.region, **shape)
            found[endpoint_id] = (subject, place)
    return found


@transaction.atomic
def _end(
    run_id: uuid.UUID | str, state: str, *, moves: Sequence[Draft] = (), state_reason: str = "", **values: Any
) -> None:
    with scope.platform("keep the result of a re-plan"):
        now = timezone.now()
        AdviceRun.objects.filter(id=run_id).update(
            state=state, state_reason=state_reason[:_LONGEST_REASON], finished_at=now, **values
        )
        if state != AdviceRun.State.FINISHED:
            return
        AdviceMove.objects.open().exclude(run=run_id).update(
            state=AdviceMove.State.OUTDATED, state_reason="The fleet was planned anew.", state_since=now
        )
        waiting = sum(each.kind == AdviceMove.Kind.PLACE for each in moves)
        AdviceMove.objects.bulk_create(
            _row(run_id, number, each, waiting) for number, each in enumerate(moves, start=1)
        )


def _row(run_id: uuid.UUID | str, number: int, each: Draft, waiting: int) -> AdviceMove:
    subject = each.subject
    return AdviceMove(
        run_id=run_id,
        number=number,
        kind=each.kind,
        step=each.step,
        endpoint=subject.endpoint,
        from_revision=subject.revision,
        before=subject.current.to_document() if subject.current else None,
        after=each.after.to_document(),
        currency=subject.endpoint.tenant.currency,
        cost_before=each.cost_before,
        cost_after=each.cost_after,
        saving=each.saving,
        rollout_cost=each.rollout_cost,
        load_s=each.load_s,
        payback_h=each.payback_h,
        risks=risks(each, waiting),
    )
