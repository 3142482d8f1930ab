"""Whether a revision may get traffic: which changes want an evaluation, and what came of it."""

from __future__ import annotations

import dataclasses
import enum
import uuid
from collections.abc import Sequence
from typing import Final, Protocol

from django.db.models import F

from clusters.endpoints.blueprint import SpecUnusable, kept_spec
from clusters.endpoints.evaluations.runs import run_begin
from clusters.endpoints.evaluations.sets import newest_version, sets_for
from clusters.models import CatalogModel, Endpoint, EvaluationRun, EvaluationSet, Revision

_LOST: Final = (EvaluationRun.State.FAILED, EvaluationRun.State.ERROR)


class Outcome(enum.StrEnum):
    """What is to become of a change."""

    NOT_NEEDED = "not-needed"
    PENDING = "pending"
    PASSED = "passed"
    FAILED = "failed"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What evaluations say of a change: ``reason`` for people, ``runs`` are the ids of those that were looked at."""

    outcome: Outcome
    reason: str = ""
    runs: tuple[uuid.UUID, ...] = ()


class Change(Protocol):
    """A revision that is to take another's place: what a rollout is."""

    endpoint: Endpoint
    revision: Revision
    before: Revision | None


def evaluation_verdict(rollout: Change) -> Verdict:
    """Say whether the new revision may get traffic; begins the runs that this wants. Call it in the tenant's scope.

    It may be asked again and again: a run is begun once for each revision and set, and the endpoint is woken when one
    is over. Where a change wants an evaluation and no set is there, the class decides.
    """
    endpoint, revision, before = rollout.endpoint, rollout.revision, rollout.before
    wants = reasons(revision, before)
    if not wants:
        return Verdict(Outcome.NOT_NEEDED)
    model = _model_of(revision, endpoint)
    sets = list(sets_for(endpoint, model))
    if not sets:
        return _without_sets(endpoint, model, wants)
    runs = {found.id: _run(found, endpoint, revision, before) for found in sets}
    failed = [run for run in runs.values() if run.state in _LOST]
    ids = tuple(run.id for run in runs.values())
    if failed:
        told = " ".join(f"{run.version.set.name}: {run.message}" for run in failed)
        return Verdict(Outcome.FAILED, f"The evaluation was not passed. {told}", ids)
    waiting = [run for run in runs.values() if run.state in EvaluationRun.ACTIVE]
    if waiting:
        asked = sum(len(run.results) for run in waiting)
        prompts = sum(run.version.prompts for run in waiting)
        hindered = next((f" {run.message}" for run in waiting if run.message), "")
        return Verdict(Outcome.PENDING, f"{asked} of {prompts} prompts were asked.{hindered}", ids)
    return Verdict(Outcome.PASSED, "; ".join(_passed(run, revision) for run in runs.values()), ids)


def reasons(revision: Revision, before: Revision | None) -> list[str]:
    """Say what of a change wants an evaluation; nothing does where there was no revision before."""
    if before is None:
        return []
    new, old = _traits(revision), _traits(before)
    if new is None or old is None:
        return ["another version of Berth wrote one of the two revisions"]
    found = [
        f"{name} {getattr(old, field)} -> {getattr(new, field)}"
        for field, name in _NAMES.items()
        if getattr(new, field) != getattr(old, field)
    ]
    if new.context_tokens > old.context_tokens:
        found.append(f"context cap {old.context_tokens:,} -> {new.context_tokens:,}")
    return found


@dataclasses.dataclass(frozen=True)
class _Traits:
    """What of a revision decides what it answers."""

    model: str
    weights: str
    precision: str
    kv_cache_dtype: str
    context_tokens: int


_NAMES = {
    "model": "model", "weights": "weights", "precision": "weight precision", "kv_cache_dtype": "KV precision",
}  # fmt: skip


def _traits(revision: Revision) -> _Traits | None:
    try:
        spec = kept_spec(revision)
    except SpecUnusable:
        return None
    weights = spec.weights
    return _Traits(
        model=spec.model,
        weights=" ".join(filter(None, (weights.uri, weights.revision, weights.quantize)))
        or weights.kind.value,
        precision=revision.precision,
        kv_cache_dtype=spec.tuning.kv_cache_dtype,
        context_tokens=revision.context_tokens,
    )


def _run(
    found: EvaluationSet, endpoint: Endpoint, revision: Revision, before: Revision | None
) -> EvaluationRun:
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


def _waived(runs, endpoint: Endpoint, revision: Revision) -> EvaluationRun | None:
    """Give the newest run that somebody waived of a revision that answers as this one would, by prompts that hold."""
    traits = _traits(revision)
    waived = runs.filter(
        endpoint=endpoint, state=EvaluationRun.State.WAIVED, version__number=F("version__set__version")
    )
    waived = waived.order_by("-id")
    return next((run for run in waived if traits is not None and _traits(run.revision) == traits), None)


def _passed(run: EvaluationRun, revision: Revision) -> str:
    name = run.version.set.name
    if run.state == EvaluationRun.State.WAIVED:
        of = "" if run.revision_id == revision.id else f" on revision {run.revision.number}"
        return f"{name}: waived by {run.decided_as}{of}"
    return f"{name}: {run.score} %"


def _without_sets(endpoint: Endpoint, model: CatalogModel, wants: Sequence[str]) -> Verdict:
    what = f"No evaluation set for {model.title} or {endpoint.name}, though the change is {', '.join(wants)}."
    if not endpoint.slo_class.needs_evaluation:
        return Verdict(Outcome.NOT_NEEDED, what)
    return Verdict(
        Outcome.FAILED,
        f"{what} The class {endpoint.slo_class.title} wants one: make a set for the endpoint, then change it again.",
    )


def _model_of(revision: Revision, endpoint: Endpoint) -> CatalogModel:
    """Give the model that a revision serves: its spec names it, for an endpoint may get another."""
    try:
        name = kept_spec(revision).model
    except SpecUnusable:
        return endpoint.model
    return CatalogModel.objects.filter(name=name).first() or endpoint.model
