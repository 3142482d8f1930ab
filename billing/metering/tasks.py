"""Periodic metering: rollups and partitions."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from billing.metering import partitions, rollups


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
