"""What a named route's traffic cost, target by target, and what it would have cost at the dearest one."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal

from billing import quantities
from billing.costs import Cost, Names, Sums, token_cuts
from billing.models import EndpointLabel
from billing.prices import PriceBook, price_book
from billing.quantities import Used
from tenants import scope
from tenants.models import Tenant


@dataclasses.dataclass(frozen=True, kw_only=True)
class RouteTargetCost:
    """What came to one endpoint by a route; shares are of the route's, 0..1, None while it has none.

    ``all_here`` is what all of the route's tokens would have cost at this endpoint's prices, None where it has none.
    """

    endpoint_id: uuid.UUID | None
    endpoint: str
    model: str
    slo_class: str
    cost: Cost
    request_share: Decimal | None
    token_share: Decimal | None
    all_here: Decimal | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RouteCosts:
    """A route's traffic in ``[start, end)`` at the price book.

    ``dearest`` is the target at whose prices all of it would have cost most, and ``saving`` what that is above
    ``total.usage``; both None where nothing was used or no target has prices.
    """

    start: dt.datetime
    end: dt.datetime
    currency: str
    total: Cost
    targets: tuple[RouteTargetCost, ...]
    dearest: uuid.UUID | None
    saving: Decimal | None
    unpriced: tuple[str, ...]


def route_costs(
    *, route_id: uuid.UUID, targets: Sequence[uuid.UUID], start: dt.datetime, end: dt.datetime
) -> RouteCosts:
    """Sum what came by a named route of the open tenant.

    ``targets`` are the endpoints that its rules name now; those that it led to before are told too.
    """
    currency = Tenant.objects.get(id=scope.current_tenant_id()).currency
    book, names = price_book(currency), Names()
    rows = quantities.used(start=start, end=end, cuts=token_cuts(book), route_id=route_id)
    total, by_target = Sums(), defaultdict(Sums)
    for row in rows:
        total.add_used(book, row)
        by_target[row.endpoint_id].add_used(book, row)
    whole = total.cost()
    everybody = dict.fromkeys([*targets, *by_target])
    found = tuple(
        _target(endpoint_id, names.label(endpoint_id), by_target[endpoint_id].cost(), whole, book, rows)
        for endpoint_id in everybody
    )
    priced = [each for each in found if each.all_here is not None]
    dearest = max(priced, key=lambda each: each.all_here or Decimal(0), default=None)
    return RouteCosts(
        start=start,
        end=end,
        currency=currency,
        total=whole,
        targets=found,
        dearest=dearest.endpoint_id if dearest else None,
        saving=max(Decimal(0), dearest.all_here - whole.usage)
        if dearest and dearest.all_here is not None
        else None,
        unpriced=tuple(sorted(total.unpriced)),
    )


def _target(
    endpoint_id: uuid.UUID | None,
    label: EndpointLabel,
    cost: Cost,
    whole: Cost,
    book: PriceBook,
    rows: Sequence[Used],
) -> RouteTargetCost:
    return RouteTargetCost(
        endpoint_id=endpoint_id,
        endpoint=label.name,
        model=label.model,
        slo_class=label.slo_class,
        cost=cost,
        request_share=_share(cost.requests, whole.requests),
        token_share=_share(cost.tokens, whole.tokens),
        all_here=_all_here(label, book, rows),
    )


def _all_here(label: EndpointLabel, book: PriceBook, rows: Sequence[Used]) -> Decimal | None:
    if not rows or not label.model:
        return None
    sums = Sums()
    for row in rows:
        sums.add_used(book, dataclasses.replace(row, model=label.model, slo_class=label.slo_class))
    return None if sums.unpriced else sums.cost().usage


def _share(part: int, whole: int) -> Decimal | None:
    return round(Decimal(part) / whole, 4) if whole else None
