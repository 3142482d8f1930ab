"""Named routes of the tenant with what they save; endpoints that the platform shares."""

from __future__ import annotations

import django_filters
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from billing.api.queries import PeriodQuery
from billing.routes import route_costs
from clusters.api.route_serializers import (
    RouteChange,
    RouteCostsSerializer,
    RouteCreate,
    RouteSerializer,
    SharedEndpointsSerializer,
)
from clusters.endpoints.routes import route_change, route_create, route_delete, target_ids
from clusters.endpoints.shared import shared_endpoints
from clusters.models import NamedRoute
from tenants.api.base import IF_MATCH, EditableTenantViewSet, TenantScoped
from tenants.api.idempotency import idempotent
from tenants.roles import Action


class RouteFilter(django_filters.FilterSet):
    project = django_filters.CharFilter(field_name="project__slug", help_text="Slug of the project.")
    name = django_filters.CharFilter(field_name="name", lookup_expr="iexact")


@extend_schema(tags=["routes"])
class RouteViewSet(EditableTenantViewSet):
    """Names that stand for several endpoints."""

    model = NamedRoute
    serializer_class = RouteSerializer
    project_field = "project"
    filterset_class = RouteFilter
    role_actions = {
        **dict.fromkeys(("create", "partial_update", "destroy"), Action.ORDER),
        "costs": Action.VIEW_COST,
    }

    def rows(self):
        return NamedRoute.objects.select_related("project")

    @extend_schema(request=RouteCreate, responses={201: RouteSerializer})
    @idempotent
    def create(self, request) -> Response:
        wishes = self.validated(RouteCreate)
        return self.created(RouteSerializer, route_create(**wishes, created_by=self.caller.user))

    @extend_schema(request=RouteChange, responses=RouteSerializer, parameters=[IF_MATCH])
    def partial_update(self, request, id) -> Response:
        """Change its name or its rules; gateways follow within a second."""
        wishes = self.validated(RouteChange)
        return self.versioned(route_change(route=self.to_edit(), **wishes))

    @extend_schema(responses={204: None}, parameters=[IF_MATCH])
    def destroy(self, request, id) -> Response:
        """Take it away. Requests by its name are refused from then on; its usage stays."""
        route_delete(route=self.to_edit())
        return Response(status=204)

    @extend_schema(
        parameters=[PeriodQuery], responses=RouteCostsSerializer, operation_id="routes_costs", filters=False
    )
    def costs(self, request, id) -> Response:
        """Its traffic by target at token prices, and what it saved against the dearest of them."""
        route = self.get_object()
        query = PeriodQuery(data=request.query_params.dict())
        query.is_valid(raise_exception=True)
        found = route_costs(route_id=route.id, targets=target_ids(route), **query.validated_data)
        return self.shown(RouteCostsSerializer, found)


@extend_schema(tags=["endpoints"])
class SharedEndpointView(TenantScoped):
    """Endpoints that the platform publishes to every tenant: called with a key of any project, paid by the token."""

    project_field = ""

    @extend_schema(responses=SharedEndpointsSerializer, operation_id="shared_endpoints_list")
    def get(self, request) -> Response:
        return Response(SharedEndpointsSerializer({"results": shared_endpoints()}).data)
