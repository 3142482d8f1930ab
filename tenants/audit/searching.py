"""Finding entries: one set of filters for pages, the API and exports."""

from __future__ import annotations

import uuid
from typing import Any

import django_filters
from django.db.models import Q, QuerySet

from tenants.models import AuditEntry


class AuditFilter(django_filters.FilterSet):
    """What entries are looked for by; empty ones narrow nothing."""

    since = django_filters.IsoDateTimeFilter(
        "at", lookup_expr="gte", label="From", help_text="At or after this moment."
    )
    until = django_filters.IsoDateTimeFilter(
        "at", lookup_expr="lt", label="Until", help_text="Before this moment."
    )
    actor = django_filters.CharFilter(
        method="by_actor",
        label="Who",
        max_length=200,
        help_text="Name or id of who acted, or on whose behalf.",
    )
    action = django_filters.CharFilter(
        method="by_action", label="Action", max_length=80, help_text="As key.revoke, or key for all of keys."
    )
    target = django_filters.CharFilter(
        method="by_target", label="What", max_length=200, help_text="Id or name of what it was done to."
    )
    request_id = django_filters.CharFilter(label="Request", max_length=64, help_text="Id of the request.")

    class Meta:
        model = AuditEntry
        fields: list[str] = []

    def by_actor(self, rows: QuerySet, name: str, value: str) -> QuerySet:
        return rows.filter(Q(actor_id=value) | Q(actor_name__iexact=value) | Q(on_behalf__iexact=value))

    def by_action(self, rows: QuerySet, name: str, value: str) -> QuerySet:
        return rows.filter(Q(action=value) | Q(action__startswith=f"{value.removesuffix('.')}."))

    def by_target(self, rows: QuerySet, name: str, value: str) -> QuerySet:
        return rows.filter(Q(target_id=value) | Q(target_name__iexact=value))


def chain_rows(tenant_id: uuid.UUID | None) -> QuerySet[AuditEntry]:
    """Give one chain, the newest entries first: a tenant's, or the platform's."""
    return AuditEntry.objects.filter(tenant_id=tenant_id).order_by("-number")


def asked(filters: AuditFilter) -> dict[str, Any]:
    """Give what a search narrows by, as text, for links and for the entry about an export."""
    return {name: str(filters.data[name]) for name in filters.base_filters if filters.data.get(name)}
