"""For operators: which tenants are billed, which are parked and why, and letting them be billed again."""

from __future__ import annotations

import django_filters
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from billing.models import BillingAccount
from billing.statements import account_park, account_unpark
from clusters.api.operators import OperatorViewSet
from tenants.api.fields import StrictSerializer
from tenants.api.filters import PAGING, refuse_unknown_parameters
from tenants.errors import NotFound
from tenants.models import Tenant
from tenants.roles import PlatformAction


class BillingAccountSerializer(serializers.ModelSerializer):
    """Whether a tenant's statements are closed. ``accepted`` is the reason that was let pass last."""

    tenant = serializers.SlugRelatedField(slug_field="slug", read_only=True)

    class Meta:
        model = BillingAccount
        fields = ["tenant", "state", "reason", "accepted", "parked_at"]


class ParkBody(StrictSerializer):
    """Why nothing more is closed."""

    reason = serializers.CharField(max_length=500, help_text="What to do before it is billed again.")


class BillingAccountFilter(django_filters.FilterSet):
    state = django_filters.ChoiceFilter(choices=BillingAccount.State.choices)


@extend_schema(tags=["statements"])
class BillingAccountViewSet(OperatorViewSet):
    """For operators: accounts. A tenant of which there is no row is billed."""

    default_platform_action = PlatformAction.VIEW_MONEY
    platform_actions = {"park": PlatformAction.MANAGE_MONEY, "unpark": PlatformAction.MANAGE_MONEY}
    model = BillingAccount
    serializer_class = BillingAccountSerializer
    filterset_class = BillingAccountFilter
    reason = "an operator looks at parked accounts through the REST API"

    def rows(self):
        return BillingAccount.objects.select_related("tenant").order_by("-parked_at", "id")

    @extend_schema(responses=BillingAccountSerializer(many=True), operation_id="billing_accounts_list")
    def list(self, request) -> Response:
        """Accounts that were parked once, those that still are first."""
        refuse_unknown_parameters(request, {*PAGING, "state"})
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(BillingAccountSerializer(page, many=True).data)

    @extend_schema(
        request=ParkBody, responses=BillingAccountSerializer, operation_id="tenants_billing_account_park"
    )
    def park(self, request, slug) -> Response:
        """Close no statement of the tenant until it is unparked."""
        account = account_park(tenant=self._tenant(), **self.validated(ParkBody))
        self.audit("billing.park", tenant=slug, reason=account.reason)
        return Response(BillingAccountSerializer(account).data)

    @extend_schema(
        request=None, responses=BillingAccountSerializer, operation_id="tenants_billing_account_unpark"
    )
    def unpark(self, request, slug) -> Response:
        """Let the tenant be billed again. The reason is accepted: the same one parks it no more."""
        account = account_unpark(tenant=self._tenant())
        self.audit("billing.unpark", tenant=slug, accepted=account.accepted)
        return Response(BillingAccountSerializer(account).data)

    def _tenant(self) -> Tenant:
        found = Tenant.objects.filter(slug=self.kwargs["slug"]).first()
        if found is None:
            raise NotFound
        return found
