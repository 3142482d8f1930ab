"""How an endpoint stands right now, as its gateways tell it."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from clusters.endpoints import selectors
from clusters.endpoints.signals import endpoint_now
from clusters.models import Endpoint, EndpointSignal
from tenants.api.base import TenantViewSet

_COUNTS = (
    "in_flight", "queued", "oldest_wait_s", "requests", "shed", "refused", "failed", "input_tokens",
    "output_tokens", "cached_tokens", "kv_pressure",
)  # fmt: skip


class GatewaySignalSerializer(serializers.ModelSerializer):
    """What one process of a gateway told last. Histograms count requests by the buckets of the usage contract."""

    queued = serializers.DictField(child=serializers.IntegerField())

    class Meta:
        model = EndpointSignal
        fields = [
            "gateway", "instance", "region", "heard_at", *_COUNTS, "ttft_ms", "itl_ms", "queue_s", "prefill_s",
            "decode_s", "prefills",
        ]  # fmt: skip


class EndpointNowSerializer(serializers.Serializer):
    """An endpoint over all gateways: what runs and waits now, and what ended in the last minute."""

    heard_at = serializers.DateTimeField(allow_null=True)
    in_flight = serializers.IntegerField(help_text="Requests that a replica works on, or that wait for one.")
    queued = serializers.DictField(
        child=serializers.IntegerField(), help_text="Those that wait, by service class."
    )
    oldest_wait_s = serializers.FloatField(help_text="Of those of the endpoint's own class.")
    requests = serializers.IntegerField()
    shed = serializers.IntegerField(help_text="Of its own class: turned away because there was no room.")
    refused = serializers.IntegerField(help_text="Turned away for any other reason.")
    failed = serializers.IntegerField()
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cached_tokens = serializers.IntegerField()
    ttft_p95_ms = serializers.FloatField(allow_null=True, help_text="Of its own class.")
    itl_p95_ms = serializers.FloatField(allow_null=True, help_text="Of its own class.")
    queue_mean_ms = serializers.FloatField(allow_null=True, help_text="Waiting for a place at a replica.")
    prefill_mean_ms = serializers.FloatField(allow_null=True, help_text="From the place to the first token.")
    decode_mean_ms = serializers.FloatField(allow_null=True, help_text="From the first token to the last.")
    kv_pressure = serializers.IntegerField(
        help_text="Answers in which an engine said that its cache is full."
    )
    gateways = GatewaySignalSerializer(source="signals", many=True)


@extend_schema(tags=["endpoints"])
class SignalViewSet(TenantViewSet):
    """What gateways tell of an endpoint every few seconds."""

    model = Endpoint
    serializer_class = EndpointNowSerializer
    project_field = "project"

    def rows(self):
        return selectors.endpoint_list()

    @extend_schema(responses=EndpointNowSerializer, operation_id="endpoints_signals", filters=False)
    def signals(self, request, id) -> Response:
        """What runs and waits now, and the last minute's requests; zeros while no gateway has any."""
        return self.shown(EndpointNowSerializer, endpoint_now(self.get_object()))
