"""Housekeeping of the tenants room."""

from __future__ import annotations

import datetime as dt

from celery import shared_task
from django.utils import timezone

from tenants import scope
from tenants.models import IdempotencyRecord, OperatorIdempotencyRecord

KEEP_ANSWERS = dt.timedelta(hours=48)


@shared_task
def forget_idempotency_records() -> int:
    """Delete answers older than 48 hours; return how many."""
    with scope.platform("expire idempotency records"):
        old = {"created_at__lt": timezone.now() - KEEP_ANSWERS}
        count, _ = IdempotencyRecord.objects.filter(**old).delete()
        operators, _ = OperatorIdempotencyRecord.objects.filter(**old).delete()
    return count + operators
