"""What if: a month of all tenants by a book that is tried, beside what it is charged; one tenant by SKU; as CSV."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final
from urllib.parse import urlencode

from django import forms
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone

from billing.models import Book
from billing.what_if import Rerated, month_rerated, skus_rerated
from portal.pages.base import ConsolePage
from portal.pages.console.tenants import find_tenant
from portal.pages.csv_files import csv_download, csv_text
from tenants.roles import PlatformAction

MOST_MONTHS: Final = 36
#: Tenants that the page shows; the CSV has all.
MOST_SHOWN: Final = 200
HEADER: Final = (
    "tenant", "name", "statement", "number", "currency", "charged", "by_book", "difference", "percent",
)  # fmt: skip


def months(now: dt.datetime) -> list[dt.date]:
    """Give the running month and those before it, newest first."""
    month = now.date().replace(day=1)
    found = []
    while len(found) < MOST_MONTHS:
        found.append(month)
        month = (month - dt.timedelta(days=1)).replace(day=1)
    return found


class RerateForm(forms.Form):
    month = forms.ChoiceField()
    book = forms.ModelChoiceField(Book.objects.none(), empty_label=None)

    def __init__(self, *args: Any, now: dt.datetime, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["book"].queryset = Book.objects.all()
        self.fields["month"].choices = [(f"{each:%Y-%m}", f"{each:%B %Y}") for each in months(now)]


class PriceRerate(ConsolePage):
    """Choose a month and a book; the answer is in the same page, its address holds the choice."""

    action = PlatformAction.VIEW_MONEY
    reason = "rate a month by a price book that is tried"

    def get(self, request: HttpRequest) -> HttpResponse:
        now = timezone.now()
        form = RerateForm(request.GET or None, now=now, initial={"month": f"{months(now)[1]:%Y-%m}"})
        context: dict[str, Any] = {
            "form": form,
            "books": Book.objects.exists(),
            "breadcrumbs": [
                {"label": "Prices", "url": reverse("console:prices")},
                {"label": "Rate a month anew"},
            ],
        }
        if not form.is_valid():
            return self.render("console/price_rerate.html", context, status=422 if form.is_bound else 200)
        month = dt.date.fromisoformat(f"{form.cleaned_data['month']}-01")
        book = form.cleaned_data["book"]
        chosen = {"month": form.cleaned_data["month"], "book": str(book.id)}
        tenant = find_tenant(request.GET["tenant"]) if request.GET.get("tenant") else None
        if tenant:
            rows = skus_rerated(month=month, book=book, tenant=tenant, now=now)
            context |= {
                "tenant": tenant,
                "book": book,
                "month": month,
                "skus": rows,
                "all_url": f"{request.path}?{urlencode(chosen)}",
            }
            return self.render("console/price_rerate_tenant.html", context)
        found = month_rerated(month=month, book=book, now=now)
        if request.GET.get("format") == "csv":
            return csv_download(f"{month:%Y-%m}-by-book.csv", _csv(found))
        context |= {
            "book": book,
            "month": month,
            "totals": found.totals.items(),
            "rows": [
                {"row": row, "url": f"{request.path}?{urlencode(chosen | {'tenant': row.slug})}"}
                for row in found.tenants[:MOST_SHOWN]
            ],
            "tenant_count": len(found.tenants),
            "more": max(0, len(found.tenants) - MOST_SHOWN),
            "csv_url": f"{request.path}?{urlencode(chosen | {'format': 'csv'})}",
        }
        return self.render("console/price_rerate.html", context)


def _csv(found: Rerated) -> str:
    return csv_text(
        HEADER,
        [
            (
                row.slug,
                row.name,
                row.state,
                row.number,
                row.currency,
                row.before,
                row.after,
                row.amount,
                row.percent,
            )
            for row in found.tenants
        ],
    )
