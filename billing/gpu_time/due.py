"""Which hours of GPU time are to be computed: due rows, written by whoever changes the past."""

from __future__ import annotations

import datetime as dt
from typing import Final

from django.db import connection
from django.db.models import Min
from django.utils import timezone

from billing.models import Allocation, GpuSupply, GpuWait
from billing.quantities import HOUR, round_down

#: For how long after its end an hour is computed again and again: until then nobody need say that it changed.
SETTLING: Final = 2 * HOUR

# Rows are locked in order, so that two who change the past cannot wait for each other; and locked at all, so that an
# hour is not taken off the list before the change is committed. What stands there already is locked and not written
# again: a change of a year's past would leave thousands of dead rows each time.
_DUE = """
INSERT INTO billing_duehour (bucket) SELECT bucket FROM generate_series(
    %(first)s::timestamptz, %(last)s::timestamptz, interval '1 hour'
) AS bucket ORDER BY bucket
ON CONFLICT (bucket) DO UPDATE SET bucket = excluded.bucket WHERE false
"""


def hours_changed(
    *, since: dt.datetime, until: dt.datetime | None = None, now: dt.datetime | None = None
) -> None:
    """Note that GPU time in [``since``, ``until``) (None: until now) is not as it was when its hours were computed.

    Call it in the transaction of the change. Where all of it is recent nothing is written: those hours are due anyway.
    """
    settled = round_down((now or timezone.now()) - SETTLING, HOUR)
    first = round_down(since, HOUR)
    last = settled if until is None else min(settled, round_down(until, HOUR))
    if first <= last:
        with connection.cursor() as cursor:
            cursor.execute(_DUE, {"first": first, "last": last})


def first_moment() -> dt.datetime | None:
    """Give when the first GPU was seen, held or waited for; None before that. Asks in the platform's scope."""
    starts = [
        model.objects.aggregate(first=Min("started_at"))["first"]
        for model in (Allocation, GpuWait, GpuSupply)
    ]
    return min((start for start in starts if start), default=None)
