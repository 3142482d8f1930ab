"""Whether a revision may get traffic: which changes want an evaluation, and what came of it."""

from __future__ import annotations

import dataclasses
import enum
import uuid
from collections.abc import Sequence
from typing import Any, Final

from django.db.models import F

from clusters.endpoints.blueprint import SpecUnusable, kept_spec
from clusters.endpoints.evaluations.runs import run_begin
from clusters.endpoints.evaluations.sets import newest_version, sets_for
from clusters.endpoints.evaluations.traits import UNKNOWN, changed_quality, quality_of
from clusters.models import CatalogModel, Endpoint, EvaluationRun, EvaluationSet, Revision, Rollout

_LOST: Final = (EvaluationRun.State.FAILED, EvaluationRun.State.ERROR)


class Evaluated(enum.StrEnum):
    """How the evaluation of a new revision stands."""

    NOT_NEEDED = "not-needed"
    PENDING = "pending"
    PASSED = "passed"
    FAILED = "failed"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """How the evaluation stands: ``reason`` for people, ``runs`` are the ids of those that were looked at."""

    state: Evaluated
    reason: str = ""
    runs: tuple[uuid.UUID, ...] = ()


def evaluation_verdict(rollout: Rollout) -> Verdict:
    """Say whether the new revision may get traffic; begins the runs that this wants. Call it in the tenant's scope.

    It may be asked again and again: a run is begun once for each revision and set, and the endpoint is woken when one
    is over. Where a change wants an evaluation and no set is there, the class decides.
    """
    endpoint, revision, before = rollout.endpoint, rollout.revision, rollout.before
    wants = evaluation_reasons(rollout)
    if revision is None or not wants:
        return Verdict(Evaluated.NOT_NEEDED)
    model = _model_of(revision, endpoint)
    sets = list(sets_for(endpoint, model))
    if not sets:
        return _without_sets(endpoint, model, wants)
    runs = {found.id: _run(found, endpoint, revision, before) for found in sets}
    failed = [run for run in runs.values() if run.state in _LOST]
    ids = tuple(run.id for run in runs.values())
    if failed:
        told = " ".join(f"{run.version.set.name}: {run.message}" for run in failed)
        return Verdict(Evaluated.FAILED, f"The evaluation was not passed. {told}", ids)
    waiting = [run for run in runs.values() if run.state in EvaluationRun.ACTIVE]
    if waiting:
        asked = sum(len(run.results) for run in waiting)
        prompts = sum(run.version.prompts for run in waiting)
        hindered = next((f" {run.message}" for run in waiting if run.message), "")
        return Verdict(Evaluated.PENDING, f"{asked} of {prompts} prompts were asked.{hindered}", ids)
    return Verdict(Evaluated.PASSED, "; ".join(_passed(run, revision) for run in runs.values()), ids)


def evaluation_reasons(rollout: Rollout) -> list[str]:
    """Give what changes that answers may depend on; nothing where a revision runs again that was let serve then."""
    if rollout.revision is None or _served_before(rollout.revision):
        return []
    return changed_quality(quality_of(rollout.before), quality_of(rollout.revision))


def _served_before(revision: Revision) -> bool:
    if revision.restored_from is None:
        return False
    earlier = Rollout.objects.filter(endpoint=revision.endpoint_id, revision__number=revision.restored_from)
    return not earlier.exclude(phase=Rollout.Phase.PROMOTED).exists()


def _run(found: EvaluationSet, endpoint: Endpoint, revision: Revision, before: Revision) -> EvaluationRun:
    """Give the newest run of a set that speaks for the revision, begun now if there is none."""
    runs = EvaluationRun.objects.select_related("version__set", "revision").filter(version__set=found)
    run = runs.filter(revision=revision).order_by("-id").first()
    if run is not None and run.state not in _LOST:
        return run
    return (
        _waived(runs, endpoint, revision)
        or run
        or run_begin(endpoint=endpoint, revision=revision, version=newest_version(found), before=before)
    )


def _waived(runs: Any, endpoint: Endpoint, revision: Revision) -> EvaluationRun | None:
    """Give the newest run that somebody waived of a revision that answers as this one would, by prompts that hold."""
    quality = quality_of(revision)
    waived = runs.filter(
        endpoint=endpoint, state=EvaluationRun.State.WAIVED, version__number=F("version__set__version")
    )
    if UNKNOWN in quality.values():
        return None
    return next((run for run in waived.order_by("-id") if quality_of(run.revision) == quality), None)


def _passed(run: EvaluationRun, revision: Revision) -> str:
    name = run.version.set.name
    if run.state == EvaluationRun.State.WAIVED:
        of = "" if run.revision_id == revision.id else f" on revision {run.revision.number}"
        return f"{name}: waived by {run.decided_as}{of}"
    return f"{name}: {run.score} %"


def _without_sets(endpoint: Endpoint, model: CatalogModel, wants: Sequence[str]) -> Verdict:
    what = f"No evaluation set for {model.title} or {endpoint.name}, though the change is {', '.join(wants)}."
    if not endpoint.slo_class.needs_evaluation:
        return Verdict(Evaluated.NOT_NEEDED, what)
    return Verdict(
        Evaluated.FAILED,
        f"{what} The class {endpoint.slo_class.title} wants one: make a set for the endpoint, then change it again.",
    )


def _model_of(revision: Revision, endpoint: Endpoint) -> CatalogModel:
    """Give the model that a revision serves: its spec names it, for an endpoint may get another."""
    try:
        name = kept_spec(revision).model
    except SpecUnusable:
        return endpoint.model
    return CatalogModel.objects.filter(name=name).first() or endpoint.model
