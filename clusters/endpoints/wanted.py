"""Endpoints that requests ask for while they have no replica."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from django.db import transaction
from django.utils import timezone

from clusters.endpoints.autoscaling.sleeping import scaling_wanted
from clusters.endpoints.snapshot import served_endpoints
from clusters.endpoints.wake import wake
from clusters.models import Gateway, Wanted
from tenants import scope


def wake_wanted(*, gateway: Gateway, endpoint_ids: Iterable[str]) -> int:
    """Make those of ``endpoint_ids`` that ``gateway`` serves due now; return how many.

    Endpoints that are paused, that other regions serve, or that are due anyway are left.
    """
    ids = [found for text in endpoint_ids if (found := _id(text)) is not None]
    now = timezone.now()
    with scope.platform(f"endpoints wanted at gateway {gateway.name}"), transaction.atomic():
        endpoints = served_endpoints(gateway, id__in=ids, wanted=Wanted.RUNNING)
        scaling_wanted(endpoints, now=now)
        sleeping = [each for each in endpoints if each.due_at is None or each.due_at > now]
        for endpoint in sleeping:
            wake(endpoint)
    return len(sleeping)


def _id(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
