"""/api/v1: every room's own paths, side by side.

A room has ``api/urls.py`` with ``urlpatterns`` of paths without trailing slash (``path("projects", …)``,
``path("projects/<uuid:id>", …)``, ``path("keys/<uuid:id>:revoke", …)``), whose views stand on
``tenants.api.base``. What no room answers is a JSON 404.
"""

from __future__ import annotations

from django.urls import include, path, re_path

from portal.api.audit import PlatformAuditViewSet
from portal.api.billing_accounts import BillingAccountViewSet
from portal.api.commitments import TenantCommitmentViewSet, TenantCreditViewSet
from portal.api.configuration import ConfigurationViewSet, PlatformConfigurationViewSet
from portal.api.errors import no_such_path
from portal.api.keys import LimitedKeyViewSet
from portal.api.openapi import SchemaView, api_docs
from portal.api.price_books import BookPriceViewSet, ListPriceViewSet, PriceBookViewSet
from portal.api.price_rerate import PriceBookRerateView
from portal.api.tenant import QuotaView, TenantLimitsView, TenantView

LIST_CREATE = {"get": "list", "post": "create"}

urlpatterns = [
    path("tenant", TenantView.as_view()),
    path("quotas", QuotaView.as_view()),
    path("configuration", ConfigurationViewSet.as_view({"get": "export"})),
    path("configuration:diff", ConfigurationViewSet.as_view({"post": "diff"})),
    path("configuration:apply", ConfigurationViewSet.as_view({"post": "apply"})),
    path("platform/configuration", PlatformConfigurationViewSet.as_view({"get": "export"})),
    path("platform/configuration:diff", PlatformConfigurationViewSet.as_view({"post": "diff"})),
    path("platform/configuration:apply", PlatformConfigurationViewSet.as_view({"post": "apply"})),
    path("platform/audit-entries", PlatformAuditViewSet.as_view({"get": "list"})),
    path("platform/audit-entries/<uuid:id>", PlatformAuditViewSet.as_view({"get": "retrieve"})),
    path("platform/audit-entries:export", PlatformAuditViewSet.as_view({"get": "export"})),
    path("tenants/<slug:slug>", TenantLimitsView.as_view()),
    path("billing-accounts", BillingAccountViewSet.as_view({"get": "list"})),
    path("tenants/<slug:slug>/billing-account:park", BillingAccountViewSet.as_view({"post": "park"})),
    path("tenants/<slug:slug>/billing-account:unpark", BillingAccountViewSet.as_view({"post": "unpark"})),
    path("tenants/<slug:slug>/commitments", TenantCommitmentViewSet.as_view(LIST_CREATE)),
    path("tenants/<slug:slug>/commitments/<uuid:id>", TenantCommitmentViewSet.as_view({"get": "retrieve"})),
    path("tenants/<slug:slug>/commitments/<uuid:id>:end", TenantCommitmentViewSet.as_view({"post": "end"})),
    path("tenants/<slug:slug>/credits", TenantCreditViewSet.as_view(LIST_CREATE)),
    path("tenants/<slug:slug>/credits/<uuid:id>", TenantCreditViewSet.as_view({"get": "retrieve"})),
    path("list-prices", ListPriceViewSet.as_view(LIST_CREATE)),
    path("list-prices/<uuid:id>", ListPriceViewSet.as_view({"get": "retrieve"})),
    path("price-books", PriceBookViewSet.as_view(LIST_CREATE)),
    path("price-books/<uuid:id>", PriceBookViewSet.as_view({"get": "retrieve", "delete": "destroy"})),
    path("price-books/<uuid:id>:copy-list", PriceBookViewSet.as_view({"post": "copy_list"})),
    path("price-books/<uuid:id>:publish", PriceBookViewSet.as_view({"post": "publish"})),
    path("price-books/<uuid:id>/rerate", PriceBookRerateView.as_view()),
    path("price-books/<uuid:id>/prices", PriceBookViewSet.as_view({"get": "prices", "post": "price_set"})),
    path("price-books/prices/<uuid:id>", BookPriceViewSet.as_view({"delete": "destroy"})),
    path("keys", LimitedKeyViewSet.as_view({"get": "list", "post": "create"})),
    path(
        "keys/<uuid:id>",
        LimitedKeyViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
    ),
    path("keys/<uuid:id>:revoke", LimitedKeyViewSet.as_view({"post": "revoke"})),
    path("keys/<uuid:id>:rotate", LimitedKeyViewSet.as_view({"post": "rotate"})),
    path("keys:revoke-many", LimitedKeyViewSet.as_view({"post": "revoke_many"})),
    path("keys:leaked", LimitedKeyViewSet.as_view({"post": "leaked"})),
    path("", include("tenants.api.urls")),
    path("", include("billing.api.urls")),
    path("", include("clusters.api.urls")),
    path("openapi.json", SchemaView.as_view(), name="openapi"),
    path("docs", api_docs, name="api-docs"),
    re_path(r"^.*$", no_such_path),
]
