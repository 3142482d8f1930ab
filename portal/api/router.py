"""/api/v1: every room's own paths, side by side.

A room has ``api/urls.py`` with ``urlpatterns`` of paths without trailing slash (``path("projects", …)``,
``path("projects/<uuid:id>", …)``, ``path("keys/<uuid:id>:revoke", …)``), whose views stand on
``tenants.api.base``. What no room answers is a JSON 404.
"""

from __future__ import annotations

from django.urls import include, path, re_path

from portal.api.errors import no_such_path
from portal.api.keys import LimitedKeyViewSet
from portal.api.openapi import SchemaView, api_docs
from portal.api.tenant import QuotaView, TenantLimitsView, TenantView

urlpatterns = [
    path("tenant", TenantView.as_view()),
    path("quotas", QuotaView.as_view()),
    path("tenants/<slug:slug>", TenantLimitsView.as_view()),
    path("keys", LimitedKeyViewSet.as_view({"get": "list", "post": "create"})),
    path(
        "keys/<uuid:id>",
        LimitedKeyViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
    ),
    path("keys/<uuid:id>:revoke", LimitedKeyViewSet.as_view({"post": "revoke"})),
    path("", include("tenants.api.urls")),
    path("", include("billing.api.urls")),
    path("", include("clusters.api.urls")),
    path("openapi.json", SchemaView.as_view(), name="openapi"),
    path("docs", api_docs, name="api-docs"),
    re_path(r"^.*$", no_such_path),
]
