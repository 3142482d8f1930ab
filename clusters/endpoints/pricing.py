"""What an endpoint's GPUs and tokens cost at given prices."""

from __future__ import annotations

import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal

from billing.prices import price_books
from billing.rating.prices import MissingPrice, PriceBook, Subject
from clusters.models import Endpoint, Revision
from clusters.planning import problem
from gateway.contract import TokenPrices

#: Decimal places of a price at a gateway, whose smallest unit of money is made for them.
PRICE_PLACES = 10


def held_price(revision: Revision, pools: Iterable[problem.Pool]) -> Decimal:
    """Give the price per hour of what a revision holds, at the prices of ``pools``.

    Where its pool is not for sale any more, the price that it was planned with counts.
    """
    return replica_price(revision, pools) * revision.replicas


def replica_price(revision: Revision, pools: Iterable[problem.Pool]) -> Decimal:
    """Give the price per hour of one replica, as :func:`held_price` does of all."""
    prices = {pool.id: pool.price_per_gpu_hour for pool in pools}
    each = prices.get(str(revision.pool))
    if each is None:
        each = Decimal(revision.plan["configuration"]["price_per_gpu_hour"])
    return each * revision.gpus_per_replica * revision.price_factor


class EndpointBooks:
    """The price book of each endpoint: its tenant's own, for shared endpoints the list in the owner's currency.

    Who calls a shared endpoint is charged by its own book. What holds there at gateways and is told to all is the
    list price, for one endpoint has one price in a snapshot.
    """

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        tenants: defaultdict[str, set[uuid.UUID]] = defaultdict(set)
        for endpoint in endpoints:
            tenants[endpoint.tenant.currency].add(endpoint.tenant_id)
        self._books = {currency: price_books(currency, ids) for currency, ids in tenants.items()}

    def of(self, endpoint: Endpoint) -> PriceBook:
        """Give the book of one of the endpoints."""
        return self._books[endpoint.tenant.currency][None if endpoint.shared else endpoint.tenant_id]


def token_prices(
    endpoint: Endpoint,
    book: PriceBook,
    now: dt.datetime,
    *,
    slo_class: str = "",
    region: str = "",
    currency: str = "",
) -> TokenPrices | None:
    """Give an endpoint's prices per million tokens with the factor of the class, None where one is missing.

    ``slo_class`` is the name of another class than its own, ``region`` that of the gateway which is asked,
    ``currency`` that of the book where it is not the owner's.
    """
    subject = Subject(
        model=endpoint.model.name, slo_class=slo_class or endpoint.slo_class.name, region=region or None
    )

    def amount(kind: str) -> str:
        return f"{round(book.amount_of(kind, now, subject), PRICE_PLACES):f}"

    try:
        return TokenPrices(
            currency=currency or endpoint.tenant.currency,
            input=amount("input_tokens"),
            output=amount("output_tokens"),
            cached=amount("cached_tokens"),
        )
    except MissingPrice:
        return None
