"""The platform's audit, and those of tenants."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.urls import reverse

from portal.pages.audit_shown import download, entry_shown, page_of, search
from portal.pages.base import ConsolePage
from tenants.audit import access
from tenants.models import AuditEntry, Tenant
from tenants.roles import PlatformAction


class AuditPage(ConsolePage):
    """What the pages share: whose chain is read."""

    reason = "show the audit"
    action = PlatformAction.VIEW_AUDIT

    def chosen(self) -> Tenant | None:
        """Give the tenant that the address names; None is the platform."""
        slug = self.request.GET.get("tenant", "")
        if not slug:
            return None
        tenant = Tenant.objects.filter(slug=slug).first()
        if tenant is None:
            raise Http404
        self.told(tenant)
        return tenant

    def told(self, tenant: Tenant) -> None:
        """Tell the tenant's audit that it is read."""
        access(self.request.user, f"audit of tenant {tenant.slug}", reason=self.reason, tenant_id=tenant.id)


class Audit(AuditPage):
    """What was done, the newest first."""

    def get(self, request: HttpRequest) -> HttpResponse:
        tenant = self.chosen()
        kept = {"tenant": tenant.slug} if tenant else {}
        context = page_of(
            search(request, tenant.id if tenant else None),
            reverse("console:audit"),
            lambda entry: reverse("console:audit-entry", args=[entry.id]),
            **kept,
        )
        tenants = [{"slug": slug, "name": name} for slug, name in Tenant.objects.values_list("slug", "name")]
        whose = tenant.name if tenant else "the platform"
        return self.render(
            "audit/list.html",
            {**context, "whose": whose, "tenants": tenants, "chosen": kept.get("tenant", "")},
        )


class AuditExport(AuditPage):
    """What is found, as a file."""

    http_method_names = ["get"]

    def get(self, request: HttpRequest) -> HttpResponseBase:
        tenant = self.chosen()
        tenant_id = tenant.id if tenant else None
        return download(search(request, tenant_id), tenant_id)


class AuditDetail(AuditPage):
    """One entry, before beside after."""

    def get(self, request: HttpRequest, id: str) -> HttpResponse:
        entry = AuditEntry.objects.filter(id=id).first()
        if entry is None:
            raise Http404
        tenant = Tenant.objects.get(id=entry.tenant_id) if entry.tenant_id else None
        url = reverse("console:audit")
        if tenant:
            self.told(tenant)
            url = f"{url}?tenant={tenant.slug}"
        crumbs = [
            {"label": f"Audit of {tenant.name}" if tenant else "Audit", "url": url},
            {"label": f"Number {entry.number}"},
        ]
        return self.render("audit/detail.html", {**entry_shown(entry), "breadcrumbs": crumbs})
