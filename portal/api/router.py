"""/api/v1: every room's own paths, side by side.

A room has ``api/urls.py`` with ``urlpatterns`` of paths without trailing slash (``path("projects", …)``,
``path("projects/<uuid:id>", …)``, ``path("keys/<uuid:id>:revoke", …)``), whose views stand on
``tenants.api.base``. What no room answers is a JSON 404.
"""

from __future__ import annotations

from django.urls import include, path, re_path

from portal.api.errors import no_such_path
from portal.api.openapi import SchemaView, api_docs
from portal.api.tenant import QuotaView, TenantView

urlpatterns = [
    path("tenant", TenantView.as_view()),
    path("quotas", QuotaView.as_view()),
    path("", include("tenants.api.urls")),
    path("", include("billing.api.urls")),
    path("", include("clusters.api.urls")),
    path("openapi.json", SchemaView.as_view(), name="openapi"),
    path("docs", api_docs, name="api-docs"),
    re_path(r"^.*$", no_such_path),
]
