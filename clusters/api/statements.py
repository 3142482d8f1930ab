"""Statements of all tenants, for operators to read."""

from __future__ import annotations

import django_filters
from django.http import FileResponse
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers
from rest_framework.response import Response

from billing.api.statement_serializers import StatementDetailSerializer, StatementSerializer
from billing.api.statements import detailed, file_schema
from billing.documents.downloads import statement_file
from billing.models import Statement
from clusters.api.operators import OperatorViewSet
from tenants.roles import PlatformAction


class TenantStatementSerializer(StatementSerializer):
    """A tenant's statement."""

    tenant = serializers.SlugRelatedField(slug_field="slug", read_only=True)

    class Meta(StatementSerializer.Meta):
        fields = [*StatementSerializer.Meta.fields, "tenant"]


class TenantStatementDetailSerializer(StatementDetailSerializer):
    """A tenant's statement, what its total is made of, and how many lines it has."""

    tenant = serializers.SlugRelatedField(slug_field="slug", read_only=True)

    class Meta(StatementDetailSerializer.Meta):
        fields = [*StatementDetailSerializer.Meta.fields, "tenant"]


class TenantStatementFilter(django_filters.FilterSet):
    tenant = django_filters.CharFilter(field_name="tenant__slug", help_text="Slug of the tenant.")
    month = django_filters.DateFilter(input_formats=["%Y-%m"], help_text="YYYY-MM")
    state = django_filters.ChoiceFilter(choices=Statement.State.choices)


@extend_schema(tags=["statements"])
class TenantStatementViewSet(mixins.ListModelMixin, OperatorViewSet):
    """Statements across tenants, as they were last computed."""

    default_platform_action = PlatformAction.VIEW_MONEY
    model = Statement
    serializer_class = TenantStatementSerializer
    filterset_class = TenantStatementFilter
    reason = "an operator reads statements through the REST API"

    def rows(self):
        return Statement.objects.select_related("tenant").defer("inputs")

    @extend_schema(responses=TenantStatementDetailSerializer)
    def retrieve(self, request, id) -> Response:
        """One statement and what its total is made of."""
        return self.shown(TenantStatementDetailSerializer, detailed(self.get_object()))

    @file_schema("pdf")
    def pdf(self, request, id) -> FileResponse:
        """The statement as PDF."""
        return statement_file(self.get_object(), "pdf")

    @file_schema("csv")
    def csv(self, request, id) -> FileResponse:
        """The lines as CSV, for spreadsheets."""
        return statement_file(self.get_object(), "csv")

    @file_schema("focus.csv")
    def focus_csv(self, request, id) -> FileResponse:
        """The charges in FOCUS 1.2, as CSV."""
        return statement_file(self.get_object(), "focus.csv")

    @file_schema("focus.parquet")
    def focus_parquet(self, request, id) -> FileResponse:
        """The charges in FOCUS 1.2, as Parquet."""
        return statement_file(self.get_object(), "focus.parquet")
