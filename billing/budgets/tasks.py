"""What Celery wakes of budgets. Each looks at what is there now: one that was missed is made up for by the next."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from billing.budgets.forecasting import budgets_forecast_all
from billing.budgets.settling import budgets_settle_all


@shared_task
def settle() -> int:
    """Settle and reserve what the control plane counts; return how many windows run."""
    return budgets_settle_all(now=timezone.now())


@shared_task
def forecast() -> int:
    """Tell of budgets that are expected to pass their limits; return how many were told."""
    return budgets_forecast_all(now=timezone.now())
