"""Hours and days of GPU time, computed from intervals that clusters and operators wrote.

An hour is due while it runs, for :data:`SETTLING` after its end, and whenever its past changed. It is computed from
the intervals as they are then, as a whole, so that doing it again changes nothing. Reading, writing and taking the
hour off the list are one transaction, which a killed process leaves undone.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

from django.db import connection
from django.db.models import Max
from django.utils import timezone

from billing.gpu_time.due import SETTLING, first_moment
from billing.gpu_time.sql import ASKED_AFTER_ALL, COMPUTE_HOURS, PLANNED, SUM_DAYS
from billing.models import DueHour
from billing.quantities import DAY, HOUR, round_down
from tenants import locks, scope

#: Hours computed by one transaction.
PAGE: Final = 48
#: How far back late usage is looked for, in every run and once an hour.
LATE, VERY_LATE = 2 * DAY, 40 * DAY


def hours_compute(*, now: dt.datetime | None = None, wait: bool = False, most: int | None = None) -> int:
    """Compute the hours that are due as of ``now``, newest first; give how many rows of hours and days changed.

    At most ``most`` hours are computed, so that one run ends in time; the rest stays due. Without ``wait`` nothing is
    done while another worker is at it.
    """
    now = now or timezone.now()
    changed, done = 0, 0
    before: dt.datetime | None = None
    while most is None or done < most:
        with scope.platform("compute hours of GPU time"), locks.held(locks.Lock.GPU_HOURS, wait=wait) as mine:
            if not mine:
                return changed
            if before is None:
                _note_due(now)
            due = DueHour.objects.filter(bucket__lte=now)
            if before is not None:
                due = due.filter(bucket__lt=before)
            # Rows that others hold are of changes that are not committed yet: they stay due.
            page = due.select_for_update(skip_locked=True).order_by("-bucket")[
                : PAGE if most is None else min(PAGE, most - done)
            ]
            buckets = [row.bucket for row in page]
            if not buckets:
                return changed
            changed += _compute(buckets, now)
            over = [bucket for bucket in buckets if bucket + HOUR + SETTLING <= now]
            DueHour.objects.filter(bucket__in=over).delete()
        before, done = buckets[-1], done + len(buckets)
    return changed


def _note_due(now: dt.datetime) -> None:
    current = round_down(now, HOUR)
    newest = DueHour.objects.filter(bucket__lte=current).aggregate(newest=Max("bucket"))["newest"]
    first = newest or min(round_down(first_moment() or now, HOUR), current)
    missing = range((current - first) // HOUR + 1)
    DueHour.objects.bulk_create(
        [DueHour(bucket=first + number * HOUR) for number in missing], ignore_conflicts=True, batch_size=5000
    )
    # The hour before still counts as open where it was missing: once an hour, the long look back.
    window = VERY_LATE if newest is None or newest < current else LATE
    with connection.cursor() as cursor:
        cursor.execute(
            ASKED_AFTER_ALL,
            {"since": round_down(now - window, HOUR), "before": round_down(now - SETTLING, HOUR)},
        )
        late = [DueHour(bucket=bucket) for (bucket,) in cursor.fetchall()]
    DueHour.objects.bulk_create(late, ignore_conflicts=True)


def _compute(buckets: list[dt.datetime], now: dt.datetime) -> int:
    days = sorted({round_down(bucket, DAY) for bucket in buckets})
    with connection.cursor() as cursor:
        cursor.execute(PLANNED)
        cursor.execute(
            COMPUTE_HOURS,
            {"buckets": buckets, "now": now, "first": min(buckets), "last": max(buckets) + HOUR},
        )
        changed = cursor.fetchone()[0]
        cursor.execute(SUM_DAYS, {"days": days, "first": days[0], "last": days[-1] + DAY})
        return changed + cursor.fetchone()[0]
