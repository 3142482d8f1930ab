"""Periodic work on statements."""

from __future__ import annotations

import datetime as dt
from typing import Final

from celery import shared_task
from django.utils import timezone

from billing.statements.due import close_due_months, draft_running_months
from tenants import locks

#: A statement in grace is computed again when it is this old: late usage shows within a day.
GRACE_AGE: Final = dt.timedelta(days=1)


@shared_task(name="billing.statements.tasks.close_due")
def close_due() -> int:
    """Move months that are over into grace, close those whose grace is over, and return how many were closed."""
    now = timezone.now()
    with locks.claimed("statements") as mine:
        return close_due_months(now=now, computed_before=now - GRACE_AGE).closed if mine else 0


@shared_task(name="billing.statements.tasks.draft_running")
def draft_running() -> int:
    """Compute the drafts of the running months again and return how many there are."""
    with locks.claimed("statements") as mine:
        return draft_running_months(now=timezone.now()).drafted if mine else 0
