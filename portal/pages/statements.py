"""Statements: what the tenant is charged for a month, line by line, and the files in which it can be had."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.utils import timezone

from billing.documents.contents import charged, contents_of
from billing.documents.downloads import FORMATS, statement_file
from billing.documents.months import month_statement
from billing.documents.targets import targets_of
from billing.models import BillingAccount, Statement, StatementLine
from portal.pages.base import TenantPage
from portal.pages.statement_shown import page_of
from tenants.roles import Action


class StatementPage(TenantPage):
    """What the pages of statements share."""

    action = Action.VIEW_COST

    def running(self) -> dt.date:
        """Give the month that runs, in the tenant's zone."""
        return timezone.localdate().replace(day=1)

    def asked(self, month: str) -> dt.date:
        """Read the month in the path; 404 where it is none, or has not begun."""
        try:
            found = dt.date.fromisoformat(f"{month}-01")
        except ValueError:
            raise Http404 from None
        if found > self.running():
            raise Http404
        return found

    def downloads(self, month: dt.date) -> list[dict[str, str]]:
        """Give the files of a month's statement: what each is called and where it is."""
        return [
            {"label": form.label, "url": self.url("statement-file", f"{month:%Y-%m}", kind)}
            for kind, form in FORMATS.items()
        ]

    def parked(self) -> bool:
        """Say whether nothing is closed because something does not add up."""
        return BillingAccount.objects.filter(state=BillingAccount.State.PARKED).exists()


class Statements(StatementPage):
    """The months and what each came to; the one that runs as it stands now."""

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        month_statement(month=self.running(), now=timezone.now())
        rows = [
            {
                "statement": statement,
                "url": self.url("statement", f"{statement.month:%Y-%m}"),
                "downloads": self.downloads(statement.month),
            }
            for statement in Statement.objects.defer("inputs")
        ]
        return self.render("tenant/statements/list.html", {"rows": rows, "parked": self.parked()})


class StatementOfMonth(StatementPage):
    """The statement of one month, a page of its lines at a time."""

    def get(self, request: HttpRequest, slug: str, month: str) -> HttpResponse:
        asked = self.asked(month)
        statement = month_statement(month=asked, now=timezone.now())
        contents = contents_of(statement.lines.all())
        page, sections = page_of(contents, request.GET.get("page"), lambda id: self.url("endpoint-cost", id))
        idle = [line for line in contents.lines if line.kind == StatementLine.Kind.IDLE_GPU_TIME]
        beside = sum((line.amount for line in contents.beside), Decimal(0))
        address = self.url("statement", f"{asked:%Y-%m}")
        context: dict[str, Any] = {
            "statement": statement,
            "contents": contents,
            "sections": sections,
            "page": page,
            "idle": charged(idle),
            "beside": beside,
            "targets": targets_of(statement),
            "downloads": self.downloads(asked),
            "parked": statement.state != Statement.State.FINAL and self.parked(),
            "newer_url": f"{address}?page={page.previous_page_number()}" if page.has_previous() else "",
            "older_url": f"{address}?page={page.next_page_number()}" if page.has_next() else "",
            "breadcrumbs": [
                {"label": "Statements", "url": self.url("statements")},
                {"label": f"{asked:%B %Y}"},
            ],
        }
        return self.render("tenant/statements/page.html", context)


class StatementFile(StatementPage):
    """A month's statement as a file."""

    def get(self, request: HttpRequest, slug: str, month: str, kind: str) -> FileResponse:
        if kind not in FORMATS:
            raise Http404
        return statement_file(month_statement(month=self.asked(month), now=timezone.now()), kind)
