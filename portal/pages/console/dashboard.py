"""The dashboard: what needs attention, how full the estate is, what it served and what that came to."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone

from billing import quantities
from billing.estate import ClusterHours, platform_costs
from clusters.endpoints.selectors import endpoint_list
from clusters.inventory.capacity import PoolCapacity, capacities
from clusters.models import Cluster, Endpoint, EndpointState
from portal.charts import Point, Share, daily_card, utilization_card
from portal.pages.base import ConsolePage, charts_allowed
from portal.pages.console.attention import matters
from tenants.models import Tenant

PERIODS = (7, 30)


@charts_allowed
class Dashboard(ConsolePage):
    reason = "show the operators' dashboard"

    def get(self, request: HttpRequest) -> HttpResponse:
        chosen = next((days for days in PERIODS if request.GET.get("days") == str(days)), PERIODS[0])
        now = timezone.now()
        days = last_days(now, chosen)
        start = dt.datetime.combine(days[0], dt.time(), tzinfo=dt.UTC)
        capacity = capacities()
        costs = platform_costs(start=start, end=now, now=now)
        context = {
            "periods": [
                {"label": f"{each} days", "url": f"?days={each}", "current": each == chosen}
                for each in PERIODS
            ],
            "chosen": chosen,
            "matters": matters(now, currency=settings.CURRENCY),
            "stats": _stats(capacity, costs.clusters, now, days),
            "pools": capacity_rows(capacity),
            "types": capacity_by_type(capacity),
            "states": _states(),
            "costs": sorted(costs.tenants, key=lambda row: (-row.cost.allocation, row.tenant)),
            "unpriced": costs.unpriced,
            "charts": _charts(capacity, costs.clusters, days, start, now),
            "has_estate": Cluster.objects.present().exists(),
        }
        return self.render("console/dashboard.html", context)


def last_days(now: dt.datetime, count: int) -> list[dt.date]:
    """Give the last ``count`` UTC days, today being the last."""
    today = now.astimezone(dt.UTC).date()
    return [today - dt.timedelta(days=back) for back in reversed(range(count))]


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


def _stats(
    capacity: Sequence[PoolCapacity], hours: Sequence[ClusterHours], now: dt.datetime, days: Sequence[dt.date]
) -> list[dict[str, Any]]:
    rows = capacity_rows(capacity)
    total, held, reserve, free = (
        sum(row[name] for row in rows) for name in ("total", "held", "reserve", "free")
    )
    gpu_hours = sum((row.gpu_hours for row in hours), Decimal(0))
    possible = total * sum(_hours_of(day, now) for day in days)
    live = Endpoint.objects.live()
    ready = live.filter(state=EndpointState.READY).count()
    return [
        {
            "label": "GPUs held",
            "value": held,
            "unit": f"of {total}",
            "note": f"{free} free, {reserve} kept in reserve",
        },
        {
            "label": f"GPU-hours held, {len(days)} days",
            "value": f"{gpu_hours:,.1f}",
            "note": f"{float(gpu_hours) / possible:.0%} of what today's GPUs could give"
            if possible
            else "No GPUs yet",
        },
        {"label": "Endpoints", "value": live.count(), "note": f"{ready} ready"},
        {
            "label": "Tenants",
            "value": Tenant.objects.filter(state=Tenant.State.ACTIVE).count(),
            "note": "active",
        },
    ]


def _states() -> list[dict[str, Any]]:
    counts = Counter(endpoint_list().live().values_list("state", flat=True))
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


def _charts(
    capacity: Sequence[PoolCapacity],
    hours: Sequence[ClusterHours],
    days: Sequence[dt.date],
    start: dt.datetime,
    now: dt.datetime,
) -> list[dict[str, Any]]:
    midnights = list(quantities.midnights(start, now))
    names = dict(Tenant.objects.values_list("id", "name"))
    held = [
        Point(row.start.date(), names[row.tenant_id], row.gpu_seconds / 3600)
        for row in quantities.held(start=start, end=now, now=now, cuts=midnights)
    ]
    tokens: list[Point] = []
    for row in quantities.used(start=start, end=now, cuts=midnights):
        day = row.start.date()
        tokens += [
            Point(day, "Input", row.input_tokens - row.cached_tokens),
            Point(day, "Cached input", row.cached_tokens),
            Point(day, "Output", row.output_tokens),
        ]
    shares, things = _shares(capacity, hours, now)
    cards = [
        daily_card(id="gpu-hours", title="GPU-hours held by tenant", points=held, days=days, unit="GPU-hours"),
        utilization_card(
            id="utilization", title="GPUs held by cluster and GPU type", shares=shares, days=days, things=things,
            note="Share of today's GPUs",
        ),
        daily_card(
            id="tokens", title="Tokens", points=[p for p in tokens if p.value], days=days, unit="tokens"
        ),
    ]  # fmt: skip
    return [card for card in cards if card]


def _shares(
    capacity: Sequence[PoolCapacity], hours: Sequence[ClusterHours], now: dt.datetime
) -> tuple[list[Share], list[str]]:
    totals: Counter[tuple[str, str]] = Counter()
    for each in capacity:
        totals[each.pool.cluster.name, each.pool.gpu_type.name] += each.total
    shares = [
        Share(
            row.day, f"{row.cluster} {row.gpu_type}", float(row.gpu_hours) / (total * _hours_of(row.day, now))
        )
        for row in hours
        if (total := totals[row.cluster, row.gpu_type])
    ]
    return shares, [f"{cluster} {gpu_type}" for cluster, gpu_type in sorted(totals)]


def _hours_of(day: dt.date, now: dt.datetime) -> float:
    """Give the hours of a UTC day that are over by ``now``."""
    begin = dt.datetime.combine(day, dt.time(), tzinfo=dt.UTC)
    return max(1 / 3600, min((now - begin).total_seconds() / 3600, 24.0))
