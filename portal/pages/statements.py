"""Statements: what the tenant is charged for a month, line by line."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from itertools import groupby
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from billing.models import Statement, StatementLine
from billing.statements import statement_csv, statement_draft
from portal.pages.base import TenantPage
from portal.pages.csv_files import csv_download
from portal.templatetags.berth import decimals
from tenants.roles import Action

MOST_MONTHS: Final = 24


class StatementPage(TenantPage):
    """What the page and its download share."""

    action = Action.VIEW_COST

    def months(self) -> list[dt.date]:
        """Give the months that have begun since the tenant exists, newest first."""
        zone = ZoneInfo(self.tenant.time_zone)
        month = timezone.now().astimezone(zone).date().replace(day=1)
        first = self.tenant.created_at.astimezone(zone).date().replace(day=1)
        found = []
        while month >= first and len(found) < MOST_MONTHS:
            found.append(month)
            month = (month - dt.timedelta(days=1)).replace(day=1)
        return found

    def statement(self, month: dt.date) -> Statement:
        """Give the statement of a month: the final one as it is, a draft as of now."""
        found = Statement.objects.filter(month=month, state=Statement.State.FINAL).first()
        return found or statement_draft(month=month, now=timezone.now())

    def asked(self, months: list[dt.date], month: str) -> dt.date:
        """Read the month in the path; 404 where there is no statement of it."""
        found = next((each for each in months if f"{each:%Y-%m}" == month), None)
        if found is None:
            raise Http404
        return found


class Statements(StatementPage):
    """The statement of a month, the present one by default, and the way to the others."""

    def get(self, request: HttpRequest, slug: str, month: str = "") -> HttpResponse:
        months = self.months()
        chosen = self.asked(months, month) if month else months[0]
        statement = self.statement(chosen)
        lines = list(statement.lines.select_related("project"))
        kept = {each.month: each for each in Statement.objects.filter(month__in=months)}
        context = {
            "statement": statement,
            "projects": [
                _project(list(group)) for _, group in groupby(lines, key=lambda line: line.project_id)
            ],
            "beside": sum((line.amount for line in lines if not line.charged), Decimal(0)),
            "months": [
                {
                    "month": each,
                    "url": self.url("statement", f"{each:%Y-%m}"),
                    "statement": kept.get(each),
                    "current": each == chosen,
                }
                for each in months
            ],
            "csv_url": self.url("statement-csv", f"{chosen:%Y-%m}"),
        }
        return self.render("tenant/statements/page.html", context)


class StatementCsv(StatementPage):
    """A statement's lines as CSV."""

    def get(self, request: HttpRequest, slug: str, month: str) -> HttpResponse:
        statement = self.statement(self.asked(self.months(), month))
        return csv_download(f"statement-{self.tenant.slug}-{month}.csv", statement_csv(statement))


def _project(lines: list[StatementLine]) -> dict[str, Any]:
    project = lines[0].project
    return {
        "name": project.name,
        "cost_centre": project.cost_centre,
        "charged": sum((line.amount for line in lines if line.charged), Decimal(0)),
        "lines": [{"line": line, "steps": [_step(step) for step in line.how]} for line in lines],
    }


def _step(step: dict[str, Any]) -> dict[str, Any]:
    """Give one product of a line in words: what times which price, over which time."""
    if "missing" in step:
        return {"text": step["missing"], "start": None, "end": None}
    factor = "" if step["factor"] == "1" else f" x {step['factor']}"
    per = "" if step["per"] == 1 else f" per {step['per']:,}"
    quantity = f"{decimals(step['quantity'], 6)} {step['unit']}"
    return {
        "text": f"{quantity} x {step['unit_price']}{per}{factor} = {step['product']}",
        "start": parse_datetime(step["start"]) if step["start"] else None,
        "end": parse_datetime(step["end"]) if step["end"] else None,
    }
