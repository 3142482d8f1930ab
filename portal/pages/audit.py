"""The tenant's audit: found, read, exported."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase

from portal.pages.audit_shown import download, entry_shown, page_of, search
from portal.pages.base import TenantPage
from tenants.models import AuditEntry
from tenants.roles import Action


class Audit(TenantPage):
    """What was done, the newest first."""

    action = Action.VIEW_AUDIT

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        context = page_of(
            search(request, self.tenant.id),
            self.url("audit"),
            lambda entry: self.url("audit-entry", entry.id),
        )
        return self.render("audit/list.html", {**context, "whose": self.tenant.name})


class AuditExport(TenantPage):
    """What is found, as a file."""

    http_method_names = ["get"]
    action = Action.VIEW_AUDIT

    def get(self, request: HttpRequest, slug: str) -> HttpResponseBase:
        return download(search(request, self.tenant.id), self.tenant.id)


class AuditDetail(TenantPage):
    """One entry, before beside after."""

    action = Action.VIEW_AUDIT

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        entry = AuditEntry.objects.filter(id=id).first()
        if entry is None:
            raise Http404
        crumbs = [{"label": "Audit", "url": self.url("audit")}, {"label": f"Number {entry.number}"}]
        return self.render("audit/detail.html", {**entry_shown(entry), "breadcrumbs": crumbs})
