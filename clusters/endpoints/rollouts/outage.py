"""How long engines take until they answer and are let serve: what a change in place is expected to cost in time."""

from __future__ import annotations

import dataclasses
import datetime as dt
import statistics
from typing import Final

from clusters.endpoints.evaluations.sets import newest_version, sets_for
from clusters.inventory.tuning import tuning_of
from clusters.models import CatalogModel, Endpoint, EvaluationRun, Replica
from tenants import scope

#: So many of the newest starts are looked at.
MOST: Final = 50
#: What a prompt of an evaluation set takes that was not asked yet.
PROMPT_S: Final = 5.0
_ASKED: Final = (EvaluationRun.State.PASSED, EvaluationRun.State.FAILED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outage:
    """For how long nothing serves, in seconds, and from what that is known."""

    seconds: float
    source: str


def expected_outage(
    endpoint: Endpoint, *, model: CatalogModel, runtime: str, cluster: str, evaluated: bool
) -> Outage:
    """Say how long an endpoint is not served when it is replaced in place: draining, starting and an evaluation.

    The last is asked where what comes is to be ``evaluated``: it serves once it has passed. Call it in the endpoint's
    scope.
    """
    start = _start(endpoint, model=model.name, runtime=runtime, cluster=cluster)
    asking = _evaluation(endpoint, model) if evaluated else None
    if asking is None:
        return start
    return Outage(
        seconds=round(start.seconds + asking.seconds, 1), source=f"{start.source}; {asking.source}"[:200]
    )


def _start(endpoint: Endpoint, *, model: str, runtime: str, cluster: str) -> Outage:
    """Say how long draining and starting take.

    Starts of the same model and runtime on the same cluster are the best measure, whoever's they were; then those of
    the runtime there. Where nothing was started yet, what the class lets an engine take at most is said.
    """
    tuning = tuning_of(endpoint.slo_class)
    there = {"revision__cluster__name": cluster, "revision__runtime": runtime}
    with scope.platform("how long engines took to start on a cluster, of which only the times are told"):
        for narrow, said in (
            ({**there, "revision__spec__model": model}, f"starts of {model} on {cluster}"),
            (there, f"starts of {runtime} on {cluster}"),
        ):
            rows = Replica.objects.filter(started_at__isnull=False, ready_at__isnull=False, **narrow)
            times = [
                (ready - started).total_seconds()
                for started, ready in rows.order_by("-id").values_list("started_at", "ready_at")[:MOST]
                if ready >= started
            ]
            if times:
                return Outage(
                    seconds=round(statistics.median(times) + tuning.drain_s, 1),
                    source=f"the last {len(times)} {said}, and {tuning.drain_s} s to drain"[:200],
                )
    return Outage(
        seconds=float(tuning.load_s + tuning.drain_s),
        source="what the class lets an engine take at most: none was started there yet",
    )


def _evaluation(endpoint: Endpoint, model: CatalogModel) -> Outage | None:
    """Say how long asking the sets takes, as long for each prompt as the last time; None where there is no set."""
    sets = list(sets_for(endpoint, model))
    if not sets:
        return None
    seconds, guessed = 0.0, False
    for each in sets:
        prompts = newest_version(each).prompts
        last = (
            EvaluationRun.objects.filter(version__set=each, state__in=_ASKED, began_at__isnull=False)
            .order_by("-id")
            .values_list("began_at", "ended_at", "version__prompts")
            .first()
        )
        if last is None:
            seconds, guessed = seconds + prompts * PROMPT_S, True
        else:
            began, ended, asked = last
            seconds += (ended - began).total_seconds() / asked * prompts
    told = f"{length(seconds)} for its evaluation"
    told += f", at {PROMPT_S:.0f} s a prompt" if guessed else ", as the last time"
    return Outage(seconds=seconds, source=told)


def length(seconds: float) -> str:
    """Say a time in words."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{dt.timedelta(seconds=round(seconds))} h"
