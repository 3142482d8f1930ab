"""For operators: what they agree on with a tenant. Its commitments, and credits granted to it."""

from __future__ import annotations

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from billing.api.commitments import CommitmentSerializer, CreditSerializer, with_balances
from billing.commitments import MOST_GPUS, commitment_create, commitment_end_early
from billing.credits import credit_grant
from billing.models import Commitment, Credit
from clusters.api.operators import OperatorViewSet
from clusters.models import GpuType, Region
from tenants.api.fields import MomentField, ReferenceField, StrictSerializer
from tenants.api.filters import PAGING, refuse_unknown_parameters
from tenants.api.idempotency import idempotent
from tenants.errors import NotFound
from tenants.models import Tenant
from tenants.roles import PlatformAction


class AgreedCommitmentSerializer(CommitmentSerializer):
    """A commitment as operators see it."""

    class Meta(CommitmentSerializer.Meta):
        fields = [*CommitmentSerializer.Meta.fields, "note"]


class CommitmentBody(StrictSerializer):
    """What is agreed. The currency is the tenant's; without region it holds in every one."""

    name = serializers.CharField(max_length=80)
    gpu_type = ReferenceField(find=lambda: GpuType.objects.all(), by="name", what="GPU type")
    region = ReferenceField(find=lambda: Region.objects.all(), by="code", what="region", required=False)
    gpus = serializers.IntegerField(min_value=1, max_value=MOST_GPUS)
    rate = serializers.DecimalField(
        max_digits=20, decimal_places=10, min_value=0, help_text="For each GPU-hour, held or not."
    )
    starts_at = MomentField(help_text="In the tenant's running month, or later.")
    ends_at = MomentField()
    note = serializers.CharField(
        max_length=200, required=False, help_text="For operators; tenants do not see it."
    )


class CommitmentEnd(StrictSerializer):
    """When it ends."""

    ends_at = MomentField(help_text="Earlier than agreed, and not in the past.")


class CreditBody(StrictSerializer):
    """What is granted, in the tenant's currency."""

    amount = serializers.DecimalField(max_digits=20, decimal_places=4)
    reason = serializers.CharField(max_length=200, help_text="The tenant's statements show it.")
    available_from = MomentField(required=False, help_text="Default: now.")
    expires_at = MomentField(required=False, help_text="Default: never.")


class OfTenantViewSet(OperatorViewSet):
    """Rows of the tenant that the path names by its slug."""

    default_platform_action = PlatformAction.VIEW_MONEY
    platform_actions = {"create": PlatformAction.MANAGE_MONEY}
    reason = "an operator keeps what is agreed with a tenant through the REST API"

    def tenant(self) -> Tenant:
        """Give the tenant in the path.

        Raises:
            NotFound: there is none.
        """
        found = Tenant.objects.filter(slug=self.kwargs["slug"]).first()
        if found is None:
            raise NotFound
        return found

    def rows(self) -> QuerySet:
        return self.model._default_manager.filter(tenant=self.tenant())


@extend_schema(tags=["commitments and credits"])
class TenantCommitmentViewSet(OfTenantViewSet):
    """For operators: a tenant's commitments."""

    platform_actions = {**OfTenantViewSet.platform_actions, "end": PlatformAction.MANAGE_MONEY}
    model = Commitment
    serializer_class = AgreedCommitmentSerializer

    @extend_schema(responses=AgreedCommitmentSerializer(many=True), operation_id="tenants_commitments_list")
    def list(self, request, slug) -> Response:
        """A tenant's commitments, newest first."""
        refuse_unknown_parameters(request, PAGING)
        page = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response(AgreedCommitmentSerializer(page, many=True).data)

    @extend_schema(responses=AgreedCommitmentSerializer, operation_id="tenants_commitments_retrieve")
    def retrieve(self, request, slug, id) -> Response:
        """One commitment."""
        return self.shown(AgreedCommitmentSerializer, self.get_object())

    @extend_schema(
        request=CommitmentBody,
        responses={201: AgreedCommitmentSerializer},
        operation_id="tenants_commitments_create",
    )
    @idempotent
    def create(self, request, slug) -> Response:
        """Agree on a commitment with the tenant."""
        tenant, body = self.tenant(), self.validated(CommitmentBody)
        region = body.pop("region", None)
        body["gpu_type"] = body["gpu_type"].name
        made = commitment_create(tenant=tenant, region=region.code if region else "", **body)
        self.audit("commitment.create", tenant=tenant.slug, commitment=str(made.id), gpus=made.gpus)
        return self.created(AgreedCommitmentSerializer, made)

    @extend_schema(
        request=CommitmentEnd, responses=AgreedCommitmentSerializer, operation_id="tenants_commitments_end"
    )
    @idempotent
    def end(self, request, slug, id) -> Response:
        """Let a commitment end earlier than agreed. What it covered until then stays."""
        ended = commitment_end_early(commitment=self.get_object(), **self.validated(CommitmentEnd))
        self.audit("commitment.end", tenant=slug, commitment=str(ended.id), ends_at=ended.ends_at.isoformat())
        return self.shown(AgreedCommitmentSerializer, ended)


@extend_schema(tags=["commitments and credits"])
class TenantCreditViewSet(OfTenantViewSet):
    """For operators: credits granted to a tenant."""

    model = Credit
    serializer_class = CreditSerializer

    @extend_schema(responses=CreditSerializer(many=True), operation_id="tenants_credits_list")
    def list(self, request, slug) -> Response:
        """A tenant's credits, newest first, with what is left of each."""
        refuse_unknown_parameters(request, PAGING)
        page = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response(CreditSerializer(with_balances(page), many=True).data)

    @extend_schema(responses=CreditSerializer, operation_id="tenants_credits_retrieve")
    def retrieve(self, request, slug, id) -> Response:
        """One credit."""
        return self.shown(CreditSerializer, *with_balances([self.get_object()]))

    @extend_schema(
        request=CreditBody, responses={201: CreditSerializer}, operation_id="tenants_credits_create"
    )
    @idempotent
    def create(self, request, slug) -> Response:
        """Grant the tenant a credit. A grant is never edited."""
        tenant = self.tenant()
        made = credit_grant(tenant=tenant, **self.validated(CreditBody))
        self.audit("credit.grant", tenant=tenant.slug, credit=str(made.id), amount=f"{made.amount:f}")
        return self.created(CreditSerializer, *with_balances([made]))
