"""Observed loads for tests, without the hours they would be learnt from."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

from django.utils import timezone

from clusters.endpoints.load.observing import price_replan
from clusters.endpoints.planning import OrderTerms
from clusters.models import Endpoint, LoadObservation, Revision
from tenants import scope


def rush_of(endpoint: Endpoint) -> float:
    """Give a rate that needs three replicas of the endpoint's plan: two of them could give as much at most."""
    with scope.tenant(endpoint.tenant_id):
        planned = Revision.objects.filter(endpoint=endpoint).latest("number").plan["configuration"]
    return round(2 * planned["tokens_per_s"] / planned["replicas"] / endpoint.output_tokens)


def observe(endpoint: Endpoint, *, drifts: bool = True, **load: Any) -> LoadObservation:
    """Write that the endpoint's load is as ordered but for ``load``, and what it would be planned for."""
    now = timezone.now()
    with scope.tenant(endpoint.tenant_id):
        rows = Endpoint.objects.select_related("tenant", "project", "model", "slo_class", "cluster")
        endpoint = rows.get(id=endpoint.id)
        terms = OrderTerms.of(endpoint)
        observation = LoadObservation(
            endpoint=endpoint,
            since=now - dt.timedelta(hours=8),
            until=now,
            hours=8,
            requests=80_000,
            **dataclasses.asdict(terms.load) | load,
        )
        if drifts:
            observation.drifting_since = observation.since
            observation.drift = [
                {"name": name, "ordered": getattr(terms, name), "measured": value, "fallen": False}
                for name, value in load.items()
            ]
            observation.replan = price_replan(endpoint, terms, observation, now)
        observation.save()
    return observation
