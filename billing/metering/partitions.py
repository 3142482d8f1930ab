"""Day partitions of the usage tables: made ahead of need, dropped by retention once all in them is counted."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Collection, Iterable
from typing import Final

from django.conf import settings
from django.db import connection

from billing.models import UsageDropped
from tenants import locks, scope

log = logging.getLogger(__name__)

AHEAD: Final = 7
#: Kept for a day beyond retention: what is checked just before midnight must not find its day gone.
_SLACK: Final = 1
_SEGMENTS: Final = "billing_usagesegment"
_MINUTES: Final = "billing_usageminute"


def ensure_partitions(days: Iterable[dt.date]) -> int:
    """Make the partitions of segments of ``days`` that do not exist yet and give how many were made.

    Call it before anything else in a transaction touches usage: making one locks the whole table.

    Raises:
        IntegrityError: a day was dropped.
    """
    return _made("berth_usage_partition", days)


def ensure_minutes(days: Iterable[dt.date]) -> int:
    """Make the partitions of minutes of ``days`` that do not exist yet and give how many were made."""
    return _made("berth_usage_minutes", days)


def _made(function: str, days: Iterable[dt.date]) -> int:
    wanted = sorted(set(days))
    if not wanted:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT count(*) FILTER (WHERE {function}(day)) FROM unnest(%s::date[]) AS day",  # noqa: S608
            [wanted],
        )
        return cursor.fetchone()[0]


def keep_partitions(*, today: dt.date) -> int:
    """Have partitions from yesterday until seven days ahead; give how many were made.

    Nothing is done while another worker is at it.
    """
    days = [today + dt.timedelta(days=offset) for offset in range(-1, AHEAD + 1)]
    with locks.held(locks.Lock.USAGE_PARTITIONS) as mine:
        if not mine:
            return 0
        ensure_minutes(days)
        return ensure_partitions(days)


def dropped_days(days: Collection[dt.date], *, today: dt.date) -> set[dt.date]:
    """Give which of ``days`` were dropped by retention."""
    old = [day for day in days if day < today - dt.timedelta(days=1)]
    return set(UsageDropped.objects.filter(day__in=old).values_list("day", flat=True)) if old else set()


def first_minutes_day(today: dt.date) -> dt.date:
    """Give the first day of which minutes are kept."""
    return today - dt.timedelta(days=settings.USAGE_MINUTE_DAYS)


def drop_partitions(*, now: dt.datetime) -> int:
    """Drop segments older than ``USAGE_RETENTION_DAYS``, minutes older than ``USAGE_MINUTE_DAYS``; give how many days.

    A day of segments stays until everything in it is counted, and is remembered as dropped, so that what arrives for
    it later is refused. Each day is a transaction of its own. Nothing is done while rollups are being counted, which
    read and write the same partitions.
    """
    today = now.date()
    oldest = today - dt.timedelta(days=settings.USAGE_RETENTION_DAYS + _SLACK)
    dropped = sum(_drop_segments(day, now) for day in _days_of(_SEGMENTS) if day < oldest)
    oldest = first_minutes_day(today) - dt.timedelta(days=_SLACK)
    return dropped + sum(_drop_minutes(day, now) for day in _days_of(_MINUTES) if day < oldest)


def _drop_segments(day: dt.date, now: dt.datetime) -> bool:
    with scope.platform("drop usage by retention"), locks.held(locks.Lock.USAGE_ROLLUPS) as mine:
        if not mine:
            return False
        with connection.cursor() as cursor:
            cursor.execute("SELECT berth_usage_drop(%s, %s)", [day, now])
            (answer,) = cursor.fetchone()
    if answer == "uncounted":
        log.warning("segments of %s are due to be dropped and not all counted yet; they stay", day)
    elif answer == "dropped":
        log.info(
            "dropped the segments of %s, as USAGE_RETENTION_DAYS=%d says", day, settings.USAGE_RETENTION_DAYS
        )
    return answer == "dropped"


def _drop_minutes(day: dt.date, now: dt.datetime) -> bool:
    with scope.platform("drop minutes by retention"), locks.held(locks.Lock.USAGE_ROLLUPS) as mine:
        if not mine:
            return False
        with connection.cursor() as cursor:
            cursor.execute("SELECT berth_usage_minutes_drop(%s, %s)", [day, now])
            (dropped,) = cursor.fetchone()
    if dropped:
        log.info("dropped the minutes of %s, as USAGE_MINUTE_DAYS=%d says", day, settings.USAGE_MINUTE_DAYS)
    return dropped


def _days_of(table: str) -> list[dt.date]:
    """Give the days that have a partition of ``table``, in order."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT to_date(right(inhrelid::regclass::text, 8), 'YYYYMMDD') FROM pg_inherits"
            " WHERE inhparent = %s::regclass ORDER BY 1",
            [table],
        )
        return [day for (day,) in cursor.fetchall()]
