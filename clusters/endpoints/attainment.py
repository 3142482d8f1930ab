"""Keeping account of whether endpoints keep the targets of their class: the days that run or changed, hour by hour."""

from __future__ import annotations

import datetime as dt
import uuid
from collections import defaultdict

from billing.attainment import Promise, attainment_changed, attainment_write
from clusters.models import Endpoint
from tenants import scope

TENANTS_AT_A_TIME = 50


def attainment_keep(*, now: dt.datetime) -> int:
    """Judge every day since the beginning of last month that has requests not judged yet; give how many rows changed.

    A day is judged as it runs, and anew when late usage is counted into it, until the month's statement is final.
    Each few tenants are a transaction of their own: what a killed worker leaves, the next finds.
    """
    today = now.astimezone(dt.UTC).date()
    since = (today.replace(day=1) - dt.timedelta(days=1)).replace(day=1)
    with scope.platform("find days on which targets are to be judged"):
        promises = _promises(since)
        changed = attainment_changed(since=since, until=today + dt.timedelta(days=1), promises=promises)
    by_day: dict[dt.date, list[uuid.UUID]] = defaultdict(list)
    for tenant_id, day in changed:
        by_day[day].append(tenant_id)
    written = 0
    for day, tenant_ids in sorted(by_day.items()):
        for first in range(0, len(tenant_ids), TENANTS_AT_A_TIME):
            with scope.platform("judge a day of targets"):
                written += attainment_write(
                    day=day, tenant_ids=tenant_ids[first : first + TENANTS_AT_A_TIME], promises=promises
                )
    return written


def _promises(since: dt.date) -> dict[uuid.UUID, Promise]:
    """Give what the classes of endpoints promise, of those that were there since a day."""
    begin = dt.datetime.combine(since, dt.time(), dt.UTC)
    found = Endpoint.objects.exclude(deleted_at__lt=begin).select_related("slo_class")
    return {
        endpoint.id: Promise(
            slo_class=endpoint.slo_class.name,
            availability=endpoint.slo_class.availability,
            ttft_p95_ms=endpoint.slo_class.ttft_p95_ms,
            itl_p95_ms=endpoint.slo_class.itl_p95_ms,
            credit_percent=endpoint.slo_class.credit_percent,
        )
        for endpoint in found
    }
