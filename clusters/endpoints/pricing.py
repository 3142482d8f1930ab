"""What an endpoint's GPUs and tokens cost at given prices."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from decimal import Decimal

from billing.rating.prices import MissingPrice, PriceBook
from clusters.models import Endpoint, Revision
from clusters.planning import problem
from gateway.contract import TokenPrices


def held_price(revision: Revision, pools: Iterable[problem.Pool]) -> Decimal:
    """Give the price per hour of what a revision holds, at the prices of ``pools``.

    Where its pool is not for sale any more, the price that it was planned with counts.
    """
    prices = {pool.id: pool.price_per_gpu_hour for pool in pools}
    each = prices.get(str(revision.pool))
    if each is None:
        each = Decimal(revision.plan["configuration"]["price_per_gpu_hour"])
    return each * revision.replicas * revision.gpus_per_replica * revision.price_factor


def token_prices(
    endpoint: Endpoint, book: PriceBook, now: dt.datetime, *, slo_class: str = ""
) -> TokenPrices | None:
    """Give an endpoint's prices per million tokens, None where one of them is missing.

    ``slo_class`` is the name of another class than its own.
    """

    def amount(kind: str) -> str:
        price = book.at(kind, now, model=endpoint.model.name, slo_class=slo_class or endpoint.slo_class.name)
        return f"{price.amount:f}"

    try:
        return TokenPrices(
            currency=endpoint.tenant.currency,
            input=amount("input_tokens"),
            output=amount("output_tokens"),
            cached=amount("cached_tokens"),
        )
    except MissingPrice:
        return None
