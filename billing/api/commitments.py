"""Commitments and credits of the caller's tenant, to read."""

from __future__ import annotations

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from billing.commitments import commitments_use
from billing.credits import CreditState, credit_balances
from billing.models import Commitment, Credit
from tenants.api.base import ReadOnlyTenantViewSet, TenantScoped
from tenants.api.filters import refuse_unknown_parameters
from tenants.roles import Action


class CommitmentSerializer(serializers.ModelSerializer):
    """GPUs that are paid at a rate for every hour, held or not. An empty region stands for every one."""

    class Meta:
        model = Commitment
        fields = [
            "id", "name", "gpu_type", "region", "gpus", "rate", "currency", "starts_at", "ends_at", "created_at",
        ]  # fmt: skip


def _gpu_hours(**options) -> serializers.DecimalField:
    return serializers.DecimalField(max_digits=30, decimal_places=6, **options)


class CommitmentUseSerializer(serializers.Serializer):
    """How a commitment was used so far in the month."""

    commitment = CommitmentSerializer()
    covered = _gpu_hours(help_text="GPU-hours that were held, and cost nothing more.")
    unused = _gpu_hours(help_text="GPU-hours that nobody held; they are paid all the same.")
    percent = serializers.IntegerField(allow_null=True, help_text="Used, 0 to 100.")


class OverflowSerializer(serializers.Serializer):
    """GPU-hours of a committed type beyond the commitments, at list price."""

    gpu_type = serializers.CharField()
    gpu_hours = _gpu_hours()


class CommitmentsUseSerializer(serializers.Serializer):
    """The running month of the tenant's zone, until now."""

    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    results = CommitmentUseSerializer(many=True)
    overflow = OverflowSerializer(many=True)


@extend_schema(tags=["commitments and credits"])
class CommitmentViewSet(ReadOnlyTenantViewSet):
    """What the tenant has committed to, newest first; what has ended stays."""

    model = Commitment
    serializer_class = CommitmentSerializer
    default_role_action = Action.VIEW_COST


@extend_schema(tags=["commitments and credits"])
class CommitmentsUseView(TenantScoped):
    """How commitments were used so far in the running month."""

    default_role_action = Action.VIEW_COST

    @extend_schema(operation_id="commitments_use_retrieve", responses=CommitmentsUseSerializer)
    def get(self, request) -> Response:
        refuse_unknown_parameters(request, [])
        found = commitments_use(now=timezone.now())
        overflow = [{"gpu_type": name, "gpu_hours": hours} for name, hours in found.overflow.items()]
        answer = {"start": found.start, "end": found.end, "results": found.uses, "overflow": overflow}
        return Response(CommitmentsUseSerializer(answer).data)


class CreditSerializer(serializers.ModelSerializer):
    """Money granted to the tenant. used and left count final statements only."""

    used = serializers.DecimalField(source="balance.used", max_digits=20, decimal_places=4)
    left = serializers.DecimalField(source="balance.left", max_digits=20, decimal_places=4)
    state = serializers.ChoiceField(source="balance.state", choices=[each.value for each in CreditState])

    class Meta:
        model = Credit
        fields = [
            "id", "amount", "currency", "reason", "available_from", "expires_at", "used", "left", "state",
            "created_at",
        ]  # fmt: skip


def with_balances(credits: list[Credit]) -> list[Credit]:
    """Put how they stand now beside ``credits``."""
    for balance in credit_balances(credits, now=timezone.now()):
        balance.credit.balance = balance
    return credits


@extend_schema(tags=["commitments and credits"])
class CreditViewSet(ReadOnlyTenantViewSet):
    """Credits granted to the tenant, newest first, with what is left of each."""

    model = Credit
    serializer_class = CreditSerializer
    default_role_action = Action.VIEW_COST

    def list(self, request, *args, **kwargs) -> Response:
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(CreditSerializer(with_balances(page), many=True).data)

    def retrieve(self, request, *args, **kwargs) -> Response:
        return self.shown(CreditSerializer, *with_balances([self.get_object()]))
