"""How usage arrived, for operators: gaps in gateways' sequences, what was refused, and each day's reconciliation."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from billing.metering.reconciliation import Verdict, reconcile
from billing.models import SequenceGap, UsageRefusal
from clusters.api.operators import OperatorScoped, OperatorViewSet
from tenants.api.fields import DayField, StrictSerializer
from tenants.roles import PlatformAction

_VERDICTS = [each.value for each in Verdict]


class SumsSerializer(serializers.Serializer):
    requests = serializers.IntegerField()
    input_tokens = serializers.IntegerField(help_text="Cached ones included.")
    output_tokens = serializers.IntegerField()
    cached_tokens = serializers.IntegerField()


class GatewayCheckSerializer(serializers.Serializer):
    gateway = serializers.CharField(help_text="A gateway's name and instance, or a source of CloudEvents.")
    logged = SumsSerializer(allow_null=True, help_text="By its own log; null where it tells none.")
    stored = SumsSerializer(allow_null=True, help_text="Segments; null once they were dropped by retention.")
    counted = SumsSerializer()
    refused = SumsSerializer()
    missing = SumsSerializer(help_text="Logged, and neither stored nor refused.")
    late_segments = serializers.IntegerField()
    missing_sequences = serializers.IntegerField(help_text="Of all days.")
    verdict = serializers.ChoiceField(_VERDICTS)


class EngineCheckSerializer(serializers.Serializer):
    endpoint_id = serializers.UUIDField()
    name = serializers.CharField()
    metered = SumsSerializer()
    counted = SumsSerializer(allow_null=True, help_text="By the engines; null where no counter is true.")


class ReconciliationSerializer(serializers.Serializer):
    day = serializers.DateField()
    gateways = GatewayCheckSerializer(many=True)
    stored = SumsSerializer(allow_null=True)
    counted = SumsSerializer()
    hours = SumsSerializer()
    days = SumsSerializer()
    rated = SumsSerializer(help_text="What statements rate.")
    verdict = serializers.ChoiceField(_VERDICTS)
    engines = EngineCheckSerializer(many=True)
    is_bad = serializers.BooleanField(help_text="Whether anything differs that should not.")


class DayQuery(StrictSerializer):
    day = DayField(required=False, help_text="UTC. Default: yesterday.")
    gateway = serializers.CharField(required=False, help_text="Only the instances of this gateway.")

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        values.setdefault("day", timezone.now().date() - dt.timedelta(days=1))
        return values


@extend_schema(tags=["metering"])
class ReconciliationView(OperatorScoped):
    """What each part between the request and the statement counted of one UTC day."""

    default_platform_action = PlatformAction.VIEW_USAGE_CHECKS

    @extend_schema(
        operation_id="usage_reconciliation_retrieve",
        parameters=[DayQuery],
        responses=ReconciliationSerializer,
    )
    def get(self, request) -> Response:
        query = DayQuery(data=request.query_params.dict())
        query.is_valid(raise_exception=True)
        found = reconcile(now=timezone.now(), **query.validated_data)
        return Response(ReconciliationSerializer(found).data)


class SequenceGapSerializer(serializers.ModelSerializer):
    class Meta:
        model = SequenceGap
        fields = ["id", "gateway", "first", "last", "noticed_at"]


class UsageRefusalSerializer(serializers.ModelSerializer):
    class Meta:
        model = UsageRefusal
        fields = [
            "id", "gateway", "sequence", "day", "reason", "content", "first_seen_at", "last_seen_at", "count",
        ]  # fmt: skip


@extend_schema(tags=["metering"])
class SequenceGapViewSet(OperatorViewSet):
    """Segments of gateways that are missing though later ones came, newest first."""

    default_platform_action = PlatformAction.VIEW_USAGE_CHECKS
    model = SequenceGap
    serializer_class = SequenceGapSerializer

    def list(self, request) -> Response:
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(SequenceGapSerializer(page, many=True).data)


@extend_schema(tags=["metering"])
class UsageRefusalViewSet(OperatorViewSet):
    """Segments that were refused, as they came, newest first."""

    default_platform_action = PlatformAction.VIEW_USAGE_CHECKS
    model = UsageRefusal
    serializer_class = UsageRefusalSerializer

    def list(self, request) -> Response:
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(UsageRefusalSerializer(page, many=True).data)
