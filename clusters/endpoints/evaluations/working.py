"""Working on a run: prompt after prompt, each written down before the next is asked.

Whoever takes a run up goes on where the last one stopped, however that ended.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import time
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

from django.utils import timezone

from clusters.endpoints.evaluations import scores
from clusters.endpoints.evaluations.asking import Gateway, NotNow, Refused
from clusters.endpoints.evaluations.binding import bound_keys, let_go
from clusters.endpoints.evaluations.checks import Answer, Judged, judge, unanswered
from clusters.endpoints.evaluations.prompts import Prompt
from clusters.endpoints.evaluations.sets import opened
from clusters.endpoints.history import record
from clusters.endpoints.pricing import EndpointBooks, token_prices
from clusters.endpoints.rollouts.terms import as_served
from clusters.endpoints.rollouts.weights import active_rollouts
from clusters.endpoints.selectors import endpoint_urls
from clusters.endpoints.wake import wake
from clusters.models import EvaluationRun, Wanted
from tenants import scope
from tenants.locks import claimed
from tenants.sealing import CannotOpen, KeysAway

#: How long one task works on a run before it lets others have the worker.
SLICE_S: Final = 20.0
#: When a run is taken up again whose worker is gone.
LEASE: Final = dt.timedelta(seconds=30)
#: How long gateways may refuse to answer until the run is given up.
PATIENCE: Final = dt.timedelta(minutes=10)
_MILLION: Final = Decimal(1_000_000)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Job:
    """A run that was taken up: ``done`` of its prompts were asked before."""

    tenant_id: uuid.UUID | str
    run_id: uuid.UUID
    prompts: Sequence[Prompt]
    done: int
    new: Gateway
    before: Gateway | None


def run_work(
    tenant_id: uuid.UUID | str, run_id: uuid.UUID | str, *, clock: Callable[[], float] = time.monotonic
) -> float | None:
    """Ask what is left of a run for a while; gives in how many seconds to go on, None where nothing is left to do."""
    with claimed(f"evaluation:{run_id}") as mine:
        if not mine:
            return None
        try:
            job = _take_up(tenant_id, run_id)
            if job is None:
                return None
            until = clock() + SLICE_S
            for number in range(job.done, len(job.prompts)):
                if number > job.done and clock() >= until:
                    return 0
                if not _keep(job, number, _ask(job, job.prompts[number])):
                    return None
        except NotNow as reason:
            _put_off(tenant_id, run_id, reason)
            return None
        _conclude(tenant_id, run_id)
    return None


def _take_up(tenant_id: uuid.UUID | str, run_id: uuid.UUID | str) -> _Job | None:
    now = timezone.now()
    with scope.tenant(tenant_id):
        run = _held(run_id)
        if run is None:
            return None
        endpoint = run.endpoint
        if run.revision.retired_at is not None or endpoint.wanted != Wanted.RUNNING:
            _end(run, EvaluationRun.State.ERROR, "The revision is not run any more.", now)
            return None
        try:
            prompts = opened(run.version)
            keys = bound_keys(run, now)
        except KeysAway as error:
            raise NotNow(error.message) from error
        except CannotOpen:
            _end(
                run, EvaluationRun.State.ERROR, "The prompts cannot be opened any more; set them again.", now
            )
            return None
        run.state = EvaluationRun.State.RUNNING
        run.began_at = run.began_at or now
        run.due_at = now + LEASE
        run.save(update_fields=["state", "began_at", "due_at"])
        way = {
            "urls": [each.base_url for each in endpoint_urls(endpoint)],
            "model": endpoint.name,
            "timeout_s": endpoint.slo_class.total_timeout_s + 5,
        }
        return _Job(
            tenant_id=tenant_id,
            run_id=run.id,
            prompts=prompts,
            done=len(run.results),
            new=Gateway(key=keys.new, **way),
            before=Gateway(key=keys.before, **way) if keys.before else None,
        )


def _ask(job: _Job, prompt: Prompt) -> dict[str, Any]:
    """Ask both revisions one prompt and give what is kept of it.

    The old one only after the new one: that is what waits at first, and meanwhile nothing is asked in vain.
    """
    answers: list[Answer] = []
    mine: Answer | None = None
    other: Answer | None = None
    new: list[Judged] = []
    old: list[Judged] | None = None
    try:
        mine = job.new.ask(prompt)
    except Refused as refusal:
        new = unanswered(prompt, f"refused: {refusal}")
    else:
        answers.append(mine)
    if job.before is not None:
        try:
            other = job.before.ask(prompt)
        except Refused as refusal:
            old = unanswered(prompt, f"refused: {refusal}")
        else:
            old = judge(prompt, other)
            answers.append(other)
    if mine is not None:
        new = judge(prompt, mine, other=other)
    return {
        "name": prompt.name,
        "checks": [each.to_document() for each in new],
        "before": None if old is None else [each.to_document() for each in old],
        "input_tokens": sum(each.input_tokens for each in answers),
        "output_tokens": sum(each.output_tokens for each in answers),
        "cached_tokens": sum(each.cached_tokens for each in answers),
    }


def _keep(job: _Job, number: int, result: dict[str, Any]) -> bool:
    """Write down what came of a prompt; False where the run is over, or somebody else did."""
    with scope.tenant(job.tenant_id):
        run = _held(job.run_id)
        if run is None or len(run.results) != number:
            return False
        run.results = [*run.results, result]
        run.input_tokens += result["input_tokens"]
        run.output_tokens += result["output_tokens"]
        run.message, run.failing_since = "", None
        run.due_at = timezone.now() + LEASE
        run.save(
            update_fields=["results", "input_tokens", "output_tokens", "message", "failing_since", "due_at"]
        )
        return True


def _put_off(tenant_id: uuid.UUID | str, run_id: uuid.UUID | str, reason: NotNow) -> None:
    now = timezone.now()
    with scope.tenant(tenant_id):
        run = _held(run_id)
        if run is None:
            return
        run.failing_since = run.failing_since or now
        if now - run.failing_since >= PATIENCE:
            minutes = PATIENCE.total_seconds() / 60
            _end(run, EvaluationRun.State.ERROR, f"It was tried for {minutes:.0f} minutes. {reason}", now)
            return
        run.message, run.due_at = str(reason)[:300], now + dt.timedelta(seconds=reason.after_s)
        run.save(update_fields=["message", "due_at", "failing_since"])


def _conclude(tenant_id: uuid.UUID | str, run_id: uuid.UUID | str) -> None:
    with scope.tenant(tenant_id):
        run = _held(run_id)
        if run is None:
            return
        threshold = scores.Threshold(pass_percent=run.pass_percent, most_drop=run.most_drop)
        why = scores.shortfall(threshold, run.results)
        state = EvaluationRun.State.FAILED if why else EvaluationRun.State.PASSED
        _end(run, state, why, timezone.now())


def _held(run_id: uuid.UUID | str) -> EvaluationRun | None:
    """Give a run that is not over, held until the transaction ends."""
    rows = EvaluationRun.objects.active().select_for_update(of=("self",))
    rows = rows.select_related(
        "endpoint__project", "endpoint__tenant", "endpoint__slo_class", "endpoint__model",
        "revision__cluster__region", "before", "version__set",
    )  # fmt: skip
    return rows.filter(id=run_id).first()


def _end(run: EvaluationRun, state: str, message: str, now: dt.datetime) -> None:
    """Write down how a run ended; its keys are revoked, and whoever waits for it looks again."""
    let_go(run)
    run.state, run.message = state, message[:300]
    run.score = scores.points(run.results, "checks").percent
    run.score_before = scores.points(run.results, "before").percent
    run.cost, run.currency = _cost(run, now)
    run.ended_at, run.due_at, run.failing_since = now, None, None
    run.save(
        update_fields=[
            "state", "message", "score", "score_before", "cost", "currency", "ended_at", "due_at", "failing_since",
        ]
    )  # fmt: skip
    told = {
        EvaluationRun.State.PASSED: f"passed with {run.score} %.",
        EvaluationRun.State.FAILED: f"failed. {message}",
    }.get(EvaluationRun.State(state), f"could not be run. {message}")
    record(
        run.endpoint, "evaluated", f"The evaluation of revision {run.revision.number} by {run.version} {told}"
    )
    wake(run.endpoint)


def _cost(run: EvaluationRun, now: dt.datetime) -> tuple[Decimal | None, str]:
    # Gateways meter by the terms of what serves, whichever revision answers.
    endpoint = as_served(run.endpoint, active_rollouts([run.endpoint]).get(run.endpoint_id))
    book = EndpointBooks([endpoint]).of(endpoint)
    prices = token_prices(endpoint, book, now, region=run.revision.cluster.region.code)
    if prices is None:
        return None, ""
    cached = sum(result["cached_tokens"] for result in run.results)
    amount = (
        (run.input_tokens - cached) * Decimal(prices.input)
        + cached * Decimal(prices.cached)
        + run.output_tokens * Decimal(prices.output)
    )
    return amount / _MILLION, prices.currency
