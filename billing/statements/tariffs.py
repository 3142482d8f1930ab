"""The prices of one statement: those that the tenant pays, and the list beside them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable

from django.db.models import Q

from billing.models import Price
from billing.rating import prices as rating
from billing.rating.prices import PriceBook
from billing.statements.inputs import Listed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tariff:
    """``own`` rates what is charged, ``listed`` what it would be at list; one object where there is no difference."""

    own: PriceBook
    listed: PriceBook


def tariff_of(prices: Iterable[Listed], tenant_id: uuid.UUID) -> Tariff:
    """Make a tariff of prices that were kept."""
    listed, own = [], []
    for each in prices:
        (own if each.own else listed).append(_price(each, tenant_id))
    book = PriceBook(listed)
    return Tariff(own=PriceBook(own, listed, tenant=str(tenant_id)) if own else book, listed=book)


def kept(prices: Iterable[Listed], used: Collection[str], classes: Collection[str]) -> tuple[Listed, ...]:
    """Give those of ``prices`` that were used, and the factors of ``classes``, which say how they were used.

    Rating by them alone gives what rating by all of them gives: of the prices that cover something the one in force
    is among them.
    """
    factor = rating.PriceKind.CLASS_FACTOR.value
    found = [
        price
        for price in prices
        if price.id in used or (price.kind == factor and price.slo_class in ("", *classes))
    ]
    return tuple(sorted(found, key=lambda price: price.id))


def listed(
    currency: str, tenant_ids: Collection[uuid.UUID], *, until: dt.datetime | None = None
) -> dict[uuid.UUID | None, list[Listed]]:
    """Read the list's prices (under None) and the tenants' own as plain data; one query.

    ``until`` leaves out those that were entered later.
    """
    rows = Price.objects.filter(Q(tenant=None) | Q(tenant__in=tenant_ids), book=None, currency=currency)
    if until:
        rows = rows.filter(created_at__lte=until)
    found: defaultdict[uuid.UUID | None, list[Listed]] = defaultdict(list)
    for row in rows.order_by():
        found[row.tenant_id].append(
            Listed(
                id=str(row.id),
                kind=row.kind,
                amount=row.amount,
                currency=row.currency,
                effective_from=row.effective_from,
                own=row.tenant_id is not None,
                model=row.model,
                gpu_type=row.gpu_type,
                region=row.region,
                slo_class=row.slo_class,
            )
        )
    return found


def _price(listed: Listed, tenant_id: uuid.UUID) -> rating.Price:
    return rating.Price(
        id=listed.id,
        kind=rating.PriceKind(listed.kind),
        amount=listed.amount,
        currency=listed.currency,
        effective_from=listed.effective_from,
        tenant=str(tenant_id) if listed.own else None,
        model=listed.model or None,
        gpu_type=listed.gpu_type or None,
        region=listed.region or None,
        slo_class=listed.slo_class or None,
    )
