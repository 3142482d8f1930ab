"""Statements of all tenants for a month, parked accounts, and letting them be billed again."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final
from urllib.parse import urlencode

from django.core.paginator import Paginator
from django.db.models import Count, Q, QuerySet, Sum
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from billing.documents.downloads import FORMATS, statement_file
from billing.models import BillingAccount, Statement
from billing.statements import account_unpark
from portal.pages.base import ConsolePage
from portal.pages.console.tenants import find_tenant
from tenants.audit import audit
from tenants.models import Tenant
from tenants.roles import PlatformAction

MOST_MONTHS: Final = 24
PER_PAGE: Final = 100
#: More parked accounts than this are counted only: first look at what they have in common.
MOST_PARKED: Final = 50


class Statements(ConsolePage):
    """A month's statements as they were last computed, by tenant."""

    action = PlatformAction.VIEW_MONEY
    reason = "show the statements of all tenants"

    def get(self, request: HttpRequest) -> HttpResponse:
        months = months_until(timezone.now().date())
        month = next((each for each in months if f"{each:%Y-%m}" == request.GET.get("month")), months[1])
        state = request.GET.get("state", "")
        statements = Statement.objects.filter(month=month)
        tenants = Tenant.objects.order_by("name", "slug")
        if state in Statement.State.values:
            tenants = tenants.filter(id__in=statements.filter(state=state).values("tenant"))
        else:
            state = ""
        page = Paginator(tenants, PER_PAGE).get_page(request.GET.get("page"))
        shown = statements.filter(tenant__in=list(page.object_list)).defer("inputs")
        found = {each.tenant_id: each for each in shown}
        parked = BillingAccount.objects.filter(state=BillingAccount.State.PARKED).select_related("tenant")
        here = {"month": f"{month:%Y-%m}", **({"state": state} if state else {})}
        context = {
            "month": month,
            "months": months,
            "state": state,
            "states": Statement.State.choices,
            "totals": _totals(statements),
            "rows": [_row(tenant, found.get(tenant.id)) for tenant in page.object_list],
            "page": page,
            "newer_url": f"?{urlencode({**here, 'page': page.previous_page_number()})}"
            if page.has_previous()
            else "",
            "older_url": f"?{urlencode({**here, 'page': page.next_page_number()})}"
            if page.has_next()
            else "",
            "parked": list(parked.order_by("parked_at")[:MOST_PARKED]),
            "parked_in_all": parked.count(),
        }
        return self.render("console/statements.html", context)


class StatementFile(ConsolePage):
    """One tenant's statement as a file."""

    action = PlatformAction.VIEW_MONEY
    reason = "give an operator a tenant's statement"

    def get(self, request: HttpRequest, id: str, kind: str) -> FileResponse:
        statement = Statement.objects.select_related("tenant").filter(id=id).first()
        if statement is None or kind not in FORMATS:
            raise Http404
        return statement_file(statement, kind)


class Unpark(ConsolePage):
    """Let a parked account be billed again, once an operator has read why it was parked."""

    action = PlatformAction.MANAGE_MONEY
    reason = "let a tenant be billed again"

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        tenant = find_tenant(slug)
        account = BillingAccount.objects.filter(tenant=tenant, state=BillingAccount.State.PARKED).first()
        if account is None:
            raise Http404
        context = {
            "tenant": tenant,
            "account": account,
            "cancel_url": reverse("console:statements"),
            "consequences": [
                f"What stands against it is accepted: {account.reason}",
                "The same reason parks it no more, another one does.",
                "Its statement is closed by the next run once its grace is over.",
            ],
        }
        return self.render("console/unpark.html", context)

    def post(self, request: HttpRequest, slug: str) -> HttpResponse:
        tenant = find_tenant(slug)
        account = account_unpark(tenant=tenant)
        audit(request.user, "billing.unpark", tenant=tenant.slug, accepted=account.accepted)
        self.say(f"The account of {tenant.name} is billed again.")
        return redirect("console:statements")


def months_until(today: dt.date) -> list[dt.date]:
    """Give the month of ``today`` and those before it, newest first."""
    found = [today.replace(day=1)]
    while len(found) < MOST_MONTHS:
        found.append((found[-1] - dt.timedelta(days=1)).replace(day=1))
    return found


def _totals(statements: QuerySet[Statement]) -> list[dict[str, Any]]:
    found = statements.order_by("currency").values_list("currency")
    final = Count("id", filter=Q(state=Statement.State.FINAL))
    sums = found.annotate(Sum("total"), Count("id"), final=final)
    return [
        {"currency": currency, "total": total, "note": f"{final:,} of {of:,} statements are final"}
        for currency, total, of, final in sums
    ]


def _row(tenant: Tenant, statement: Statement | None) -> dict[str, Any]:
    downloads = [
        {"label": form.label, "url": reverse("console:statement-file", args=[statement.id, kind])}
        for kind, form in FORMATS.items()
        if statement
    ]
    return {"tenant": tenant, "statement": statement, "downloads": downloads}
