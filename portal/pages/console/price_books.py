"""Books to try: what they hold, their prices set and taken out, put onto the list, removed."""

from __future__ import annotations

import datetime as dt
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.conf import settings
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from billing.books import (
    book_copy_live,
    book_create,
    book_delete,
    book_price_remove,
    book_price_set,
    book_publish,
)
from billing.models import Book, Price
from billing.prices import ALWAYS, SELECTORS
from portal.pages.base import ConsolePage
from portal.pages.console.forms import ConsoleForm, FormPage, MomentInput
from portal.pages.console.prices import TOKEN_UNIT, UNITS, PriceForm, subject_words
from tenants.audit import audit
from tenants.errors import NotFound
from tenants.roles import PlatformAction


class BookForm(ConsoleForm):
    name = forms.CharField(max_length=80)
    note = forms.CharField(max_length=300, required=False, help_text="What it is to show.")
    copy_live = forms.BooleanField(
        required=False, initial=True, label="Begin with a copy of the prices in force now",
        help_text="Without it the book holds only what you set, and the list holds for everything else.",
    )  # fmt: skip


class BookPriceForm(PriceForm):
    effective_from = forms.DateTimeField(
        required=False, widget=MomentInput(), label="Holds from (UTC)",
        help_text="Empty: always, so that any month can be rated by it.",
    )  # fmt: skip


class PublishForm(ConsoleForm):
    effective_from = forms.DateTimeField(
        required=False, widget=MomentInput(), label="Hold from (UTC)",
        help_text="Empty: from now. Prices of the book that begin later keep their own moment.",
    )  # fmt: skip


class PriceBooks(ConsolePage):
    action = PlatformAction.VIEW_MONEY
    reason = "list price books that are tried"

    def get(self, request: HttpRequest) -> HttpResponse:
        books = Book.objects.annotate(price_count=Count("prices"))
        return self.render(
            "console/price_books.html", {"books": books, "breadcrumbs": [_prices(), {"label": "Books"}]}
        )


class PriceBookDetail(ConsolePage):
    action = PlatformAction.VIEW_MONEY
    reason = "show a price book that is tried"

    def get(self, request: HttpRequest, id: UUID) -> HttpResponse:
        book = find_book(id)
        by_kind: dict[str, list[dict[str, Any]]] = {kind.value: [] for kind in Price.Kind}
        for price in book.prices.select_related("tenant").order_by(*SELECTORS, "effective_from", "id"):
            named = [getattr(price, name) for name in SELECTORS]
            by_kind[price.kind].append(
                {
                    "price": price,
                    "words": subject_words(price.kind, named),
                    "always": price.effective_from == ALWAYS,
                    "change_url": _change_url(book, price),
                }
            )
        context = {
            "book": book,
            "currency": settings.CURRENCY,
            "last_month": f"{timezone.now().replace(day=1) - dt.timedelta(days=1):%Y-%m}",
            "kinds": [
                {
                    "label": kind.label,
                    "unit": UNITS.get(kind, TOKEN_UNIT),
                    "factor": kind == Price.Kind.CLASS_FACTOR,
                    "rows": by_kind[kind.value],
                }
                for kind in Price.Kind
                if by_kind[kind.value]
            ],
            "breadcrumbs": [*_crumbs(), {"label": book.name}],
        }
        return self.render("console/price_book.html", context)


class PriceBookNew(FormPage):
    action = PlatformAction.MANAGE_MONEY
    reason = "make a price book to try"
    form_class = BookForm
    title = "New book"
    lede = "A book holds prices that are only tried: nobody is charged by it, no tenant sees it."
    submit_label = "Make book"

    def crumbs(self) -> list[dict[str, str]]:
        return _crumbs()

    def save(self, form: BookForm) -> HttpResponse:
        book = book_create(**form.cleaned_data)
        audit(self.request.user, "book.create", book=book.name)
        self.say(f"The book {book.name} is made.")
        return redirect("console:price-book", book.id)


class OfBook(FormPage):
    """A form about the book in the path."""

    action = PlatformAction.MANAGE_MONEY

    @property
    def book(self) -> Book:
        return find_book(self.kwargs["id"])

    def crumbs(self) -> list[dict[str, str]]:
        return [
            *_crumbs(),
            {"label": self.book.name, "url": reverse("console:price-book", args=[self.book.id])},
        ]


