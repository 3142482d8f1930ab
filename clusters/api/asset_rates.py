"""What GPUs cost their owner, for operators: rates that follow each other and are never edited."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.response import Response

from billing.gpu_time.rates import asset_rate_set
from billing.models import AssetRate
from clusters.api.operators import OperatorViewSet
from clusters.models import Cluster, GpuType
from tenants.api.fields import MomentField, StrictSerializer
from tenants.api.filters import PAGING, refuse_unknown_parameters
from tenants.api.idempotency import idempotent
from tenants.roles import PlatformAction


class AssetRateSerializer(serializers.ModelSerializer):
    """A rate per GPU-hour. A blank cluster or GPU type holds for every one; the rate that names more wins."""

    class Meta:
        model = AssetRate
        fields = ["id", "cluster", "gpu_type", "amount", "currency", "effective_from", "note", "created_at"]


class AssetRateBody(StrictSerializer):
    """A rate to add."""

    amount = serializers.DecimalField(
        min_value=0, max_digits=20, decimal_places=10, help_text="For an hour of one whole GPU."
    )
    currency = serializers.CharField(
        max_length=3, required=False, help_text="Left out: the installation's currency."
    )
    effective_from = MomentField(
        required=False, help_text="Left out: now. It may lie in the past: hours since then are computed anew."
    )
    cluster = serializers.SlugRelatedField(
        slug_field="name",
        queryset=Cluster.objects.present(),
        required=False,
        help_text="Left out: every one.",
    )
    gpu_type = serializers.SlugRelatedField(
        slug_field="name", queryset=GpuType.objects.all(), required=False,
        help_text="Left out: every one. A rate of a whole GPU holds for its MIG parts, by their share of it.",
    )  # fmt: skip
    note = serializers.CharField(max_length=200, required=False, allow_blank=True)


@extend_schema(tags=["gpu time"])
class AssetRateViewSet(OperatorViewSet):
    """What an hour of a GPU costs its owner, used or not."""

    default_platform_action = PlatformAction.VIEW_MONEY
    platform_actions = {"create": PlatformAction.MANAGE_MONEY}
    model = AssetRate
    serializer_class = AssetRateSerializer
    page_ordering = "-effective_from"
    reason = "an operator manages asset rates through the REST API"

    def rows(self) -> QuerySet[AssetRate]:
        return AssetRate.objects.all()

    @extend_schema(responses=AssetRateSerializer(many=True), operation_id="asset_rates_list")
    def list(self, request) -> Response:
        """All rates, newest first: those in force, those to come, those that were followed."""
        refuse_unknown_parameters(request, PAGING)
        page = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response(AssetRateSerializer(page, many=True).data)

    @extend_schema(responses=AssetRateSerializer, operation_id="asset_rates_retrieve")
    def retrieve(self, request, id) -> Response:
        """One rate."""
        return self.shown(AssetRateSerializer, self.get_object())

    @extend_schema(
        request=AssetRateBody, responses={201: AssetRateSerializer}, operation_id="asset_rates_create"
    )
    @idempotent
    def create(self, request) -> Response:
        """Say what GPUs cost from a moment on. It follows the rate for the same; none is ever edited."""
        body: dict[str, Any] = self.validated(AssetRateBody)
        rate = asset_rate_set(
            amount=body["amount"],
            currency=body.get("currency", settings.CURRENCY),
            effective_from=body.get("effective_from"),
            cluster=body["cluster"].name if "cluster" in body else "",
            gpu_type=body["gpu_type"].name if "gpu_type" in body else "",
            note=body.get("note", ""),
        )
        self.audit("asset-rate.add", **rate_facts(rate))
        location = request.build_absolute_uri(f"{request.path}/{rate.id}")
        return self.shown(AssetRateSerializer, rate, code=status.HTTP_201_CREATED, Location=location)


def rate_facts(rate: AssetRate) -> dict[str, str]:
    """Give a rate in short, for the operators' log."""
    return {
        "rate": f"{rate.amount.normalize():f} {rate.currency}",
        "cluster": rate.cluster,
        "gpu_type": rate.gpu_type,
        "effective_from": rate.effective_from.isoformat(),
    }
