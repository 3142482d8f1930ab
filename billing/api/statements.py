"""Statements of the caller's tenant: months, lines, files."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import django_filters
from django.http import FileResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import mixins
from rest_framework.response import Response

from billing.api.queries import MonthQuery
from billing.api.statement_serializers import (
    StatementDetailSerializer,
    StatementLineSerializer,
    StatementSerializer,
)
from billing.documents.contents import contents_of
from billing.documents.downloads import FORMATS, statement_file
from billing.documents.months import month_statement
from billing.models import Statement, StatementLine
from tenants import scope
from tenants.api.base import TenantViewSet
from tenants.api.filters import TrueOrFalseFilter
from tenants.errors import NotFound
from tenants.models import Tenant
from tenants.roles import Action


def file_schema(kind: str):
    """Describe the answer of a download."""
    media_type = FORMATS[kind].media_type.partition(";")[0]
    text = OpenApiTypes.STR if media_type.startswith("text/") else OpenApiTypes.BINARY
    return extend_schema(responses={(200, media_type): text})


class StatementFilter(django_filters.FilterSet):
    state = django_filters.ChoiceFilter(choices=Statement.State.choices)


class StatementLineFilter(django_filters.FilterSet):
    kind = django_filters.MultipleChoiceFilter(choices=StatementLine.Kind.choices)
    charged = TrueOrFalseFilter()
    correction = TrueOrFalseFilter()
    project_id = django_filters.UUIDFilter()
    endpoint_id = django_filters.UUIDFilter()


def detailed(statement: Statement) -> Statement:
    """Put beside ``statement`` what its total is made of and how many lines it has."""
    lines = list(statement.lines.defer("how"))
    parts = contents_of(lines).summary
    statement.summary = [{"label": label, "amount": amount} for label, amount in parts]
    statement.line_count = len(lines)
    return statement


@extend_schema(tags=["statements"])
class StatementViewSet(mixins.ListModelMixin, TenantViewSet):
    """Monthly statements. A draft is what the month comes to so far."""

    model = Statement
    serializer_class = StatementSerializer
    filterset_class = StatementFilter
    page_ordering = "-month"
    default_role_action = Action.VIEW_COST

    def rows(self):
        return Statement.objects.defer("inputs")

    @extend_schema(responses=StatementDetailSerializer)
    def retrieve(self, request, id) -> Response:
        """One statement and what its total is made of."""
        return self.shown(StatementDetailSerializer, detailed(self.get_object()))

    @extend_schema(parameters=[MonthQuery], responses=StatementDetailSerializer)
    def current(self, request) -> Response:
        """The running month as it stands now, or the month asked for; a final statement as it is."""
        query = MonthQuery(data=request.query_params.dict())
        query.is_valid(raise_exception=True)
        now = timezone.now()
        tenant = Tenant.objects.get(id=scope.current_tenant_id())
        month = query.validated_data.get("month") or now.astimezone(ZoneInfo(tenant.time_zone)).date()
        return self.shown(StatementDetailSerializer, detailed(month_statement(month=month, now=now)))

    @file_schema("pdf")
    def pdf(self, request, id) -> FileResponse:
        """The statement as PDF, to file and to sign."""
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


@extend_schema(tags=["statements"])
class StatementLineViewSet(mixins.ListModelMixin, TenantViewSet):
    """The lines of one statement in their order, a page at a time."""

    model = StatementLine
    serializer_class = StatementLineSerializer
    filterset_class = StatementLineFilter
    page_ordering = "position"
    default_role_action = Action.VIEW_COST

    def rows(self):
        # A statement that is not there is told from one without lines.
        if not Statement.objects.filter(id=self.kwargs["id"]).exists():
            raise NotFound
        return StatementLine.objects.filter(statement=self.kwargs["id"])