class PriceBookSet(OfBook):
    reason = "set a price of a book that is tried"
    form_class = BookPriceForm
    title = "Set a price"
    submit_label = "Set price"
    lede = "It takes the place of the book's price for the same thing from the same moment."

    def initial(self) -> dict[str, Any]:
        return {name: self.request.GET[name] for name in PriceForm.base_fields if name in self.request.GET}

    def save(self, form: BookPriceForm) -> HttpResponse:
        price = book_price_set(book=self.book, **form.facts())
        audit(self.request.user, "book.price", book=self.book.name, price=str(price))
        self.say(f"{price} is set in {self.book.name}.")
        return redirect("console:price-book", self.book.id)


class PriceBookPublish(OfBook):
    reason = "put a price book onto the list"
    form_class = PublishForm
    title = "Publish"
    submit_label = "Publish prices"
    lede = (
        "The book's prices supersede those on the list for the same things, for every tenant; those that name a "
        "tenant become its own. What costs the same already stays as it is. It cannot be taken back, only superseded."
    )

    def heading(self) -> str:
        return f"Publish {self.book.name}"

    def save(self, form: PublishForm) -> HttpResponse:
        book = self.book
        done = book_publish(book=book, effective_from=form.cleaned_data["effective_from"])
        audit(self.request.user, "book.publish", book=book.name, added=len(done.added))
        followed = len(done.followed)
        later = f" {followed} on the list begin later and will supersede them." if followed else ""
        self.say(f"{len(done.added)} prices are on the list; {done.unchanged} were there already.{later}")
        return redirect("console:prices")


class PriceBookCopy(ConsolePage):
    action = PlatformAction.MANAGE_MONEY
    reason = "copy the price list into a book that is tried"

    def post(self, request: HttpRequest, id: UUID) -> HttpResponse:
        book = find_book(id)
        copied = book_copy_live(book=book)
        self.say(
            f"{copied} prices were copied from the list." if copied else "The book prices all of it already."
        )
        return redirect("console:price-book", book.id)


class PriceBookRemove(ConsolePage):
    """Takes one price out of its book."""

    action = PlatformAction.MANAGE_MONEY
    reason = "take a price out of a book that is tried"

    def post(self, request: HttpRequest, id: UUID, price_id: UUID) -> HttpResponse:
        book = find_book(id)
        price = book.prices.filter(id=price_id).first()
        if price is None:
            raise NotFound("The book holds no such price.")
        book_price_remove(price=price)
        self.say(f"{price} is out of the book; the list holds for it again.")
        return redirect("console:price-book", book.id)


class PriceBookDelete(ConsolePage):
    action = PlatformAction.MANAGE_MONEY
    reason = "remove a price book that was tried"

    def get(self, request: HttpRequest, id: UUID) -> HttpResponse:
        book = find_book(id)
        context = {
            "book": book,
            "consequences": [
                f"Its {book.prices.count()} prices go with it.",
                "What was published of it stays on the list.",
            ],
            "cancel_url": reverse("console:price-book", args=[book.id]),
            "breadcrumbs": [*_crumbs(), {"label": book.name}],
        }
        return self.render("console/price_book_delete.html", context)

    def post(self, request: HttpRequest, id: UUID) -> HttpResponse:
        book = find_book(id)
        book_delete(book=book)
        audit(request.user, "book.delete", book=book.name)
        self.say(f"The book {book.name} is removed.")
        return redirect("console:price-books")


def find_book(id: UUID) -> Book:
    """Find a book that is tried.

    Raises:
        NotFound: there is none.
    """
    book = Book.objects.filter(id=id).first()
    if book is None:
        raise NotFound("There is no such price book.")
    return book


def _change_url(book: Book, price: Price) -> str:
    named = {name: getattr(price, name) for name in SELECTORS} | {
        "kind": price.kind,
        "tenant": price.tenant.slug if price.tenant else "",
        "effective_from": "" if price.effective_from == ALWAYS else f"{price.effective_from:%Y-%m-%dT%H:%M}",
        "amount": f"{price.amount.normalize():f}",
    }
    query = urlencode({name: value for name, value in named.items() if value})
    return f"{reverse('console:price-book-set', args=[book.id])}?{query}"


def _prices() -> dict[str, str]:
    return {"label": "Prices", "url": reverse("console:prices")}


def _crumbs() -> list[dict[str, str]]:
    return [_prices(), {"label": "Books", "url": reverse("console:price-books")}]
