"""What both revisions of a rollout served, and what each costs: the numbers that the gate judges."""

from __future__ import annotations

import datetime as dt
from typing import Any

from billing.prices import price_book
from billing.rating.prices import MissingPrice, PriceBook
from billing.usage import RevisionUsage, revision_usage
from clusters.endpoints.rollouts.judging import Counts, Slot, Verdict, judge
from clusters.endpoints.rollouts.policy import RolloutPolicy
from clusters.endpoints.signals import tried_again
from clusters.models import Endpoint, Revision, Rollout
from tenants import scope


def counted(endpoint: Endpoint, rollout: Rollout) -> dict[str, Any]:
    """Give what both revisions served since the rollout began, as a rollout keeps it."""
    used, again = _usage(endpoint, rollout), tried_again(endpoint)
    revisions = {"old": rollout.before_id, "new": rollout.revision_id}
    return {
        name: _counts(used.get(revision_id), again.get(str(revision_id), 0)).to_document()
        for name, revision_id in revisions.items()
    }


def judged(endpoint: Endpoint, rollout: Rollout, *, now: dt.datetime) -> Verdict:
    """Judge the new revision of a rollout by what both served in its step."""
    began = {name: Counts.from_document(kept) for name, kept in rollout.counted.items()}
    current = {name: Counts.from_document(kept) for name, kept in counted(endpoint, rollout).items()}
    book = price_book(endpoint.tenant.currency, tenant_id=endpoint.tenant_id)
    return judge(
        current["old"].since(began.get("old", Counts())),
        current["new"].since(began.get("new", Counts())),
        RolloutPolicy.from_document(rollout.policy).tolerances,
        old_slot=slot_of(rollout.before, book, now),
        new_slot=slot_of(rollout.revision, book, now) if rollout.revision else None,
    )


def slot_of(revision: Revision, book: PriceBook, now: dt.datetime) -> Slot | None:
    """Give what a place in a revision's batch costs today; None where its GPUs have no price."""
    try:
        price = book.at("gpu_hour", now, gpu_type=revision.gpu_type, region=revision.cluster.region.code)
    except MissingPrice:
        return None
    chosen = revision.plan.get("configuration") or {}
    return Slot(
        price_per_hour=float(price.amount * revision.gpus_per_replica * revision.price_factor),
        places=revision.max_batch_size,
        planned_ttft_p95_ms=chosen.get("ttft_p95_ms"),
        planned_itl_p95_ms=chosen.get("itl_p95_ms"),
        planned_answer_ms=chosen.get("answer_ms"),
    )


def _usage(endpoint: Endpoint, rollout: Rollout) -> dict[Any, RevisionUsage]:
    asked = {
        "endpoint_id": endpoint.id,
        "revision_ids": [each for each in (rollout.before_id, rollout.revision_id) if each],
        "start": rollout.started_at,
    }
    if not endpoint.shared:
        return revision_usage(**asked)
    with scope.platform("what revisions of a shared endpoint served, whoever asked them"):
        return revision_usage(**asked)


def _counts(used: RevisionUsage | None, tried_again: int) -> Counts:
    if used is None:
        return Counts(tried_again=tried_again)
    return Counts(
        tried_again=tried_again,
        completed=used.completed,
        failed=used.failed,
        input_tokens=used.input_tokens,
        output_tokens=used.output_tokens,
        ttft_ms=used.ttft_ms,
        itl_ms=used.itl_ms,
    )
