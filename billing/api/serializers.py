"""Usage, costs and prices as JSON. Amounts are decimal strings."""

from __future__ import annotations

from rest_framework import serializers

from billing.costs import PLACES
from billing.models import Allocation, Price


def _money(**options) -> serializers.DecimalField:
    return serializers.DecimalField(max_digits=30, decimal_places=PLACES, **options)


class UsagePointSerializer(serializers.Serializer):
    """One bucket of one group. input_tokens include cached_tokens."""

    bucket = serializers.DateTimeField(help_text="Where the bucket begins.")
    group = serializers.CharField(help_text="Id or name of the group, empty without group_by.")
    label = serializers.CharField()
    requests = serializers.IntegerField()
    completed = serializers.IntegerField(help_text="Requests that were answered to the end.")
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cached_tokens = serializers.IntegerField()
    ttft_p50_ms = serializers.FloatField(allow_null=True, help_text="Time to first token, estimated.")
    ttft_p95_ms = serializers.FloatField(allow_null=True)
    itl_p50_ms = serializers.FloatField(
        allow_null=True, help_text="Mean time between the tokens of a request, estimated."
    )
    itl_p95_ms = serializers.FloatField(allow_null=True)


class UsageSerializer(serializers.Serializer):
    """Usage over time; buckets without usage are left out."""

    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    bucket_width = serializers.CharField()
    results = UsagePointSerializer(many=True)


class CostSerializer(serializers.Serializer):
    """Quantities and what they cost on both bases. input_tokens include cached_tokens."""

    gpu_hours = _money()
    allocation = _money(help_text="GPU time held, at the price of the GPU: what is charged.")
    usage = _money(help_text="Tokens at the price book, to compare with.")
    requests = serializers.IntegerField()
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cached_tokens = serializers.IntegerField()
    allocation_per_million_tokens = _money(allow_null=True)


class ProjectCostSerializer(serializers.Serializer):
    """A project's cost."""

    project_id = serializers.UUIDField()
    project = serializers.CharField()
    cost = CostSerializer()


class EndpointCostSerializer(ProjectCostSerializer):
    """An endpoint's cost; endpoint_id is null for requests that named no endpoint."""

    endpoint_id = serializers.UUIDField(allow_null=True)
    endpoint = serializers.CharField()
    model = serializers.CharField()
    slo_class = serializers.CharField()


class CostSummarySerializer(serializers.Serializer):
    """What a period cost."""

    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    currency = serializers.CharField()
    total = CostSerializer()
    projects = ProjectCostSerializer(many=True)
    endpoints = EndpointCostSerializer(many=True)
    idle_share = serializers.DecimalField(
        max_digits=5,
        decimal_places=4,
        allow_null=True,
        help_text="GPU time in hours without a request, 0..1.",
    )
    unpriced = serializers.ListField(
        child=serializers.CharField(), help_text="What has no price and counts as 0."
    )


class DailyCostSerializer(serializers.Serializer):
    """The cost of one UTC day."""

    day = serializers.DateField()
    group = serializers.CharField()
    label = serializers.CharField()
    cost = CostSerializer()


class DailyCostsSerializer(serializers.Serializer):
    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    currency = serializers.CharField()
    results = DailyCostSerializer(many=True)


class PriceSerializer(serializers.ModelSerializer):
    """What one GPU-hour or a million tokens cost from a moment on; an empty selector holds for all.

    A tenant's own price wins over any of the list's. The amount of a class_factor multiplies token prices that name
    no class.
    """

    own = serializers.SerializerMethodField(help_text="It is the tenant's own, not the list's.")

    def get_own(self, price: Price) -> bool:
        return price.tenant_id is not None

    class Meta:
        model = Price
        fields = [
            "id", "own", "kind", "gpu_type", "region", "model", "slo_class", "amount", "currency", "effective_from",
            "note",
        ]  # fmt: skip


class AllocationSerializer(serializers.ModelSerializer):
    """GPUs held by one replica; ended_at is null while they are.

    Where the devices are parts of a GPU, slice is their MIG profile and share which part of a whole one each is.
    """

    class Meta:
        model = Allocation
        fields = [
            "id", "project_id", "endpoint_id", "revision_id", "replica_id", "cluster", "region", "pool",
            "gpu_type", "gpus", "slice", "share", "started_at", "ended_at",
        ]  # fmt: skip
