"""Prices: the list, called ``list``, where they are superseded and never edited; and books that are tried."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any, Final

from django.utils import timezone
from rest_framework.exceptions import ValidationError

from billing.books import book_create, book_delete, book_price_remove, book_price_set
from billing.models import Book, Price
from billing.prices import ALWAYS, SELECTORS, price_set
from portal.api.price_books import PriceBody
from portal.configuration.applier import Applier
from portal.configuration.documents import Document
from portal.configuration.kinds.base import CHANGED, CREATED, LEFT, REMOVED, Done, Kind, Wanted, checked
from portal.configuration.writing import plain
from tenants.api.fields import StrictSerializer
from tenants.errors import Invalid
from tenants.roles import PlatformAction

LIST: Final = "list"
#: What tells prices apart, besides when they begin.
_WHAT: Final = ("tenant", "kind", *SELECTORS, "currency")
_Entry = dict[str, Any]


class PriceBookSpec(StrictSerializer):
    """Prices; one without ``effective_from`` is in force, from the moment on at which it is applied."""

    prices = PriceBody(many=True, max_length=5_000)


class _TheList:
    """The list as an object: it is always there."""

    id, name = None, LIST


class PriceBookKind(Kind):
    name = "PriceBook"
    of_tenants = False
    action = PlatformAction.MANAGE_MONEY
    view = PlatformAction.VIEW_MONEY
    spec_class = PriceBookSpec

    def rows(self) -> Iterable[Any]:
        return [_TheList, *Book.objects.exclude(name=LIST).order_by("name")]

    def find(self, name: str) -> Any | None:
        return _TheList if name == LIST else Book.objects.filter(name=name).first()

    def spec(self, row: Any) -> dict[str, Any]:
        rows = Price.objects.filter(book_id=row.id).select_related("tenant").order_by("effective_from")
        if row is not _TheList:
            return {"prices": _sorted(_entry(each, always=ALWAYS) for each in rows)}
        now = timezone.now()
        held = {_what(_entry(each)): each for each in rows if each.effective_from <= now}
        to_come = [_entry(each) for each in rows if each.effective_from > now]
        return {
            "prices": _sorted(
                [*(_entry(each, always=each.effective_from) for each in held.values()), *to_come]
            )
        }

    def wanted(self, document: Document, row: Any | None) -> Wanted:
        values = checked(self.spec_class, document.spec).validated_data
        prices = [_told(each) for each in values["prices"]]
        keys = [_key(each) for each in prices]
        twice = [number for number, key in enumerate(keys) if key in keys[:number]]
        if twice:
            raise ValidationError({"prices": {twice[0]: ["This price is given twice; leave one out."]}})
        return Wanted(values=values, spec={"prices": _sorted(prices)})

    def after(self, row: Any | None, before: Mapping[str, Any] | None, wanted: Wanted) -> dict[str, Any]:
        if row is not _TheList or before is None:
            return dict(wanted.spec)
        prices = {_key(each): each for each in before["prices"]}
        passed = _passed(wanted)
        for each in wanted.spec["prices"]:
            if _is_superseded(each, passed):
                continue
            there = prices.get(_key(each)) or self._listed(each)
            if there is None or there["amount"] != each["amount"]:
                prices[_key(each)] = each
        return {"prices": _sorted(prices.values())}

    def create(self, document: Document, wanted: Wanted, by: Applier) -> Done:
        book = book_create(name=document.name)
        for values in wanted.values["prices"]:
            book_price_set(book=book, **values)
        return Done(result=CREATED, row=book)

    def change(
        self, row: Any, document: Document, wanted: Wanted, changed: frozenset[str], by: Applier
    ) -> Done:
        there = {_key(each): each for each in self.spec(row)["prices"]}
        passed = _passed(wanted) if row is _TheList else frozenset()
        for number, values in enumerate(wanted.values["prices"]):
            entry = _told(values)
            if _is_superseded(entry, passed):
                continue
            held = there.get(_key(entry))
            if row is _TheList:
                held = held or self._listed(entry)
            elif held != entry:
                book_price_set(book=row, **values)
                continue
            if held is not None and held["amount"] == entry["amount"]:
                continue
            if held is not None and "effective_from" in entry:
                text = (
                    f"A price of {held['amount']} begins at this moment already. Prices on the list are superseded, "
                    "never edited: give this one a later effective_from."
                )
                raise Invalid(text, errors={f"prices.{number}.effective_from": [text]})
            try:
                price_set(**values)
            except Invalid as error:
                errors = {f"prices.{number}.{name}": texts for name, texts in error.errors.items()}
                raise Invalid(error.message, errors=errors) from error
        if row is not _TheList:
            kept = {_key(_told(values)) for values in wanted.values["prices"]}
            for price in row.prices.select_related("tenant"):
                if _key(_entry(price, always=ALWAYS)) not in kept:
                    book_price_remove(price=price)
        return Done(result=CHANGED, row=row)

    def remove(self, row: Any, by: Applier) -> Done:
        if row is _TheList:
            return Done(result=LEFT, row=row, note="Prices on the list are superseded, never removed.")
        book_delete(book=row)
        return Done(result=REMOVED, row=row, note="What was published of it stays on the list.")

    def _listed(self, entry: Mapping[str, Any]) -> _Entry | None:
        """Give the price on the list for the same thing that began at the same moment, however long ago."""
        if "effective_from" not in entry:
            return None
        facts = {name: entry.get(name, "") for name in ("kind", *SELECTORS, "currency")}
        whose = {"tenant__slug": entry["tenant"]} if "tenant" in entry else {"tenant": None}
        begins = dt.datetime.fromisoformat(entry["effective_from"])
        found = Price.objects.filter(book=None, effective_from=begins, **facts, **whose).first()
        return _entry(found) if found else None


def _entry(price: Price, *, always: dt.datetime | None = None) -> _Entry:
    return _told(
        {
            "tenant": price.tenant.slug if price.tenant else "",
            "kind": price.kind,
            **{name: getattr(price, name) for name in SELECTORS},
            "amount": price.amount,
            "currency": price.currency,
            "effective_from": None if price.effective_from == always else price.effective_from,
            "note": price.note,
        }
    )


def _told(values: Mapping[str, Any]) -> _Entry:
    names = ("tenant", "kind", *SELECTORS, "amount", "currency", "effective_from", "note")
    found = {name: values.get(name) for name in names}
    found["tenant"] = getattr(found["tenant"], "slug", found["tenant"])
    return {name: plain(value) for name, value in found.items() if value not in (None, "")}


def _what(entry: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(entry.get(name, "") for name in _WHAT)


def _passed(wanted: Wanted) -> frozenset[tuple[str, ...]]:
    """Give what has prices in a document whose moment has come."""
    now = timezone.now()
    begun = [each for each in wanted.values["prices"] if (at := each.get("effective_from")) and at <= now]
    return frozenset(_what(_told(each)) for each in begun)


def _is_superseded(entry: Mapping[str, Any], passed: frozenset[tuple[str, ...]]) -> bool:
    """Whether a price without a moment was in force only until another of the same document began."""
    return "effective_from" not in entry and _what(entry) in passed


def _key(entry: Mapping[str, Any]) -> tuple[str, ...]:
    return (*_what(entry), entry.get("effective_from", ""))


def _sorted(entries: Iterable[_Entry]) -> list[_Entry]:
    return sorted(entries, key=_key)
