"""Watching an endpoint's load: learn it from its own hours, tell when it is not what was ordered, price the answer.

Everything follows from the metered hours, so that whoever looks again finds the same, and nothing is written for
an endpoint of which nothing new is to be said.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from billing.usage import endpoint_load
from clusters.endpoints import placement
from clusters.endpoints.blueprint import SpecUnusable
from clusters.endpoints.conditions import set_condition
from clusters.endpoints.history import record
from clusters.endpoints.load.correction import corrected_by, correction_document, correction_of
from clusters.endpoints.load.drifting import HOUR, QUIET, Drift, find_drift
from clusters.endpoints.load.learning import LOAD_FIELDS, learn_load
from clusters.endpoints.load.measured import figure, load_of, measured_load, with_load
from clusters.endpoints.load.replanning import Replan, replan_find
from clusters.endpoints.load.running import Running
from clusters.endpoints.planning import Market, OrderTerms
from clusters.inventory.qualification import planning_model
from clusters.models import Condition, Endpoint, LoadObservation, Revision, Wanted
from clusters.planning.plans import price_text
from clusters.planning.problem import LoadProfile
from tenants.errors import BerthError

#: How far back is looked: a week has the quiet days, too.
WINDOW: Final = dt.timedelta(days=7)

#: Segments of an hour that has ended may still be on their way from a gateway, and the rollups a moment behind.
SETTLED: Final = dt.timedelta(minutes=10)

#: What a measured number has to change by to be news: below, a plan comes out the same.
NEWS: Final = 0.1
NEWS_OF_A_SHARE: Final = 0.05

#: When what is known is written anew although it reads the same, so that it never looks older than a day.
STALE: Final = dt.timedelta(hours=24)

#: How long the price of a re-plan is shown before it is asked for again: free GPUs and prices move.
PRICED: Final = dt.timedelta(hours=6)


@transaction.atomic
def load_observe(*, endpoint: Endpoint, now: dt.datetime | None = None) -> bool:
    """Look at an endpoint's hours and write what is news of them; return whether anything was.

    Sets or clears the condition LoadDrift and, while it drifts, prices what planning anew would come to. Paused
    endpoints, and those that never served, have no load to judge.
    """
    now = now or timezone.now()
    until = (now - SETTLED).replace(minute=0, second=0, microsecond=0)
    revision = placement.current_revision(endpoint)
    if endpoint.wanted != Wanted.RUNNING or endpoint.ready_at is None or revision is None:
        return False
    held, terms = load_of(endpoint), OrderTerms.of(endpoint)
    judge = functools.partial(
        find_drift,
        _accepted(terms, held),
        until=until,
        served_since=max(endpoint.ready_at, revision.created_at),
        before=_drift_of(held),
    )
    if held is not None and _is_settled(held, until):
        # A week's hours take the longest to read, and a day's tell that nothing drifts.
        last_day = endpoint_load(endpoint_id=endpoint.id, start=until - QUIET, end=until)
        if judge(last_day) is None:
            return False
    hours = endpoint_load(endpoint_id=endpoint.id, start=until - WINDOW, end=until)
    drift = judge(hours)
    since = _learn_from(drift, until, endpoint.ready_at)
    of_window = [hour for hour in hours if hour.bucket >= since]
    load = learn_load(of_window, idle=terms.load if drift and drift.fallen else None)
    if load is None:
        return False
    correction = correction_of(endpoint, revision, hours, until=until)
    seen = LoadObservation(
        endpoint=endpoint,
        since=since,
        until=until,
        hours=len(of_window),
        requests=sum(hour.completed for hour in of_window),
        drift=_parts(terms.load, load, drift),
        drifting_since=drift.since if drift else None,
        kept=held.kept if held else None,
        itl_factor=correction.itl.value,
        ttft_factor=correction.ttft.value,
        correction=correction_document(correction),
        replan=held.replan if held and drift else None,
        **dataclasses.asdict(load),
    )
    news = held is None or _is_news(held, seen)
    if drift and (news or held is None or _price_is_old(held, now)):
        seen.replan = price_replan(endpoint, terms, seen, now)
        news = True
    if not news or not _unchanged(endpoint):
        return False
    _write(held, seen)
    _tell(endpoint, seen)
    return True


def price_replan(
    endpoint: Endpoint, terms: OrderTerms, seen: LoadObservation, now: dt.datetime
) -> dict[str, Any]:
    """Say what planning the endpoint anew for its measured load would come to, as it is kept and shown."""
    market = dataclasses.replace(
        Market.read(tenant=endpoint.tenant, besides=endpoint),
        performance=corrected_by(seen) or planning_model(),
    )
    try:
        found = replan_find(endpoint=endpoint, terms=with_load(terms, measured_load(seen)), market=market)
    except BerthError as error:
        return {"status": "invalid", "message": error.message, "computed_at": now.isoformat()}
    return replan_document(found) | {"computed_at": now.isoformat()}


def replan_document(found: Replan) -> dict[str, Any]:
    """Write what planning anew comes to as JSON-ready values; money as decimal strings."""
    chosen, current, after = found.plan.configuration, found.current, found.price_after
    return {
        "status": found.plan.status.value,
        "message": found.plan.message,
        "changes": found.deploys,
        "in_place": found.in_place,
        "price_now": price_text(found.price_now),
        "price_after": None if after is None else price_text(after),
        "now": current
        and {
            "pool": str(current.pool),
            "gpu": current.gpu_type,
            "precision": current.precision,
            "tp": current.tensor_parallel,
            "pp": current.pipeline_parallel,
            "replicas": current.replicas,
            "max_batch_size": current.max_batch_size,
            **_expected_now(found, current),
        },
        "after": chosen
        and {
            "pool": chosen.pool,
            "gpu": chosen.gpu,
            "precision": chosen.precision.value,
            "tp": chosen.tp,
            "pp": chosen.pp,
            "replicas": chosen.replicas,
            "max_batch_size": chosen.max_batch_size,
            "ttft_p95_ms": chosen.ttft_p95_ms,
            "itl_p95_ms": chosen.itl_p95_ms,
        },
    }


def _expected_now(found: Replan, current: Revision) -> dict[str, float | None]:
    """Predict the p95s of what runs under the load planned for; None where it cannot keep up."""
    try:
        running = Running.of_revision(current, found.terms.model)
    except SpecUnusable:
        return {"ttft_p95_ms": None, "itl_p95_ms": None}
    expected = running.under(found.terms.load, found.market.performance)
    return {
        "ttft_p95_ms": expected.ttft_p95_ms if expected.stable else None,
        "itl_p95_ms": expected.itl_p95_ms if expected.stable else None,
    }


def _accepted(terms: OrderTerms, held: LoadObservation | None) -> list[LoadProfile]:
    kept = [LoadProfile(**held.kept)] if held and held.kept else []
    return [terms.load, *kept]


def _drift_of(held: LoadObservation | None) -> Drift | None:
    if held is None or held.drifting_since is None:
        return None
    return Drift(
        since=held.drifting_since,
        names=frozenset(part["name"] for part in held.drift),
        fallen=any(part.get("fallen") for part in held.drift),
    )


def _learn_from(drift: Drift | None, until: dt.datetime, ready_at: dt.datetime) -> dt.datetime:
    """Give when the present load began: with the drift, else as far back as is looked or it served."""
    if drift is not None:
        return max(until - QUIET if drift.fallen else drift.since, until - WINDOW)
    return max(ready_at.replace(minute=0, second=0, microsecond=0), until - WINDOW)


def _parts(ordered: LoadProfile, load: LoadProfile, drift: Drift | None) -> list[dict[str, Any]]:
    if drift is None:
        return []
    return [
        {
            "name": name,
            "ordered": getattr(ordered, name),
            "measured": getattr(load, name),
            "fallen": drift.fallen,
        }
        for name in LOAD_FIELDS
        if name in drift.names
    ]


def _is_settled(held: LoadObservation, until: dt.datetime) -> bool:
    """Say whether a day and more was learnt from not long ago, and nothing drifted."""
    whole_day = held.hours >= QUIET // HOUR
    return held.drifting_since is None and whole_day and until - held.until < STALE


def _is_news(held: LoadObservation, seen: LoadObservation) -> bool:
    if seen.until - held.until >= STALE or (held.drifting_since is None) != (seen.drifting_since is None):
        return True
    if {part["name"] for part in held.drift} != {part["name"] for part in seen.drift}:
        return True
    before, after = measured_load(held), measured_load(seen)
    if any(_moved(getattr(before, name), getattr(after, name)) for name in LOAD_FIELDS):
        return True
    return any(
        abs(getattr(held, name) - getattr(seen, name)) > NEWS_OF_A_SHARE
        for name in ("itl_factor", "ttft_factor")
    )


def _moved(before: float, after: float) -> bool:
    apart = abs(before - after)
    return apart > NEWS_OF_A_SHARE and apart > NEWS * max(abs(before), abs(after))


def _price_is_old(held: LoadObservation, now: dt.datetime) -> bool:
    if held.replan is None:
        return True
    return now - dt.datetime.fromisoformat(held.replan["computed_at"]) >= PRICED


def _unchanged(endpoint: Endpoint) -> bool:
    """Hold the endpoint's row, unless somebody changed the order meanwhile: then the next look judges by that."""
    rows = Endpoint.objects.select_for_update(of=("self",))
    return rows.filter(id=endpoint.id, generation=endpoint.generation).exists()


