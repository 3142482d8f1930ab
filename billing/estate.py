"""What the whole platform's GPUs and tokens came to, for the operators' console."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections import defaultdict
from decimal import Decimal

from django.utils import timezone

from billing import quantities
from billing.costs import GPU_PRICES, Cost, Sums, token_cuts
from billing.prices import books_of
from tenants import scope
from tenants.models import Tenant


@dataclasses.dataclass(frozen=True, kw_only=True)
class TenantCost:
    """A tenant's cost in its own currency."""

    tenant_id: uuid.UUID
    tenant: str
    currency: str
    cost: Cost


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterHours:
    """GPU-hours held on one UTC day of one GPU type of a cluster."""

    day: dt.date
    cluster: str
    region: str
    gpu_type: str
    gpu_hours: Decimal


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlatformCosts:
    """All tenants' cost, and GPU-hours by day and cluster."""

    tenants: tuple[TenantCost, ...]
    clusters: tuple[ClusterHours, ...]
    unpriced: tuple[str, ...]


def platform_costs(*, start: dt.datetime, end: dt.datetime, now: dt.datetime | None = None) -> PlatformCosts:
    """Sum all tenants' cost in ``[start, end)``, and GPU-hours by UTC day, cluster and GPU type."""
    now = now or timezone.now()
    with scope.platform("cost of the whole platform for its operators"):
        tenants = {tenant.id: tenant for tenant in Tenant.objects.all()}
        books = books_of(tenants.values())
        days = set(quantities.midnights(start, end))
        gpu_cuts = days.union(*(book.changes(GPU_PRICES) for book in set(books.values())))
        hour_cuts = set().union(*(token_cuts(book) for book in set(books.values())))
        by_tenant: defaultdict[uuid.UUID, Sums] = defaultdict(Sums)
        by_cluster: defaultdict[tuple[dt.date, str, str, str], Sums] = defaultdict(Sums)
        for held in quantities.held(start=start, end=end, now=now, cuts=gpu_cuts):
            book = books[held.tenant_id]
            by_tenant[held.tenant_id].add_held(book, held)
            by_cluster[held.start.date(), held.cluster, held.region, held.gpu_type].add_held(book, held)
        for used in quantities.used(start=start, end=end, cuts=hour_cuts):
            by_tenant[used.tenant_id].add_used(books[used.tenant_id], used)
    return PlatformCosts(
        tenants=tuple(
            TenantCost(
                tenant_id=tenant_id,
                tenant=tenants[tenant_id].name,
                currency=tenants[tenant_id].currency,
                cost=sums.cost(),
            )
            for tenant_id, sums in sorted(by_tenant.items(), key=lambda item: tenants[item[0]].name)
        ),
        clusters=tuple(
            ClusterHours(
                day=day, cluster=cluster, region=region, gpu_type=gpu_type, gpu_hours=sums.cost().gpu_hours
            )
            for (day, cluster, region, gpu_type), sums in sorted(by_cluster.items())
        ),
        unpriced=tuple(sorted(set().union(*(sums.unpriced for sums in by_tenant.values())))),
    )
