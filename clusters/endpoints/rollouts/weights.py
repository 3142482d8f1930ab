"""The share of requests that gateways give to each revision of an endpoint."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from typing import Final

from clusters.models import Endpoint, Rollout

ALL: Final = 100


def active_rollouts(endpoints: Collection[Endpoint]) -> dict[uuid.UUID, Rollout]:
    """Give the rollout under way of each endpoint that has one, in one query."""
    return {each.endpoint_id: each for each in Rollout.objects.active().filter(endpoint__in=endpoints)}


def weight_of(revision_id: str, rollout: Rollout | None) -> int:
    """Give a revision's weight: that of its rollout's step for the new one, what is left of 100 for the old one.

    A new revision gets nothing before its canary begins.
    """
    if rollout is None or rollout.revision_id is None:
        return ALL
    if revision_id == str(rollout.revision_id):
        return rollout.weight
    return ALL - rollout.weight