def _write(held: LoadObservation | None, seen: LoadObservation) -> None:
    if held is None:
        seen.save()
        return
    seen.id, seen.tenant_id = held.id, held.tenant_id
    kept = {"id", "created_at", "endpoint", "tenant"}
    names = [field.name for field in LoadObservation._meta.concrete_fields if field.name not in kept]
    seen.save(force_update=True, update_fields=names)


def _tell(endpoint: Endpoint, seen: LoadObservation) -> None:
    known = Condition.objects.filter(endpoint=endpoint, type=Condition.Type.LOAD_DRIFT).first()
    if seen.drifting_since is not None:
        status, reason, message = Condition.Status.TRUE, "OutsideTheOrder", drift_words(seen)
    elif known is None or known.status == Condition.Status.FALSE:
        return
    else:
        status, reason, message = Condition.Status.FALSE, "AsOrdered", "Its load is as ordered."
    begins = known is None or known.status != status
    if set_condition(endpoint, Condition.Type.LOAD_DRIFT, status, reason, message) and begins:
        record(endpoint, "load", message)


def drift_words(observation: LoadObservation) -> str:
    """Say in words what of the load is not as ordered."""
    if not observation.drift:
        return ""
    told = [
        f"{part['name'].replace('_', ' ')} {figure(part['measured'])}, ordered {figure(part['ordered'])}"
        for part in observation.drift
    ]
    return f"Since {observation.drifting_since:%Y-%m-%d %H:%M} UTC: {'; '.join(told)}."
