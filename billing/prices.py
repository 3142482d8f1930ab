"""Prices: adding them to the list, to a tenant's own or to a book that is tried, and reading them to rate."""

from __future__ import annotations

import contextlib
import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from typing import Final

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from billing.models import Book, Price
from billing.rating import prices as rating
from billing.rating.prices import PriceBook, PriceList
from billing.rating.rounding import places_of
from tenants import scope
from tenants.announcements import announce
from tenants.errors import Invalid
from tenants.models import Tenant
from tenants.validation import clean

#: Until then a new price may begin in the past: the time a form takes to be sent.
LATE: Final = dt.timedelta(minutes=5)
#: From when on a price of a book that is tried holds where none is said: for every month there was.
ALWAYS: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
#: The largest factor of a class, and its decimal places, as those of the factor on GPU time.
MOST_FACTOR: Final = Decimal("999.999")
FACTOR_PLACES: Final = 3
#: What a price may tell apart, besides its kind.
SELECTORS: Final = ("gpu_type", "region", "model", "slo_class")

#: Which selectors a kind of price may carry.
_SELECTORS: Final = {
    Price.Kind.GPU_HOUR: ("gpu_type", "region"),
    Price.Kind.INPUT_TOKENS: ("model", "slo_class", "region"),
    Price.Kind.OUTPUT_TOKENS: ("model", "slo_class", "region"),
    Price.Kind.CACHED_TOKENS: ("model", "slo_class", "region"),
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
    tenant: Tenant | str | None = None,
    book: Book | None = None,
    bootstrap: bool = False,
) -> Price:
    """Add a price that holds from ``effective_from`` (default: now) on and supersedes the one before.

    An empty selector holds for every value. ``tenant`` (or its slug) makes it that tenant's own, ``book``
    one that is only tried: that holds from any time on, by default always. ``bootstrap`` allows a beginning
    in the past, for the first prices of an installation; what was used already is then rated by them.

    Raises:
        Invalid: it begins in the past, does not fit its kind, is in another currency than the tenant's, or
            one begins at the same moment.
    """
    now = timezone.now()
    with scope.platform("find the tenant whose price it is"):
        whose = _tenant(tenant)
    price = Price(
        book=book,
        tenant=whose,
        kind=kind,
        amount=amount,
        currency=currency,
        effective_from=effective_from or (ALWAYS if book else now),
        gpu_type=gpu_type,
        region=region,
        model=model,
        slo_class=slo_class,
        note=note,
    )
    errors = _complaints(price, earliest=None if bootstrap or book else now - LATE)
    if errors:
        raise Invalid(next(iter(errors.values())), errors={name: [text] for name, text in errors.items()})
    with scope.platform("add a price"):
        clean(price)
        price.save(force_insert=True)
    if book is None:
        announce()
    return price


def _complaints(price: Price, *, earliest: dt.datetime | None) -> dict[str, str]:
    errors: dict[str, str] = {}
    if price.kind not in Price.Kind.values:
        return {
            "kind": f"{price.kind!r} is not a kind of price; choose one of {', '.join(Price.Kind.values)}."
        }
    allowed = _SELECTORS[Price.Kind(price.kind)]
    for name in SELECTORS:
        if getattr(price, name) and name not in allowed:
            what = price.get_kind_display().lower()
            errors[name] = f"Prices of kind {what!r} are told apart by {' and '.join(allowed)} only."
    if not isinstance(price.amount, Decimal) or not price.amount.is_finite() or price.amount < 0:
        errors["amount"] = "The amount must be a decimal number of 0 or more."
    elif price.kind == Price.Kind.CLASS_FACTOR and (
        price.amount > MOST_FACTOR or round(price.amount, FACTOR_PLACES) != price.amount
    ):
        errors["amount"] = (
            f"A factor is at most {MOST_FACTOR} and has at most {FACTOR_PLACES} decimal places."
        )
    try:
        places_of(price.currency)
    except ValueError:
        errors["currency"] = "A currency is three capital letters, for instance EUR."
    if price.tenant and price.currency != price.tenant.currency:
        errors.setdefault("currency", f"{price.tenant.name} is charged in {price.tenant.currency}.")
    if price.effective_from.tzinfo is None:
        errors["effective_from"] = "The time needs a time zone."
    elif earliest and price.effective_from < earliest:
        errors["effective_from"] = "A price cannot begin in the past: what was used then is rated already."
    return errors


