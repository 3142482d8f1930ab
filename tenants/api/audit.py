"""The audit of the caller's tenant: found, read, exported."""

from __future__ import annotations

import io
import tempfile
import uuid
from typing import Final

from django.http import FileResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers

from tenants.api.base import ReadOnlyTenantViewSet
from tenants.api.filters import refuse_unknown_parameters
from tenants.audit.exporting import FORMATS, export_rows
from tenants.audit.searching import AuditFilter, asked, chain_rows
from tenants.audit.writing import note
from tenants.errors import Invalid
from tenants.models import AuditEntry, Tenant
from tenants.roles import Action

IN_MEMORY: Final = 4 * 2**20
FILE: Final = OpenApiParameter(
    "file", str, enum=sorted(FORMATS), default="jsonl", description="Which kind of file."
)


def search_parameters(filters: type[AuditFilter]) -> list[OpenApiParameter]:
    """Describe what ``filters`` narrow by."""
    return [
        OpenApiParameter(
            name,
            OpenApiTypes.DATETIME if name in ("since", "until") else str,
            description=each.extra["help_text"],
        )
        for name, each in filters.base_filters.items()
    ]


class AuditEntrySerializer(serializers.ModelSerializer):
    """What was done. ``before`` and ``after`` are what changed of a row, ``facts`` what an act says of itself.

    ``number`` is its place in the chain; ``hash`` is over all of it and ``previous``, the hash of the entry before.
    """

    class Meta:
        model = AuditEntry
        fields = [
            "id", "number", "at", "action", "actor_kind", "actor_id", "actor_name", "on_behalf", "address",
            "user_agent", "request_id", "target_kind", "target_id", "target_name", "before", "after", "facts",
            "previous", "hash",
        ]  # fmt: skip
        read_only_fields = fields


@extend_schema(tags=["audit"])
class AuditViewSet(ReadOnlyTenantViewSet):
    """What was done in the tenant, by whom and from where; nobody can change or remove any of it."""

    model = AuditEntry
    serializer_class = AuditEntrySerializer
    filterset_class = AuditFilter
    page_ordering = "-number"
    default_role_action = Action.VIEW_AUDIT

    def chain(self) -> uuid.UUID | None:
        """Give whose chain is read; None is the platform's."""
        return self.caller.tenant_id

    def rows(self):
        return chain_rows(self.chain())

    @extend_schema(
        parameters=[FILE, *search_parameters(AuditFilter)],
        responses={(200, "application/jsonl"): OpenApiTypes.STR, (200, "text/csv"): OpenApiTypes.STR},
    )
    def export(self, request) -> FileResponse:
        """What is found as a file, the oldest first. JSON Lines can be verified without Berth."""
        refuse_unknown_parameters(request, ["file", *self.filterset_class.base_filters])
        kind = request.query_params.get("file", "jsonl")
        if kind not in FORMATS:
            raise Invalid(
                f"There is no file {kind!r}; choose {' or '.join(sorted(FORMATS))}.",
                errors={"file": ["Choose one of the kinds."]},
            )
        filters = self.filterset_class(request.query_params, queryset=self.rows())
        if not filters.is_valid():
            raise serializers.ValidationError(filters.errors)
        return audit_file(filters, kind=kind, tenant_id=self.chain())


def audit_file(filters: AuditFilter, *, kind: str, tenant_id: uuid.UUID | None) -> FileResponse:
    """Answer with what is found as a file of one of ``FORMATS``, written whole while the scope is open.

    Raises:
        Invalid: it is more than one file takes.
    """
    out = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115  # the response closes it
    FORMATS[kind].write(export_rows(filters.qs), out)
    size = out.tell()
    out.seek(io.SEEK_SET)
    slug = Tenant.objects.values_list("slug", flat=True).get(id=tenant_id) if tenant_id else "platform"
    note("audit.export", tenant_id=tenant_id, facts={"file": kind, **asked(filters)})
    answer = FileResponse(
        out, as_attachment=True, filename=f"audit-{slug}.{kind}", content_type=FORMATS[kind].media_type
    )
    answer["Content-Length"] = size
    return answer
