"""What the operators' reports need of endpoints: what plans promised, what classes should cost."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from decimal import Decimal

from django.utils import timezone

from billing.reports.keeping import reports_keep
from clusters.models import Revision, SloClass


def planned_rates(revision_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, Decimal]:
    """Give the output tokens per second and GPU that the plans of revisions promise within the targets."""
    found = {}
    rows = Revision.objects.filter(id__in=revision_ids).values_list("id", "plan__configuration")
    for revision_id, chosen in rows:
        gpus = chosen and int(chosen["replicas"]) * int(chosen["tp"]) * int(chosen["pp"])
        if gpus and chosen.get("tokens_per_s"):
            found[revision_id] = Decimal(str(chosen["tokens_per_s"])) / gpus
    return found


def cost_targets() -> dict[str, Decimal]:
    """Give what a million tokens of each class should cost at most, in the platform's currency."""
    rows = SloClass.objects.exclude(cost_target=None).values_list("name", "cost_target")
    return {name: target for name, target in rows if target is not None}


def reports_refresh() -> int:
    """Make the days anew whose reports are not up to date; give how many those are."""
    return reports_keep(now=timezone.now(), planned=planned_rates, wait=False)
