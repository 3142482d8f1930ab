"""Measured loads, planning anew and what-ifs as JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from clusters.api.order_serializers import MOST_REPLICAS, MOST_TOKENS, PinsBody
from clusters.api.plan_serializers import PRECISIONS, PlannedConfigurationSerializer
from clusters.endpoints.load.learning import LOAD_FIELDS
from clusters.endpoints.load.measured import measured_terms
from clusters.endpoints.planning import OrderTerms
from clusters.endpoints.what_if.one import MOST_NODES, AddedGpus, Changes
from clusters.models import Cluster, Endpoint, GpuType, LoadObservation, SloClass
from tenants.api.fields import MomentField, ReferenceField, StrictSerializer


class LoadNumbersSerializer(serializers.Serializer):
    """A load: what a busy hour asks for, and the lengths of requests."""

    requests_per_second = serializers.FloatField(help_text="The mean over a busy hour.")
    burstiness = serializers.FloatField(help_text="The busiest minute's rate over the mean.")
    input_tokens = serializers.IntegerField()
    input_cv = serializers.FloatField(help_text="Standard deviation over mean.")
    output_tokens = serializers.IntegerField()
    output_cv = serializers.FloatField()
    prefix_share = serializers.FloatField(help_text="Share of the input that a cache held.")


class DriftPartSerializer(serializers.Serializer):
    name = serializers.ChoiceField(choices=LOAD_FIELDS)
    ordered = serializers.FloatField()
    measured = serializers.FloatField()


class CorrectionSerializer(serializers.Serializer):
    """By how much the speed model's times are multiplied for this endpoint, and why."""

    itl_factor = serializers.FloatField()
    ttft_factor = serializers.FloatField()
    reasons = serializers.ListField(child=serializers.CharField())


class ReplanSerializer(serializers.Serializer):
    """What planning anew for the measured load comes to."""

    status = serializers.CharField(help_text="As of a plan.")
    message = serializers.CharField()
    changes = serializers.BooleanField(default=False, help_text="Whether anything else would run.")
    in_place = serializers.BooleanField(default=False, help_text="Only the number of replicas changes.")
    price_now = serializers.CharField(default=None, allow_null=True, help_text="Per hour, of what it holds.")
    price_after = serializers.CharField(default=None, allow_null=True)
    now = serializers.DictField(default=None, allow_null=True)
    after = serializers.DictField(default=None, allow_null=True)
    computed_at = serializers.DateTimeField()


class LoadSerializer(serializers.ModelSerializer):
    """The load of an endpoint as it was measured, beside the ordered one."""

    measured = LoadNumbersSerializer(source="*")
    ordered = LoadNumbersSerializer(source="endpoint")
    drift = DriftPartSerializer(many=True, help_text="What lies outside the order.")
    correction = serializers.SerializerMethodField()
    replan = ReplanSerializer(allow_null=True)
    kept = serializers.SerializerMethodField(help_text="Whether somebody keeps the order all the same.")

    class Meta:
        model = LoadObservation
        fields = [
            "since", "until", "hours", "requests", "measured", "ordered", "drift", "drifting_since", "kept",
            "correction", "replan",
        ]  # fmt: skip

    def get_kept(self, observation: LoadObservation) -> bool:
        return observation.kept is not None

    @extend_schema_field(CorrectionSerializer)
    def get_correction(self, observation: LoadObservation) -> dict[str, Any]:
        return CorrectionSerializer(
            {
                "itl_factor": observation.itl_factor,
                "ttft_factor": observation.ttft_factor,
                "reasons": observation.correction.get("reasons", []),
            }
        ).data


