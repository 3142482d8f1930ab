"""Runs: beginning them, what wakes the work on them, and accepting what came of one."""

from __future__ import annotations

import datetime as dt
import functools
import logging
import uuid
from typing import Final

from celery import current_app
from celery.exceptions import OperationalError
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from clusters.endpoints import placement
from clusters.endpoints.evaluations.sets import newest_version, sets_for
from clusters.endpoints.history import record
from clusters.endpoints.wake import wake
from clusters.models import Endpoint, EvaluationRun, EvaluationVersion, Revision, Rollout, Wanted
from tenants.errors import Conflict, Forbidden, Invalid
from tenants.models import User

log = logging.getLogger(__name__)

WORK: Final = "clusters.endpoints.tasks.evaluate"


@transaction.atomic
def run_begin(
    *,
    endpoint: Endpoint,
    revision: Revision,
    version: EvaluationVersion,
    before: Revision | None = None,
    asked_as: str = "",
) -> EvaluationRun:
    """Have a revision asked the prompts of a version; gives the run that is under way for the two if there is one.

    ``before`` is compared with where the set wants that; without it the run demands only a share of the weights,
    where the set demands one. ``asked_as`` is empty where a rollout wants it.

    Raises:
        Conflict: the revision is not run any more, or the endpoint does not run.
    """
    if endpoint.wanted != Wanted.RUNNING:
        raise Conflict(f"{endpoint.name} is {endpoint.wanted}; resume it, and its revision can be asked.")
    if revision.retired_at is not None:
        raise Conflict(f"Revision {revision.number} is not run any more.")
    run, made = EvaluationRun.objects.get_or_create(
        tenant_id=endpoint.tenant_id,
        revision=revision,
        version=version,
        state__in=EvaluationRun.ACTIVE,
        defaults={
            "endpoint": endpoint,
            "before": before if version.compares else None,
            "state": EvaluationRun.State.PENDING,
            "pass_percent": version.pass_percent,
            "most_drop": None if before is None and version.pass_percent is not None else version.most_drop,
            "asked_as": asked_as[:120],
            "due_at": timezone.now(),
        },
    )
    if made:
        record(
            endpoint,
            "evaluating",
            f"Revision {revision.number} is asked the evaluation set {version}.",
            actor=asked_as,
        )
        transaction.on_commit(functools.partial(enqueue, str(run.tenant_id), str(run.id)))
    return run


@transaction.atomic
def runs_begin(
    *,
    endpoint: Endpoint,
    asked_as: str,
    set_id: uuid.UUID | None = None,
    revision: int | None = None,
    against: int | None = None,
) -> list[EvaluationRun]:
    """Have a revision asked one set, or all that hold for the endpoint; numbers name revisions.

    Raises:
        Invalid: there is no such set or revision.
        Conflict: there is no set for it at all, a revision is not run any more, or its rollout asks it itself.
    """
    asked = _revision(endpoint, "revision", revision) if revision else placement.current_revision(endpoint)
    if asked is None:
        raise Conflict(f"{endpoint.name} runs no revision that could be asked.")
    if Rollout.objects.filter(revision=asked, phase__in=Rollout.BEFORE_TRAFFIC).exists():
        # The newest run decides over its traffic: only one that its rollout begins is judged by all that is demanded.
        raise Conflict(
            f"Revision {asked.number} gets no traffic yet: its rollout has it asked what is needed. Name the revision "
            "that serves, or ask again when the rollout has passed its evaluation."
        )
    before = _revision(endpoint, "against", against) if against else None
    if before is not None and before.retired_at is not None:
        raise Conflict(f"Revision {before.number} is not run any more and cannot be compared with.")
    found = sets_for(endpoint, endpoint.model)
    if set_id is not None:
        found = found.filter(id=set_id)
        if not found:
            raise Invalid(
                "There is no such evaluation set for this endpoint or its model.",
                errors={"set_id": ["There is no such set for this endpoint or its model."]},
            )
    if not found:
        raise Conflict(
            f"There is no evaluation set for {endpoint.name} or {endpoint.model.title}; make one first."
        )
    return [
        run_begin(
            endpoint=endpoint, revision=asked, version=newest_version(each), before=before, asked_as=asked_as
        )
        for each in found
    ]


def _revision(endpoint: Endpoint, field: str, number: int) -> Revision:
    found = Revision.objects.filter(endpoint=endpoint, number=number).first()
    if found is None:
        text = f"{endpoint.name} has no revision {number}."
        raise Invalid(text, errors={field: [text]})
    return found


def enqueue(tenant_id: str, run_id: str, delay: float = 0) -> None:
    """Enqueue work on a run. A broker that is away costs only time: the sweeper finds the due row."""
    try:
        current_app.send_task(WORK, args=[tenant_id, run_id], countdown=delay or None, retry=False)
    except OperationalError as error:
        log.warning("broker away, evaluation %s waits for the sweeper: %s", run_id, error)


@transaction.atomic
def run_accept(
    *, run: EvaluationRun, note: str, actor: str, user: User | None, now: dt.datetime | None = None
) -> EvaluationRun:
    """Accept what came of a run; one that was not passed is waived by it, with the reason in ``note``.

    A waived run holds for every later revision of the endpoint with the same model, weights, precisions and context.

    Raises:
        Forbidden: nobody known accepts it.
        Invalid: there is no reason.
        Conflict: it is under way, or was accepted before.
    """
    if user is None:
        raise Forbidden("A person accepts it: use a key that a member of the tenant made, or sign in.")
    if not note.strip():
        raise Invalid("Say why it is accepted.", errors={"note": ["Say why it is accepted."]})
    held = (
        EvaluationRun.objects.select_for_update(of=("self",))
        .select_related("endpoint", "revision", "version__set")
        .get(id=run.id)
    )
    if held.state not in EvaluationRun.ACCEPTABLE or held.decided_at is not None:
        told = "was accepted already" if held.decided_at else f"is {held.get_state_display().lower()}"
        raise Conflict(f"This evaluation {told}.")
    if held.state != EvaluationRun.State.PASSED:
        held.state = EvaluationRun.State.WAIVED
    held.decided_by, held.decided_as, held.decided_at = user, actor[:120], now or timezone.now()
    held.note = note.strip()[:300]
    held.save(update_fields=["state", "decided_by", "decided_as", "decided_at", "note"])
    told = "accepted" if held.state == EvaluationRun.State.PASSED else "waived"
    record(
        held.endpoint,
        "evaluated",
        f"The evaluation of revision {held.revision.number} by {held.version} was {told}: {held.note}",
        actor=actor,
    )
    wake(held.endpoint)
    return held


def run_list(endpoint: Endpoint | None = None) -> QuerySet[EvaluationRun]:
    """Give the runs of the open scope, newest first."""
    rows = EvaluationRun.objects.select_related(
        "endpoint__project", "revision", "before", "version__set"
    ).order_by("-id")
    rows = rows.defer(
        "sealed", "version__sealed", "revision__plan", "revision__spec", "before__plan", "before__spec"
    )
    return rows if endpoint is None else rows.filter(endpoint=endpoint)
