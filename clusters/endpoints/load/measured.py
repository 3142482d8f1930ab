"""The measured load of an endpoint as terms of its order, and what people make of it."""

from __future__ import annotations

import dataclasses

from django.db import transaction

from clusters.endpoints.conditions import set_condition
from clusters.endpoints.history import record
from clusters.endpoints.load.learning import LOAD_FIELDS
from clusters.endpoints.planning import OrderTerms
from clusters.endpoints.wishes import for_update
from clusters.models import Condition, Endpoint, LoadObservation
from clusters.planning.problem import LoadProfile
from tenants.errors import Conflict


def figure(value: float) -> str:
    """Write a number of a load in four digits or so."""
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def load_of(endpoint: Endpoint) -> LoadObservation | None:
    """Give what was measured of the endpoint's load, None while there was too little of it."""
    return LoadObservation.objects.filter(endpoint=endpoint).first()


def measured_load(observation: LoadObservation) -> LoadProfile:
    """Give the measured load as the planner takes it."""
    return LoadProfile(**{name: getattr(observation, name) for name in LOAD_FIELDS})


def measured_terms(endpoint: Endpoint) -> OrderTerms:
    """Give the order with the measured load in place of the expected one; the load decides on the replicas.

    Raises:
        Conflict: nothing was measured yet.
    """
    observation = load_of(endpoint)
    if observation is None:
        raise Conflict(f"{endpoint.name} has had too few requests to learn its load from.")
    return with_load(OrderTerms.of(endpoint), measured_load(observation))


def with_load(terms: OrderTerms, load: LoadProfile) -> OrderTerms:
    """Give ``terms`` for another load, which then decides on the replicas."""
    return dataclasses.replace(terms, **dataclasses.asdict(load), profile="", replicas=None)


@transaction.atomic
def endpoint_keep_order(*, endpoint: Endpoint, actor: str, if_generation: int | None = None) -> Endpoint:
    """Keep the endpoint as it was ordered: its measured load is no drift until it changes again.

    Raises:
        Conflict: its load does not drift.
    """
    endpoint = for_update(endpoint, if_generation)
    observation = load_of(endpoint)
    if observation is None or observation.drifting_since is None:
        raise Conflict(f"The load of {endpoint.name} is as ordered: there is nothing to keep.")
    observation.kept = dataclasses.asdict(measured_load(observation))
    _no_drift(observation, "kept")
    set_condition(
        endpoint, Condition.Type.LOAD_DRIFT, Condition.Status.FALSE, "Kept",
        f"It differs from the order; {actor} keeps the order until it changes again.",
    )  # fmt: skip
    record(endpoint, "load-kept", "The order is kept though the measured load differs.", actor=actor)
    return endpoint


def as_ordered(endpoint: Endpoint) -> None:
    """Write that nothing is known to differ from the order, which has just been changed."""
    observation = load_of(endpoint)
    if observation is None or (observation.drifting_since is None and observation.kept is None):
        return
    observation.kept = None
    _no_drift(observation, "kept")
    set_condition(
        endpoint, Condition.Type.LOAD_DRIFT, Condition.Status.FALSE, "PlannedAnew", "The order was changed."
    )


def _no_drift(observation: LoadObservation, *fields: str) -> None:
    observation.drift, observation.drifting_since, observation.replan = [], None, None
    observation.save(update_fields=["drift", "drifting_since", "replan", *fields])
