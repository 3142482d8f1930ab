"""Housekeeping of sign-in."""

from __future__ import annotations

import datetime as dt
from typing import Final

from celery import shared_task
from django.contrib.sessions.models import Session
from django.utils import timezone

from tenants import scope
from tenants.models import CacheEntry, Invitation

#: An invitation that was accepted, revoked or ran out is kept for so long.
KEPT: Final = dt.timedelta(days=90)


@shared_task
def forget_expired() -> int:
    """Delete sessions, counts and old invitations whose time is over; return how many rows."""
    now = timezone.now()
    sessions, _ = Session.objects.filter(expire_date__lt=now).delete()
    counts, _ = CacheEntry.objects.filter(expires_at__lt=now).delete()
    with scope.platform("forget invitations of long ago"):
        invitations, _ = Invitation.objects.filter(expires_at__lt=now - KEPT).delete()
    return sessions + counts + invitations
