"""Periodic work on GPU time."""

from __future__ import annotations

from typing import Final

from celery import shared_task

from billing.gpu_time import hours

#: Hours computed by one run: what is left, after a rate for the past year for instance, is the next one's.
MOST: Final = 240


@shared_task(name="billing.gpu_time.tasks.compute_hours")
def compute_hours() -> int:
    """Compute the hours of GPU time that are due; return how many rows changed."""
    return hours.hours_compute(most=MOST)
