"""The inputs of many tenants' statements at once, read by sets: a few queries for a chunk, none for a tenant alone.

Call it in the platform's scope. All tenants of a call share one window: one month between the same two moments.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal

from django.db import connection

from billing import quantities
from billing.models import Commitment, EndpointLabel
from billing.rating.prices import PriceBook
from billing.statements.gpu_time import Allocated, pieces
from billing.statements.inputs import (
    Attained,
    Committed,
    Endpoint,
    HeldTime,
    Month,
    Project,
    UsedTokens,
)
from billing.statements.shared import Shares
from billing.statements.windows import Window, allocated, busy_hours, gpu_cuts, token_cuts
from tenants import models as tenants

# A UTC day is of the month in which it begins. The targets are those of its last day.
_ATTAINED = """
SELECT tenant_id, endpoint_id, (array_agg(project_id ORDER BY day DESC))[1],
    (array_agg(slo_class ORDER BY day DESC))[1], (array_agg(availability ORDER BY day DESC))[1],
    (array_agg(ttft_p95_ms ORDER BY day DESC))[1], (array_agg(itl_p95_ms ORDER BY day DESC))[1],
    (array_agg(credit_percent ORDER BY day DESC))[1], sum(requests)::bigint, sum(failed)::bigint,
    sum(requests * (1 - availability)), sum(hours)::bigint, sum(ttft_met)::bigint, sum(itl_met)::bigint
FROM billing_attainment
WHERE tenant_id = ANY(%(tenants)s) AND day >= %(first)s AND day < %(after)s
GROUP BY tenant_id, endpoint_id
HAVING sum(requests) > 0
ORDER BY tenant_id, endpoint_id
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Names:
    """What projects and endpoints of some tenants are called."""

    projects: Mapping[uuid.UUID, Mapping[uuid.UUID, Project]]
    endpoints: Mapping[uuid.UUID, Mapping[uuid.UUID, Endpoint]]
    external: frozenset[tuple[uuid.UUID, uuid.UUID]]


def names_of(tenant_ids: Collection[uuid.UUID], shares: Shares) -> Names:
    """Read what the tenants' own projects and endpoints are called, and those that are sold to them."""
    projects: defaultdict[uuid.UUID, dict[uuid.UUID, Project]] = defaultdict(dict)
    for project in tenants.Project.objects.filter(tenant__in=tenant_ids).order_by():
        projects[project.tenant_id][project.id] = Project(
            id=project.id, name=project.name, cost_centre=project.cost_centre
        )
    endpoints: defaultdict[uuid.UUID, dict[uuid.UUID, Endpoint]] = defaultdict(dict)
    external = set()
    for label in EndpointLabel.objects.filter(tenant__in=tenant_ids).order_by():
        endpoints[label.tenant_id][label.endpoint_id] = Endpoint(
            id=label.endpoint_id, name=label.name, model=label.model, slo_class=label.slo_class
        )
        if label.external:
            external.add((label.tenant_id, label.endpoint_id))
    for tenant_id in tenant_ids:
        for endpoint_id, endpoint in shares.endpoints.items():
            endpoints[tenant_id].setdefault(endpoint_id, endpoint)
    return Names(projects=projects, endpoints=endpoints, external=frozenset(external))


def months(
    *,
    window: Window,
    currencies: Mapping[uuid.UUID, str],
    books: Mapping[uuid.UUID, PriceBook],
    names: Names,
    shares: Shares,
    split: bool = True,
) -> dict[uuid.UUID, Month]:
    """Gather the month of each tenant, in the order of its quantities' names.

    ``currencies`` are those in which the tenants are charged, ``books`` the prices by which the quantities are cut.
    Without ``split`` the shares of shared endpoints' GPU time are left out.
    """
    tenant_ids = list(currencies)
    commitments = _commitments(window, currencies)
    held = _held(window, tenant_ids, books, shares, apart=frozenset(commitments))
    used = _used(window, tenant_ids, books, names, shares)
    reached = attained(window, tenant_ids)
    return {
        tenant_id: Month(
            month=window.month,
            start=window.start,
            end=window.end,
            until=window.until,
            held=tuple(held.get(tenant_id, ())),
            used=tuple(used.get(tenant_id, ())),
            shares=tuple(shares.of(tenant_id, currencies[tenant_id], window)) if split else (),
            attained=tuple(reached.get(tenant_id, ())),
            commitments=tuple(commitments.get(tenant_id, ())),
        )
        for tenant_id in tenant_ids
    }


