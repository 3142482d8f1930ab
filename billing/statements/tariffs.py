"""The prices of one statement: those that the tenant pays, and the list beside them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable
from decimal import Decimal
from fractions import Fraction

import msgspec
from django.db.models import Q

from billing.charging import Rated, rate_held, rate_used
from billing.models import Price
from billing.quantities import Used
from billing.rating import prices as rating
from billing.rating.charges import Step, shown
from billing.rating.prices import PriceBook, PriceKind
from billing.statements.inputs import HeldTime, Listed, UsedTokens
from billing.statements.lines import QUANTITY_PLACES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rate:
    """What a GPU-second or a token costs in an interval, factor and all: ``exact``.

    ``step`` is the charge of one unit; None where there is no price, which ``missing`` then names.
    """

    kind: PriceKind
    step: Step | None
    missing: str
    exact: Fraction

    @functools.cached_property
    def identity(self) -> tuple[object, ...]:
        """Which price it is, and by which factor."""
        return (self.step.price_id, self.step.factor) if self.step else ()

    @functools.cached_property
    def amount(self) -> tuple[object, ...]:
        """What it comes to, whichever price it is."""
        return (self.step.unit_price, self.step.factor) if self.step else ()

    @functools.cached_property
    def unit_price(self) -> Decimal:
        """The price of a unit with its factor, as a line shows it; 0 without one."""
        if self.step is None:
            return Decimal(0)
        return shown(Fraction(self.step.unit_price) * Fraction(self.step.factor), QUANTITY_PLACES)


class Rates:
    """Looks prices up in a book, each once: tenants of one list ask for the same ones over and over."""

    def __init__(self, book: PriceBook) -> None:
        self.book = book
        self._gpu_time: dict[tuple[object, ...], Rate] = {}
        self._tokens: dict[tuple[object, ...], dict[PriceKind, Rate]] = {}

    def gpu_time(self, row: HeldTime) -> Rate:
        """Give the rate of a GPU-second of ``row``."""
        key = (row.gpu_type, row.region, row.price_factor, row.start, row.end)
        found = self._gpu_time.get(key)
        if found is None:
            one = msgspec.structs.replace(row, gpu_seconds=Decimal(1))
            found = self._gpu_time[key] = _rate(rate_held(self.book, one))
        return found

    def tokens(self, row: UsedTokens | Used) -> dict[PriceKind, Rate]:
        """Give the rate of each kind of token of ``row``."""
        key = (row.model, row.slo_class, row.region, row.start, row.end)
        found = self._tokens.get(key)
        if found is None:
            one_of_each = UsedTokens(
                start=row.start, end=row.end, project_id=row.project_id, endpoint_id=row.endpoint_id,
                model=row.model, slo_class=row.slo_class, region=row.region, requests=1,
                input_tokens=2, cached_tokens=1, output_tokens=1,
            )  # fmt: skip
            found = {rated.kind: _rate(rated) for rated in rate_used(self.book, one_of_each)}
            self._tokens[key] = found
        return found


def _rate(rated: Rated) -> Rate:
    return Rate(kind=rated.kind, step=rated.step, missing=rated.missing, exact=rated.exact)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tariff:
    """``own`` rates what is charged, ``listed`` what it would be at list; one object where there is no difference."""

    own: Rates
    listed: Rates


def tariff_of(prices: Iterable[Listed], tenant_id: uuid.UUID) -> Tariff:
    """Make a tariff of prices that were kept."""
    listed, own = [], []
    for each in prices:
        (own if each.own else listed).append(_price(each, tenant_id))
    at_list = Rates(PriceBook(listed))
    return Tariff(
        own=Rates(PriceBook(own, listed, tenant=str(tenant_id))) if own else at_list, listed=at_list
    )


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
