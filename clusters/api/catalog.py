"""What may be ordered, in which classes, and where: the same for all tenants."""

from __future__ import annotations

import django_filters
from django.db.models import Q, QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from clusters.api.serializers import (
    CatalogModelSerializer,
    ProfilesSerializer,
    RegionSerializer,
    SloClassSerializer,
)
from clusters.models import CatalogModel, Region, SloClass
from clusters.planning.profiles import NAMED
from tenants.api.base import ReadOnlyTenantViewSet, TenantScoped
from tenants.api.filters import refuse_unknown_parameters


class CatalogFilter(django_filters.FilterSet):
    search = django_filters.CharFilter(method="matching", help_text="Part of name, title or description.")
    runtime = django_filters.CharFilter(field_name="runtimes", method="holding")
    precision = django_filters.CharFilter(field_name="precisions", method="holding")
    zone = django_filters.CharFilter(method="allowed_in", help_text="Models whose licence allows this zone.")
    min_context_tokens = django_filters.NumberFilter(field_name="context_tokens", lookup_expr="gte")

    def matching(self, rows: QuerySet, name: str, text: str) -> QuerySet:
        return rows.filter(
            Q(name__icontains=text) | Q(title__icontains=text) | Q(description__icontains=text)
        )

    def holding(self, rows: QuerySet, name: str, text: str) -> QuerySet:
        return rows.filter(**{f"{name}__contains": [text]})

    def allowed_in(self, rows: QuerySet, name: str, zone: str) -> QuerySet:
        return rows.filter(Q(allowed_zones=[]) | Q(allowed_zones__contains=[zone]))


@extend_schema(tags=["catalog"])
class CatalogModelViewSet(ReadOnlyTenantViewSet):
    """Models that may be ordered."""

    project_field = ""
    model = CatalogModel
    serializer_class = CatalogModelSerializer
    filterset_class = CatalogFilter
    lookup_field = lookup_url_kwarg = "name"
    page_ordering = "name"

    def rows(self):
        return CatalogModel.objects.filter(published=True).select_related("derived_from")


@extend_schema(tags=["catalog"])
class SloClassViewSet(ReadOnlyTenantViewSet):
    """Classes of service with their targets."""

    project_field = ""
    model = SloClass
    serializer_class = SloClassSerializer
    lookup_field = lookup_url_kwarg = "name"
    page_ordering = "name"


@extend_schema(tags=["catalog"])
class RegionViewSet(ReadOnlyTenantViewSet):
    """Where endpoints may run."""

    project_field = ""
    model = Region
    serializer_class = RegionSerializer
    lookup_field = lookup_url_kwarg = "code"
    page_ordering = "code"


@extend_schema(tags=["catalog"])
class ProfileView(TenantScoped):
    """Named profiles of load."""

    project_field = ""

    @extend_schema(responses=ProfilesSerializer, operation_id="profiles_list")
    def get(self, request) -> Response:
        """Named profiles of load, by which an order may be given. A model shortens what it cannot take."""
        refuse_unknown_parameters(request, [])
        return Response(ProfilesSerializer({"results": NAMED.values()}).data)
