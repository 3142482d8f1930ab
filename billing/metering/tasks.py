"""Periodic metering: rollups and partitions."""

from __future__ import annotations

import logging

from celery import shared_task
from django.utils import timezone

from billing.metering import partitions, rollups
from billing.metering.reconciliation import bad_days
from billing.metering.sequences import settled_gaps
from tenants import scope

log = logging.getLogger(__name__)
#: So many days back are compared.
LOOKED_BACK_DAYS = 7


@shared_task(name="billing.metering.tasks.roll_up")
def roll_up() -> int:
    """Count new segments into minutes, hours and days; return how many."""
    return rollups.roll_up(wait=False)


@shared_task(name="billing.metering.tasks.keep_partitions")
def keep_partitions() -> int:
    """Make the day partitions of the coming week; return how many were missing."""
    return partitions.keep_partitions(today=timezone.now().date())


@shared_task(name="billing.metering.tasks.drop_partitions")
def drop_partitions() -> int:
    """Drop the days of usage that retention lets go; return how many."""
    return partitions.drop_partitions(now=timezone.now())


@shared_task(name="billing.metering.tasks.watch")
def watch() -> int:
    """Say in the log what usage is missing or does not reconcile; return how many such matters there are."""
    now = timezone.now()
    with scope.platform("look for missing usage"):
        gaps, days = settled_gaps(now=now), bad_days(now=now, days=LOOKED_BACK_DAYS)
    for gap in gaps:
        log.warning(
            "usage of gateway %s is missing: sequences %d to %d, since %s",
            gap.gateway, gap.first, gap.last, gap.noticed_at,
        )  # fmt: skip
    for day in days:
        log.warning("the usage of %s does not reconcile; see manage.py usage_reconcile --day %s", day, day)
    return len(gaps) + len(days)
