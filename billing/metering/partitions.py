"""Day partitions of the usage table, made ahead of need."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from django.db import connection

from tenants import locks

AHEAD = 7


def ensure_partitions(days: Iterable[dt.date]) -> int:
    """Make the partitions of ``days`` that do not exist yet and give how many were made.

    Call it before anything else in a transaction touches usage: making one locks the whole table.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FILTER (WHERE berth_usage_partition(day)) FROM unnest(%s::date[]) AS day",
            [sorted(set(days))],
        )
        return cursor.fetchone()[0]


def keep_partitions(*, today: dt.date) -> int:
    """Have partitions from yesterday until seven days ahead; give how many were made.

    Nothing is done while another worker is at it.
    """
    days = [today + dt.timedelta(days=offset) for offset in range(-1, AHEAD + 1)]
    with locks.held(locks.Lock.USAGE_PARTITIONS) as mine:
        return ensure_partitions(days) if mine else 0
