"""Prices and allocations of the caller's tenant, to read."""

from __future__ import annotations

import django_filters
from drf_spectacular.utils import extend_schema

from billing.api.serializers import AllocationSerializer, PriceSerializer
from billing.models import Allocation, Price
from billing.prices import listed_prices
from tenants import scope
from tenants.api.base import ReadOnlyTenantViewSet
from tenants.api.filters import TrueOrFalseFilter
from tenants.models import Tenant
from tenants.roles import Action


def _tenant() -> Tenant:
    return Tenant.objects.get(id=scope.current_tenant_id())


class PriceFilter(django_filters.FilterSet):
    kind = django_filters.ChoiceFilter(choices=Price.Kind.choices)
    model = django_filters.CharFilter()
    gpu_type = django_filters.CharFilter()


@extend_schema(tags=["usage and cost"])
class PriceViewSet(ReadOnlyTenantViewSet):
    """The prices that hold for the tenant in its currency, with what was and what will be: the list's and its own."""

    model = Price
    serializer_class = PriceSerializer
    filterset_class = PriceFilter
    default_role_action = Action.VIEW_COST

    def rows(self):
        tenant = _tenant()
        return listed_prices(tenant_id=tenant.id).filter(currency=tenant.currency)


class AllocationFilter(django_filters.FilterSet):
    endpoint_id = django_filters.UUIDFilter()
    held = TrueOrFalseFilter(
        field_name="ended_at",
        lookup_expr="isnull",
        help_text="true: only GPUs held now; false: only released.",
    )


@extend_schema(tags=["usage and cost"])
class AllocationViewSet(ReadOnlyTenantViewSet):
    """Intervals in which replicas held GPUs."""

    model = Allocation
    serializer_class = AllocationSerializer
    filterset_class = AllocationFilter
    default_role_action = Action.VIEW_COST