def _held(
    window: Window,
    tenant_ids: Sequence[uuid.UUID],
    books: Mapping[uuid.UUID, PriceBook],
    shares: Shares,
    *,
    apart: Collection[uuid.UUID],
) -> dict[uuid.UUID, list[HeldTime]]:
    by_endpoint: defaultdict[tuple[uuid.UUID, uuid.UUID], list[Allocated]] = defaultdict(list)
    for each in allocated(window, tenant_ids):
        if each.start < each.end:
            by_endpoint[each.tenant_id, each.endpoint_id].append(each)
    dedicated = {endpoint_id for _, endpoint_id in by_endpoint if endpoint_id not in shares.endpoints}
    busy = busy_hours(window, dedicated, tenant_ids=tenant_ids)
    cuts: dict[int, list[dt.datetime]] = {}
    found: defaultdict[uuid.UUID, list[HeldTime]] = defaultdict(list)
    for (tenant_id, endpoint_id), parts in by_endpoint.items():
        book = books[tenant_id]
        if id(book) not in cuts:
            cuts[id(book)] = gpu_cuts(window, book)
        is_shared = endpoint_id in shares.endpoints
        found[tenant_id] += pieces(
            parts,
            cuts=cuts[id(book)],
            busy=shares.busy(endpoint_id, window) if is_shared else busy.get(endpoint_id, ()),
            shared=shares.hours(endpoint_id) if is_shared else (),
            apart=tenant_id in apart,
        )
    for rows in found.values():
        rows.sort(key=_held_order)
    return found


def _held_order(row: HeldTime) -> tuple:
    return (
        str(row.endpoint_id), row.start, row.end, row.gpu_type, row.region, row.price_factor, row.idle, row.shared,
        row.gpu_seconds, str(row.project_id),
    )  # fmt: skip


def _used(
    window: Window,
    tenant_ids: Sequence[uuid.UUID],
    books: Mapping[uuid.UUID, PriceBook],
    names: Names,
    shares: Shares,
) -> dict[uuid.UUID, list[UsedTokens]]:
    distinct = {id(book): book for book in books.values()}
    cuts = token_cuts(distinct.values()) | shares.bounds_of(tenant_ids)
    found: defaultdict[uuid.UUID, list[UsedTokens]] = defaultdict(list)
    for row in quantities.used(start=window.start, end=window.end, cuts=cuts, tenant_ids=tenant_ids):
        if row.endpoint_id is None:  # refused before any endpoint was named: there are no tokens
            continue
        external = (row.tenant_id, row.endpoint_id) in names.external
        found[row.tenant_id].append(
            UsedTokens(
                start=row.start,
                end=row.end,
                project_id=row.project_id,
                endpoint_id=row.endpoint_id,
                model=row.model,
                slo_class=row.slo_class,
                region=row.region,
                requests=row.requests,
                input_tokens=row.input_tokens,
                output_tokens=row.output_tokens,
                cached_tokens=row.cached_tokens,
                charged=external or shares.sells(row.endpoint_id, row.tenant_id, row.start),
            )
        )
    return found


def _commitments(window: Window, currencies: Mapping[uuid.UUID, str]) -> dict[uuid.UUID, list[Committed]]:
    found: defaultdict[uuid.UUID, list[Committed]] = defaultdict(list)
    rows = Commitment.objects.filter(
        tenant__in=list(currencies), starts_at__lt=window.until, ends_at__gt=window.start
    ).order_by("starts_at", "id")
    for row in rows:
        if row.currency == currencies[row.tenant_id]:
            found[row.tenant_id].append(
                Committed(
                    id=row.id, name=row.name, gpu_type=row.gpu_type, region=row.region, gpus=row.gpus,
                    rate=row.rate, starts_at=row.starts_at, ends_at=row.ends_at,
                )
            )  # fmt: skip
    return dict(found)


def attained(window: Window, tenant_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, list[Attained]]:
    """Read what the tenants' endpoints reached of their targets in the window, those with requests alone."""
    first = quantities.round_up(window.start, quantities.DAY).date()
    after = quantities.round_up(window.end, quantities.DAY).date()
    found: defaultdict[uuid.UUID, list[Attained]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(_ATTAINED, {"tenants": list(tenant_ids), "first": first, "after": after})
        for row in cursor.fetchall():
            found[row[0]].append(
                Attained(
                    endpoint_id=row[1], project_id=row[2], slo_class=row[3], availability=row[4],
                    ttft_p95_ms=row[5], itl_p95_ms=row[6], credit_percent=row[7], requests=row[8], failed=row[9],
                    allowed=Decimal(row[10]), hours=row[11], ttft_met=row[12], itl_met=row[13],
                )
            )  # fmt: skip
    return found
