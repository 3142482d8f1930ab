"""The price list: adding to it, and reading it as a book that rates."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Collection
from decimal import Decimal
from typing import Final

from django.db import transaction
from django.utils import timezone

from billing.models import Price
from billing.rating import prices as rating
from billing.rating.rounding import places_of
from tenants import scope
from tenants.errors import Invalid
from tenants.validation import clean

#: Until then a new price may begin in the past: the time a form takes to be sent.
LATE: Final = dt.timedelta(minutes=5)

#: Which selectors a kind of price may carry.
_SELECTORS: Final = {
    Price.Kind.GPU_HOUR: ("gpu_type", "region"),
    Price.Kind.INPUT_TOKENS: ("model", "slo_class"),
    Price.Kind.OUTPUT_TOKENS: ("model", "slo_class"),
    Price.Kind.CACHED_TOKENS: ("model", "slo_class"),
    Price.Kind.CLASS_FACTOR: ("slo_class",),
}


@transaction.atomic
def price_set(
    *,
    kind: str,
    amount: Decimal,
    currency: str,
    effective_from: dt.datetime | None = None,
    gpu_type: str = "",
    region: str = "",
    model: str = "",
    slo_class: str = "",
    note: str = "",
    bootstrap: bool = False,
) -> Price:
    """Add a price that holds from ``effective_from`` (default: now) on and supersedes the one before.

    An empty selector holds for every value. ``bootstrap`` allows a beginning in the past, for the
    first prices of an installation; what was used already is then rated by them.

    Raises:
        Invalid: it begins in the past, does not fit its kind, or one begins at the same moment.
    """
    now = timezone.now()
    price = Price(
        kind=kind,
        amount=amount,
        currency=currency,
        effective_from=effective_from or now,
        gpu_type=gpu_type,
        region=region,
        model=model,
        slo_class=slo_class,
        note=note,
    )
    errors = _complaints(price, earliest=None if bootstrap else now - LATE)
    if errors:
        raise Invalid(next(iter(errors.values())), errors={name: [text] for name, text in errors.items()})
    with scope.platform("add a price"):
        clean(price)
        price.save(force_insert=True)
    return price


def _complaints(price: Price, *, earliest: dt.datetime | None) -> dict[str, str]:
    errors: dict[str, str] = {}
    if price.kind not in Price.Kind.values:
        return {
            "kind": f"{price.kind!r} is not a kind of price; choose one of {', '.join(Price.Kind.values)}."
        }
    allowed = _SELECTORS[Price.Kind(price.kind)]
    for name in ("gpu_type", "region", "model", "slo_class"):
        if getattr(price, name) and name not in allowed:
            errors[name] = (
                f"A price per {price.get_kind_display()} is told apart by {' and '.join(allowed)} only."
            )
    if not isinstance(price.amount, Decimal) or not price.amount.is_finite() or price.amount < 0:
        errors["amount"] = "The amount must be a decimal number of 0 or more."
    try:
        places_of(price.currency)
    except ValueError:
        errors["currency"] = "A currency is three capital letters, for instance EUR."
    if price.effective_from.tzinfo is None:
        errors["effective_from"] = "The time needs a time zone."
    elif earliest and price.effective_from < earliest:
        errors["effective_from"] = "A price cannot begin in the past: what was used then is rated already."
    return errors


def price_book(currency: str) -> PriceBook:
    """Read all prices in ``currency`` as a book; one query."""
    listed = Price.objects.filter(book=None, tenant=None, currency=currency)
    return PriceBook([_rated(price) for price in listed])


class PriceBook(rating.PriceBook):
    """A price book that also knows when prices begin."""

    def __init__(self, prices: list[rating.Price]) -> None:
        super().__init__(prices)
        self._all = prices
        self.price_of = functools.cache(super().price_of)  # type: ignore[method-assign]
        self.begins = functools.cache(self._begins)

    def changes(self, kinds: Collection[rating.PriceKind]) -> set[dt.datetime]:
        """Give the moments at which a price of one of ``kinds`` begins."""
        return {price.effective_from for price in self._all if price.kind in kinds}

    def _begins(self, kind: rating.PriceKind, subject: rating.Subject) -> dt.datetime | None:
        """Give the moment from which ``subject`` always has a price, None if it never has one."""
        found = (each.effective_from for each in self._all if each.kind == kind and each.covers(subject))
        return min(found, default=None)


def _rated(price: Price) -> rating.Price:
    return rating.Price(
        id=str(price.id),
        kind=rating.PriceKind(price.kind),
        amount=price.amount,
        currency=price.currency,
        effective_from=price.effective_from,
        model=price.model or None,
        gpu_type=price.gpu_type or None,
        region=price.region or None,
        slo_class=price.slo_class or None,
    )