def _tenant(tenant: Tenant | str | None) -> Tenant | None:
    if not isinstance(tenant, str):
        return tenant
    found = Tenant.objects.filter(slug=tenant).first()
    if found is None:
        raise Invalid("There is no such tenant.", errors={"tenant": [f"There is no tenant {tenant!r}."]})
    return found


def price_book(currency: str, *, tenant_id: uuid.UUID | None = None, book: Book | None = None) -> PriceBook:
    """Read the prices in ``currency`` that hold for a tenant: its own, then the list's; one query.

    Without ``tenant_id`` it is the tenant of the open scope; in the platform's scope and outside any the
    list's prices alone. ``book`` is tried over them: what it prices holds instead.
    """
    tenant_id = tenant_id or _open_tenant()
    return price_books(currency, [tenant_id] if tenant_id else [], book=book)[tenant_id]


def price_books(
    currency: str, tenant_ids: Collection[uuid.UUID], *, book: Book | None = None
) -> Mapping[uuid.UUID | None, PriceBook]:
    """Read what :func:`price_book` reads for many tenants, in one query; None stands for the list's alone.

    Tenants that have no prices of their own share one book, whose look-ups are kept. Call it in the
    platform's scope.
    """
    # A tenant may not read a book that is tried, whoever rates it by one may.
    with scope.platform("rate by a price book that is tried") if book else contextlib.nullcontext():
        rows = list(
            Price.objects.filter(Q(book=None) | Q(book=book) if book else Q(book=None), currency=currency)
            .filter(Q(tenant=None) | Q(tenant__in=tenant_ids))
            .order_by()
            .values_list("book_id", "tenant_id", "id", "kind", "amount", "effective_from", *SELECTORS)
        )
    listed: dict[bool, list[rating.Price]] = {True: [], False: []}
    own: defaultdict[uuid.UUID, dict[bool, list[rating.Price]]] = defaultdict(lambda: {True: [], False: []})
    for book_id, tenant_id, *facts in rows:
        (listed if tenant_id is None else own[tenant_id])[book_id is not None].append(
            _rated(currency, tenant_id, *facts)
        )
    layers = tuple(PriceList(listed[tried]) for tried in (True, False))
    everybody = PriceBook(*layers)
    books: dict[uuid.UUID | None, PriceBook] = {None: everybody}
    for tenant_id in tenant_ids:
        found = own.get(tenant_id)
        books[tenant_id] = (
            PriceBook(found[True], found[False], *layers, tenant=str(tenant_id)) if found else everybody
        )
    return books


def books_of(tenants: Iterable[Tenant]) -> dict[uuid.UUID, PriceBook]:
    """Give the book of each tenant in its currency; one query for each currency. For the platform's scope."""
    by_currency: defaultdict[str, list[uuid.UUID]] = defaultdict(list)
    for tenant in tenants:
        by_currency[tenant.currency].append(tenant.id)
    return {
        tenant_id: book
        for currency, ids in by_currency.items()
        for tenant_id, book in price_books(currency, ids).items()
        if tenant_id
    }


def listed_prices(*, tenant_id: uuid.UUID | None = None) -> QuerySet[Price]:
    """Give the prices that are on the list, and with ``tenant_id`` that tenant's own; none that are only tried."""
    whose = Q(tenant=None) | Q(tenant=tenant_id) if tenant_id else Q(tenant=None)
    return Price.objects.filter(whose, book=None)


def _open_tenant() -> uuid.UUID | None:
    try:
        return scope.current().tenant_id
    except scope.ScopeError:
        return None


def _rated(
    currency: str,
    tenant_id: uuid.UUID | None,
    id: uuid.UUID,
    kind: str,
    amount: Decimal,
    effective_from: dt.datetime,
    *selectors: str,
) -> rating.Price:
    named = {name: value or None for name, value in zip(SELECTORS, selectors, strict=True)}
    return rating.Price(
        id=str(id),
        kind=rating.PriceKind(kind),
        amount=amount,
        currency=currency,
        effective_from=effective_from,
        tenant=str(tenant_id) if tenant_id else None,
        **named,
    )
