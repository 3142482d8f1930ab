"""The dashboard: what needs attention, how full the estate is, and what its GPUs did in the last 24 hours."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone

from billing.buckets import Width
from billing.reports.asking import ask
from billing.reports.utilization import UtilizationReport, utilization_report
from clusters.endpoints.savings.selectors import savings_list, totals
from clusters.inventory import remit
from clusters.inventory.capacity import PoolCapacity
from clusters.models import EndpointState
from portal.pages.base import ConsolePage
from portal.pages.console.attention import matters
from portal.pages.console.reports.utilization import over_time_card
from portal.templatetags.berth import percent
from tenants.models import Tenant
from tenants.roles import PlatformAction

#: How far back the figures of the front page look; the reports look further.
LOOK_BACK = dt.timedelta(hours=24)


class Dashboard(ConsolePage):
    action = PlatformAction.VIEW_ESTATE
    reason = "show the operators' dashboard"

    def get(self, request: HttpRequest) -> HttpResponse:
        now = timezone.now()
        capacity = remit.pool_capacities()
        asked = ask(start=now - LOOK_BACK, end=now, width=Width.HOUR, within=remit.names())
        day = utilization_report(asked)
        context = {
            "matters": matters(now, self.operator, currency=settings.CURRENCY),
            "stats": _stats(capacity, day),
            "savings": totals(savings_list(now=now, among=remit.savings())),
            "pools": capacity_rows(capacity),
            "types": capacity_by_type(capacity),
            "states": _states(),
            "charts": [card for card in [over_time_card(day)] if card],
            "has_estate": remit.clusters().exists(),
        }
        return self.render("console/dashboard.html", context)


def capacity_rows(capacity: Sequence[PoolCapacity]) -> list[dict[str, Any]]:
    """Give the pools by cluster with their GPUs; the reserve is what is kept back and not held.

    ``barred`` are those that can neither be held nor planned on: held by others in the cluster, faulty, cordoned.
    """
    rows = [
        {
            "pool": each.pool,
            "cluster": each.pool.cluster,
            "total": each.total,
            "held": each.held,
            "reserve": (reserve := min(each.reserve, max(0, each.total - each.held - each.free))),
            "free": each.free,
            "foreign": each.foreign,
            "faulty": each.faulty,
            "barred": max(0, each.total - each.held - each.free - reserve),
        }
        for each in capacity
    ]
    return sorted(rows, key=lambda row: (row["cluster"].name, row["pool"].name))


def capacity_by_type(capacity: Sequence[PoolCapacity]) -> list[dict[str, Any]]:
    """Sum the pools by GPU type."""
    sums: dict[str, Counter] = defaultdict(Counter)
    for row in capacity_rows(capacity):
        sums[row["pool"].gpu_type.title].update(
            {name: row[name] for name in ("total", "held", "reserve", "free", "barred")}
        )
    return [{"title": title, **dict(counts)} for title, counts in sorted(sums.items())]


def _stats(capacity: Sequence[PoolCapacity], day: UtilizationReport) -> list[dict[str, Any]]:
    rows = capacity_rows(capacity)
    total, held, reserve, free = (
        sum(row[name] for row in rows) for name in ("total", "held", "reserve", "free")
    )
    live = remit.endpoints().live()
    ready = live.filter(state=EndpointState.READY).count()
    seen, share, serving = day.total.seen, day.total.held_share, day.total.serving_share
    return [
        {
            "label": "GPUs held",
            "value": held,
            "unit": f"of {total}",
            "note": f"{free} free, {reserve} kept in reserve",
        },
        {
            "label": "GPU-hours held, 24 h",
            "value": f"{day.total.held:,.1f}",
            "note": f"{percent(share, 0)} of what could be" if share is not None else "No GPU time seen yet",
        },
        {
            "label": "Of them serving",
            "value": f"{day.total.serving:,.1f}",
            "note": f"{percent(serving, 0)}; the rest idle, loading or draining"
            if serving is not None and seen
            else "",
        },
        {"label": "Endpoints", "value": live.count(), "note": f"{ready} ready"},
        {
            "label": "Tenants",
            "value": remit.tenants().filter(state=Tenant.State.ACTIVE).count(),
            "note": "active",
        },
    ]


def _states() -> list[dict[str, Any]]:
    counts = Counter(remit.endpoints().live().values_list("state", flat=True))
    return [
        {
            "state": state.value,
            "label": state.label,
            "count": counts[state.value],
            "url": f"{reverse('console:endpoints')}?state={state.value}",
        }
        for state in EndpointState
        if counts[state.value]
    ]
