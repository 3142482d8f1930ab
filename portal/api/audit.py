"""For people of the platform: its own audit, and those of tenants."""

from __future__ import annotations

import uuid

import django_filters
from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from clusters.api.operators import OperatorScoped
from tenants.api.audit import FILE, AuditEntrySerializer, AuditViewSet, search_parameters
from tenants.audit import access
from tenants.audit.searching import AuditFilter
from tenants.errors import NotFound
from tenants.models import AuditEntry, Tenant
from tenants.roles import PlatformAction


class PlatformAuditFilter(AuditFilter):
    tenant = django_filters.CharFilter(
        method="by_tenant",
        max_length=40,
        help_text="Slug of the tenant whose audit is read; without it, the platform's.",
    )

    def by_tenant(self, rows: QuerySet, name: str, value: str) -> QuerySet:
        return rows  # whose chain it is, the view has chosen


@extend_schema(tags=["audit"])
class PlatformAuditViewSet(OperatorScoped, AuditViewSet):
    """For people of the platform: what was done on it, or in a tenant, by whom and from where."""

    filterset_class = PlatformAuditFilter
    default_platform_action = PlatformAction.VIEW_AUDIT
    reason = "the audit is read through the REST API"

    def chain(self) -> uuid.UUID | None:
        slug = self.request.query_params.get("tenant", "")
        if not slug:
            return None
        found = Tenant.objects.filter(slug=slug).first() if "\x00" not in slug else None
        if found is None:
            raise NotFound
        self._read(found)
        return found.id

    @extend_schema(operation_id="platform_audit_entries_list", responses=AuditEntrySerializer(many=True))
    def list(self, request) -> Response:
        """Entries of the platform, or of the tenant that is named, the newest first."""
        return super().list(request)

    @extend_schema(operation_id="platform_audit_entries_retrieve", responses=AuditEntrySerializer)
    def retrieve(self, request, id) -> Response:
        """One entry of any chain."""
        entry = AuditEntry.objects.filter(id=id).first()
        if entry is None:
            raise NotFound
        if entry.tenant_id:
            self._read(Tenant.objects.get(id=entry.tenant_id))
        return self.shown(AuditEntrySerializer, entry)

    @extend_schema(
        operation_id="platform_audit_entries_export",
        parameters=[FILE, *search_parameters(PlatformAuditFilter)],
        responses={(200, "application/jsonl"): OpenApiTypes.STR, (200, "text/csv"): OpenApiTypes.STR},
    )
    def export(self, request):
        """What is found as a file, the oldest first. JSON Lines can be verified without Berth."""
        return super().export(request)

    def _read(self, tenant: Tenant) -> None:
        access(self.caller.user, f"audit of tenant {tenant.slug}", reason=self.reason, tenant_id=tenant.id)
