"""Reading rollouts of an endpoint."""

from __future__ import annotations

from django.db.models import QuerySet

from clusters.models import Endpoint, Rollout


def rollout_list(endpoint: Endpoint) -> QuerySet[Rollout]:
    """Give the rollouts of an endpoint with both revisions, newest first; the numbers of each are in it."""
    return Rollout.objects.filter(endpoint=endpoint).select_related("revision", "before").order_by("-id")
