"""Qualifying a pool by an endpoint that runs there: what served is what its revision says."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from clusters.endpoints.blueprint import SpecUnusable, kept_spec
from clusters.inventory.qualification import Served, figures_of
from clusters.models import Endpoint, EndpointEvent, NodePool, Revision, ScalingDecision
from tenants.errors import Invalid


def served_by(
    endpoint: Endpoint,
    pool: NodePool,
    *,
    report: Mapping[str, Any],
    target: str = "",
    number: int | None = None,
) -> Served:
    """Give what of an endpoint served on a pool while a report's target was replayed; ``number`` is its revision's.

    Raises:
        Invalid: nothing did, it is not known which revision did or with how many replicas, or it was planned by
            another version; or the report is none.
    """
    figures = figures_of(report, target)
    began = min(each.began_at for each in figures)
    ended = max(each.began_at + dt.timedelta(seconds=each.seconds) for each in figures)
    revision = _revision(endpoint, pool, number)
    if revision.applied_at is None or revision.applied_at > began:
        raise _invalid(
            f"Revision {revision.number} of {endpoint.name} did not run yet when the replay began. Name the revision "
            "that served."
        )
    if revision.retired_at is not None and revision.retired_at < ended:
        raise _invalid(
            f"Revision {revision.number} of {endpoint.name} was replaced before the replay ended. Name the revision "
            "that served."
        )
    _keep_replicas(endpoint, revision, began)
    try:
        spec = kept_spec(revision)
    except SpecUnusable as error:
        raise _invalid(str(error)) from error
    return Served(
        model=endpoint.model,
        runtime=revision.runtime,
        precision=revision.precision,
        tensor_parallel=revision.tensor_parallel,
        pipeline_parallel=revision.pipeline_parallel,
        replicas=revision.replicas,
        max_batch_size=revision.max_batch_size,
        max_num_tokens=spec.tuning.max_num_tokens,
        engine_version=spec.image.engine_version if spec.image else "",
    )


def _revision(endpoint: Endpoint, pool: NodePool, number: int | None) -> Revision:
    revisions = Revision.objects.filter(endpoint=endpoint)
    if number is None:
        wanted = list(revisions.filter(retired_at=None).order_by("number"))
        if len(wanted) > 1 and any(each.pool_id == pool.id for each in wanted):
            numbers = " and ".join(str(each.number) for each in wanted)
            raise _invalid(
                f"{endpoint.name} is being changed: revisions {numbers} serve. Name the one that served.",
                field="revision",
            )
        found = wanted[0] if wanted else None
    else:
        found = revisions.filter(number=number).first()
        if found is None:
            raise _invalid(f"{endpoint.name} has no revision {number}.", field="revision")
    if found is None or found.pool_id != pool.id or not found.replicas:
        raise _invalid(f"{endpoint.name} does not run on {pool}.")
    return found


def _keep_replicas(endpoint: Endpoint, revision: Revision, began: dt.datetime) -> None:
    """Refuse what had other replicas since the replay began: its load was then not shared by those of now."""
    done = ScalingDecision.objects.filter(
        endpoint=endpoint, revision=revision.number, outcome=ScalingDecision.Outcome.DONE, at__gte=began
    )
    by_hand = EndpointEvent.objects.filter(endpoint=endpoint, kind="scaled", created_at__gte=began)
    if done.exists() or by_hand.exists():
        raise _invalid(
            f"The replicas of {endpoint.name} were changed since the replay began. Say by hand what served."
        )


def _invalid(text: str, *, field: str = "endpoint") -> Invalid:
    return Invalid(text, errors={field: [text]})
