"""The findings to read: of all tenants for operators, of the open one for itself."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal

from django.db.models import QuerySet

from clusters.models import Saving


@dataclasses.dataclass(frozen=True, kw_only=True)
class SavingRow:
    """A finding with the money that acting on it saves in 30 days, and how that was computed.

    ``amount`` is at the tenant's prices, ``asset_amount`` what the GPUs given back cost their owner, null where no rate
    is known. ``since`` is when it was first found.
    """

    id: uuid.UUID
    kind: str
    tenant: str
    tenant_name: str
    project: str
    endpoint_id: uuid.UUID
    endpoint: str
    what: str
    amount: Decimal
    currency: str
    asset_amount: Decimal | None
    asset_currency: str
    gpu_hours: Decimal
    since: dt.datetime
    computed_at: dt.datetime
    how: list[str]
    dismissed_until: dt.datetime | None
    dismissed_reason: str
    dismissed_by: str


def savings_list(
    *,
    now: dt.datetime,
    kind: str = "",
    tenant: str = "",
    dismissed: bool = False,
    most: int | None = None,
    among: QuerySet[Saving] | None = None,
) -> list[SavingRow]:
    """Give the open scope's findings, or those ``among`` some, those that save most first.

    ``dismissed``: those that were put off instead.
    """
    rows = (Saving.objects.all() if among is None else among).select_related("endpoint__project", "tenant")
    rows = rows.filter(dismissed_until__gt=now, endpoint__deleted_at=None) if dismissed else rows.open(now)
    if kind:
        rows = rows.filter(kind=kind)
    if tenant:
        rows = rows.filter(tenant__slug=tenant)
    return [_row(each) for each in rows.order_by("-amount", "id")[:most]]


def savings_of(*, now: dt.datetime) -> list[SavingRow]:
    """Give the open tenant's findings that nobody put off."""
    return savings_list(now=now)


def totals(rows: Iterable[SavingRow]) -> dict[str, Decimal]:
    """Sum what findings save by currency.

    Of an endpoint that is idle and larger than it need be, only the larger of the two counts: a GPU is given back once.
    """
    idle: dict[tuple[str, uuid.UUID], Decimal] = {}
    planned: defaultdict[tuple[str, uuid.UUID], Decimal] = defaultdict(Decimal)
    for row in rows:
        key = row.currency, row.endpoint_id
        if row.kind == Saving.Kind.IDLE:
            idle[key] = row.amount
        else:
            planned[key] += row.amount
    sums: defaultdict[str, Decimal] = defaultdict(Decimal)
    for key in {*idle, *planned}:
        sums[key[0]] += max(idle.get(key, Decimal(0)), planned.get(key, Decimal(0)))
    return dict(sorted(sums.items()))


def _row(saving: Saving) -> SavingRow:
    return SavingRow(
        id=saving.id,
        kind=saving.kind,
        tenant=saving.tenant.slug,
        tenant_name=saving.tenant.name,
        project=saving.endpoint.project.name,
        endpoint_id=saving.endpoint_id,
        endpoint=saving.endpoint.name,
        what=saving.what,
        amount=saving.amount,
        currency=saving.currency,
        asset_amount=saving.asset_amount,
        asset_currency=saving.asset_currency,
        gpu_hours=saving.gpu_hours,
        since=saving.created_at,
        computed_at=saving.computed_at,
        how=saving.how,
        dismissed_until=saving.dismissed_until,
        dismissed_reason=saving.dismissed_reason,
        dismissed_by=saving.dismissed_by,
    )