class ReplanBody(StrictSerializer):
    """What to plan anew for. Without a number, pin or count of replicas: the measured load."""

    requests_per_second = serializers.FloatField(min_value=0, max_value=1e6, required=False)
    burstiness = serializers.FloatField(min_value=1, max_value=1e4, required=False)
    input_tokens = serializers.IntegerField(min_value=1, max_value=MOST_TOKENS, required=False)
    input_cv = serializers.FloatField(min_value=0, max_value=10, required=False)
    output_tokens = serializers.IntegerField(min_value=1, max_value=MOST_TOKENS, required=False)
    output_cv = serializers.FloatField(min_value=0, max_value=10, required=False)
    prefix_share = serializers.FloatField(min_value=0, max_value=0.99, required=False)
    replicas = serializers.IntegerField(
        min_value=1, max_value=MOST_REPLICAS, required=False, allow_null=True,
        help_text="Null: as many as the load needs. Left out with a number of the load: null as well.",
    )  # fmt: skip
    pins = PinsBody(required=False, help_text="In place of those of the order.")
    measured = serializers.BooleanField(
        required=False, help_text="Take the measured load for what is not given. True where nothing is given."
    )

    def terms(self, endpoint: Endpoint) -> OrderTerms:
        """Give the order with what was asked for.

        Raises:
            Conflict: the measured load is asked for, and nothing was measured yet.
        """
        asked: dict[str, Any] = dict(self.validated_data)
        measured = asked.pop("measured", not asked)
        base = measured_terms(endpoint) if measured else OrderTerms.of(endpoint)
        if set(asked) & set(LOAD_FIELDS):
            asked = {"replicas": None, "profile": ""} | asked
        return dataclasses.replace(base, **asked)


class AddedGpusBody(StrictSerializer):
    cluster = ReferenceField(
        find=Cluster.objects.present, by="name", what="cluster", help_text="Where they would stand."
    )
    gpu_type = ReferenceField(find=GpuType.objects.all, by="name", what="GPU type")
    nodes = serializers.IntegerField(min_value=1, max_value=MOST_NODES)


class WhatIfBody(StrictSerializer):
    """What would be otherwise; what is left out is as it is. At least one."""

    slo_class = ReferenceField(find=SloClass.objects.all, by="name", what="SLO class", required=False)
    residency = serializers.CharField(max_length=60, required=False)
    precision = serializers.ChoiceField(choices=PRECISIONS, required=False, help_text="Of the weights.")
    price_percent = serializers.DecimalField(
        max_digits=7, decimal_places=3, min_value=-100, max_value=1000, required=False,
        help_text="Every GPU-hour dearer by so many percent, or cheaper where negative.",
    )  # fmt: skip
    prices_at = MomentField(required=False, help_text="Take the price book as it is then.")
    added_gpus = AddedGpusBody(required=False)

    def changes(self) -> Changes:
        """Give what was asked for.

        Raises:
            Invalid: nothing was.
        """
        asked = dict(self.validated_data)
        if "added_gpus" in asked:
            asked["added"] = AddedGpus(**asked.pop("added_gpus"))
        return Changes(**asked)


class SideSerializer(serializers.Serializer):
    """One of the compared: its price, and the share of hours in which its predicted p95s keep the targets."""

    slo_class = serializers.CharField(source="slo_class.name")
    status = serializers.CharField(source="plan.status.value", default=None, help_text="Null: it runs now.")
    message = serializers.CharField(source="plan.message", default=None)
    configuration = PlannedConfigurationSerializer(source="plan.configuration", default=None, allow_null=True)
    price_per_hour = serializers.DecimalField(max_digits=None, decimal_places=None, allow_null=True)
    price_per_day = serializers.DecimalField(max_digits=None, decimal_places=None, allow_null=True)
    price_per_month = serializers.DecimalField(
        max_digits=None, decimal_places=None, allow_null=True, help_text="In 30 days."
    )
    hours_kept = serializers.FloatField(
        source="kept", allow_null=True, help_text="0 to 1; null without history or where nothing would run."
    )


class WhatIfSerializer(serializers.Serializer):
    """What would be: as it runs, planned anew as things are, and planned with the changes. Nothing was changed."""

    currency = serializers.CharField()
    measured = serializers.BooleanField(
        help_text="Whether the load was measured; else it is the ordered one."
    )
    hours = serializers.IntegerField(help_text="Hours with requests of the last 30 days.")
    load = LoadNumbersSerializer()
    now = SideSerializer(allow_null=True)
    before = SideSerializer()
    after = SideSerializer()
    price_held_per_hour = serializers.DecimalField(
        source="held_price", max_digits=None, decimal_places=None, allow_null=True,
        help_text="What it holds now, at the changed prices.",
    )  # fmt: skip
    difference_per_hour = serializers.DecimalField(
        max_digits=None, decimal_places=None, allow_null=True, help_text="After less before."
    )
