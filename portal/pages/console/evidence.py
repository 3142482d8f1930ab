"""Evidence about an endpoint, for auditors of the platform."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from portal.pages.base import ConsolePage
from portal.pages.console.endpoints import endpoints_crumb, find_endpoint
from portal.pages.endpoint_evidence import evidence_context, evidence_file, evidence_form
from tenants.audit import access
from tenants.roles import PlatformAction


class EndpointEvidence(ConsolePage):
    """As the tenant's page does; the tenant's audit tells who made it."""

    http_method_names = ["get"]
    reason = "make evidence about an endpoint"
    action = PlatformAction.VIEW_AUDIT

    def get(self, request: HttpRequest, id: Any) -> HttpResponse:
        endpoint = find_endpoint(id)
        access(request.user, f"endpoint {endpoint.name}", reason=self.reason, tenant_id=endpoint.tenant_id)
        form = evidence_form(request)
        if form.is_bound and form.is_valid():
            return evidence_file(endpoint, form, by=self.actor)
        here = reverse("console:endpoint", args=[endpoint.id])
        context = {
            **evidence_context(form, reverse("console:endpoint-evidence", args=[endpoint.id])),
            "endpoint": endpoint,
            "breadcrumbs": [endpoints_crumb(), {"label": endpoint.name, "url": here}, {"label": "Evidence"}],
        }
        return self.render("console/evidence.html", context, status=422 if form.is_bound else 200)
