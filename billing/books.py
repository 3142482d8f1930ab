"""Price books that operators try before their prices come into force."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable
from decimal import Decimal

from django.db import transaction
from django.utils import timezone

from billing.models import Book, Price
from billing.prices import ALWAYS, LATE, SELECTORS, price_set
from tenants import scope
from tenants.announcements import announce
from tenants.errors import Invalid
from tenants.models import Tenant
from tenants.validation import clean


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """What came onto the list. ``unchanged`` prices were there already, ``followed`` ones have a later price there."""

    added: tuple[Price, ...]
    unchanged: int
    followed: tuple[Price, ...]


@transaction.atomic
def book_create(*, name: str, note: str = "", copy_live: bool = False) -> Book:
    """Make a book, empty or with a copy of the prices that are in force now.

    Raises:
        Invalid: there is a book of this name, or it has none.
    """
    book = Book(name=name.strip(), note=note.strip())
    with scope.platform("make a price book"):
        clean(book)
        book.save(force_insert=True)
        if copy_live:
            book_copy_live(book=book)
    return book


@transaction.atomic
def book_copy_live(*, book: Book) -> int:
    """Copy into ``book`` each price in force now for what the book does not price; gives how many."""
    with scope.platform("copy the price list into a book"):
        there = {_what(price) for price in book.prices.all()}
        live = _in_force(Price.objects.filter(book=None), timezone.now())
        copies = [
            _copy(price, book=book, effective_from=ALWAYS)
            for what, price in live.items()
            if what not in there
        ]
        Price.objects.bulk_create(copies)
    return len(copies)


@transaction.atomic
def book_price_set(
    *,
    book: Book,
    kind: str,
    amount: Decimal,
    currency: str,
    effective_from: dt.datetime | None = None,
    gpu_type: str = "",
    region: str = "",
    model: str = "",
    slo_class: str = "",
    tenant: Tenant | str | None = None,
    note: str = "",
) -> Price:
    """Set a price of a book, in place of the one for the same thing from the same moment on.

    Raises:
        Invalid: it does not fit its kind, or is in another currency than its tenant's.
    """
    facts = {"kind": kind, "gpu_type": gpu_type, "region": region, "model": model, "slo_class": slo_class}
    with scope.platform("set a price of a book"):
        rows = book.prices.filter(**facts, currency=currency, effective_from=effective_from or ALWAYS)
        whose = {"tenant__slug": tenant} if isinstance(tenant, str) else {"tenant": tenant}
        rows.filter(**whose).delete()
        return price_set(
            book=book,
            amount=amount,
            currency=currency,
            effective_from=effective_from,
            tenant=tenant,
            note=note,
            **facts,
        )


@transaction.atomic
def book_price_remove(*, price: Price) -> None:
    """Take a price out of its book.

    Raises:
        Invalid: it is on the list, where prices are superseded.
    """
    if price.book_id is None:
        raise Invalid("This price is on the list: add one that supersedes it.")
    with scope.platform("take a price out of a book"):
        price.delete()


@transaction.atomic
def book_delete(*, book: Book) -> None:
    """Remove a book with its prices. What was published of it stays on the list."""
    with scope.platform("remove a price book"):
        book.delete()


@transaction.atomic
def book_publish(*, book: Book, effective_from: dt.datetime | None = None) -> Published:
    """Put the prices of ``book`` onto the list (and tenants' own) from ``effective_from`` (default: now) on.

    The price of the book that is in force at that moment begins at it, those that begin later keep their own.
    What costs the same already is left as it is. A price on the list that begins later supersedes the book's:
    those are told as ``followed``.

    Raises:
        Invalid: the moment has passed, a price begins at the very moment already, or the book is empty.
    """
    now = timezone.now()
    moment = effective_from or now
    if moment.tzinfo is None:
        raise Invalid(
            "The time needs a time zone.", errors={"effective_from": ["The time needs a time zone."]}
        )
    if moment < now - LATE:
        text = "Prices cannot begin in the past: what was used then is rated already."
        raise Invalid(text, errors={"effective_from": [text]})
    with scope.platform("publish a price book"):
        tried = list(book.prices.select_related("tenant"))
        if not tried:
            raise Invalid("The book holds no price: add one, or copy the list into it.")
        listed = list(Price.objects.filter(book=None))
        live, unchanged, added = _in_force(listed, moment), 0, []
        for what, price in _in_force(tried, moment).items():
            if what in live and live[what].amount == price.amount:
                unchanged += 1
            else:
                added.append(_copy(price, effective_from=moment))
        added += [
            _copy(price, effective_from=price.effective_from)
            for price in tried
            if price.effective_from > moment
        ]
        for price in added:
            clean(price, identified_by="effective_from")
        Price.objects.bulk_create(added)
        announce()
        last = {_what(price): price.effective_from for price in sorted(added, key=_begin)}
        followed = tuple(
            price for price in listed if _what(price) in last and price.effective_from > last[_what(price)]
        )
    return Published(added=tuple(added), unchanged=unchanged, followed=followed)


def _what(price: Price) -> tuple[object, ...]:
    return (price.kind, price.currency, price.tenant_id, *(getattr(price, name) for name in SELECTORS))


def _begin(price: Price) -> tuple[dt.datetime, str]:
    return price.effective_from, str(price.id)


def _in_force(prices: Iterable[Price], when: dt.datetime) -> dict[tuple[object, ...], Price]:
    """Give the price of each thing that is in force at ``when``."""
    begun = sorted((price for price in prices if price.effective_from <= when), key=_begin)
    return {_what(price): price for price in begun}


def _copy(price: Price, *, effective_from: dt.datetime, book: Book | None = None) -> Price:
    return Price(
        book=book,
        tenant_id=price.tenant_id,
        kind=price.kind,
        amount=price.amount,
        currency=price.currency,
        effective_from=effective_from,
        note=price.note,
        **{name: getattr(price, name) for name in SELECTORS},
    )
