"""Usage, costs and prices as JSON. Amounts are decimal strings."""

from __future__ import annotations

from rest_framework import serializers

from billing.costs import PLACES
from billing.models import Allocation, Price


def _money(**options) -> serializers.DecimalField:
    return serializers.DecimalField(max_digits=30, decimal_places=PLACES, **options)


class GroupSerializer(serializers.Serializer):
    """What a result is of: a value for each dimension of group_by, null for the others and where there is none."""

    project_id = serializers.UUIDField(allow_null=True)
    endpoint_id = serializers.UUIDField(allow_null=True)
    api_key_id = serializers.UUIDField(
        allow_null=True, help_text="Null with idle GPU time, which is no key's."
    )
    model = serializers.CharField(allow_null=True)
    slo_class = serializers.CharField(allow_null=True)
    route_id = serializers.UUIDField(allow_null=True)
    region = serializers.CharField(allow_null=True)
    label = serializers.CharField(help_text="What it is called, empty without group_by.")


class UsagePointSerializer(GroupSerializer):
    """Usage of one group. input_tokens include cached_tokens."""

    requests = serializers.IntegerField()
    completed = serializers.IntegerField(help_text="Requests that were answered to the end.")
    cancelled = serializers.IntegerField(help_text="Those whose client left before the end.")
    failed = serializers.IntegerField(help_text="Those that the engine did not answer.")
    refused = serializers.IntegerField(help_text="Those turned away before any engine was asked.")
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cached_tokens = serializers.IntegerField()
    ttft_p50_ms = serializers.FloatField(
        allow_null=True, help_text="Time to first token, estimated; null without latency=true."
    )
    ttft_p95_ms = serializers.FloatField(allow_null=True)
    itl_p50_ms = serializers.FloatField(
        allow_null=True, help_text="Mean time between the tokens of a request, estimated."
    )
    itl_p95_ms = serializers.FloatField(allow_null=True)


class BucketsSerializer(serializers.Serializer):
    """Buckets of a period, a page of them."""

    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    bucket_width = serializers.CharField(allow_null=True, help_text="Null: the whole period is one bucket.")
    group_by = serializers.ListField(child=serializers.CharField())
    has_more = serializers.BooleanField()
    next_page = serializers.DateTimeField(
        allow_null=True, help_text="Send it as page to get the next buckets."
    )


class UsageBucketSerializer(serializers.Serializer):
    """One bucket; results are empty where nothing was used."""

    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    results = UsagePointSerializer(many=True)


class UsageSerializer(BucketsSerializer):
    """Usage over time."""

    data = UsageBucketSerializer(many=True)


class CostSerializer(serializers.Serializer):
    """Quantities and what they cost on both bases, before commitments and credits."""

    gpu_hours = _money()
    idle_gpu_hours = _money(help_text="The part of them in hours without a request.")
    allocation = _money(help_text="GPU time held, at the price of the GPU.")
    idle = _money(help_text="The part of it in hours without a request.")
    usage = _money(help_text="Tokens at the price book.")
    charged = _money(
        help_text="Of both what is charged: GPU time of dedicated endpoints, tokens of shared ones."
    )
    requests = serializers.IntegerField()
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cached_tokens = serializers.IntegerField()
    allocation_per_million_tokens = _money(allow_null=True)
    usage_per_million_tokens = _money(allow_null=True)
    allocation_per_request = _money(allow_null=True)
    usage_per_request = _money(allow_null=True)


class CostGroupSerializer(GroupSerializer):
    """The cost of one group."""

    cost = CostSerializer()


class CostBucketSerializer(serializers.Serializer):
    """One bucket; results are empty where nothing was held or used."""

    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    results = CostGroupSerializer(many=True)


class CostsSerializer(BucketsSerializer):
    """What a period cost. unpriced and total are of the buckets in this answer."""

    currency = serializers.CharField()
    total = CostSerializer()
    unpriced = serializers.ListField(
        child=serializers.CharField(), help_text="What has no price and counts as 0."
    )
    data = CostBucketSerializer(many=True)


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
