"""Changes of endpoints and their rollouts as JSON."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from clusters.api.order_serializers import MOST_REPLICAS, MOST_TOKENS, PinsBody
from clusters.api.plan_serializers import (
    PRECISIONS,
    PlannedConfigurationSerializer,
    PlanTripSerializer,
    RefusalSerializer,
)
from clusters.endpoints.rollouts.judging import Finding
from clusters.models import CatalogModel, OnLittleTraffic, Rollout, RolloutWay
from tenants.api.fields import ReferenceField, StrictSerializer


class OrderChangeBody(StrictSerializer):
    """What of the order is to change; what is left out stays."""

    model = ReferenceField(
        find=lambda: CatalogModel.objects.filter(published=True), by="name", what="model", required=False,
        help_text="A variant of the model, what it was made from, or another variant of that.",
    )  # fmt: skip
    context_tokens = serializers.IntegerField(
        min_value=2, max_value=MOST_TOKENS, required=False, allow_null=True,
        help_text="Most tokens of a request with its answer. Null: all of the model's.",
    )  # fmt: skip
    output_limit = serializers.IntegerField(
        min_value=1, max_value=MOST_TOKENS, required=False, allow_null=True,
        help_text="Most tokens of an answer. Null: what the context leaves.",
    )  # fmt: skip
    pins = PinsBody(required=False, help_text="In place of those of the order.")
    approved_precisions = serializers.ListField(
        child=serializers.ChoiceField(choices=PRECISIONS), max_length=len(PRECISIONS), required=False,
        help_text="Precisions whose quality note is accepted.",
    )  # fmt: skip
    replicas = serializers.IntegerField(
        min_value=1, max_value=MOST_REPLICAS, required=False, allow_null=True,
        help_text="Null: as many as the load needs.",
    )  # fmt: skip
    near = serializers.CharField(max_length=60, allow_blank=True, required=False)
    requests_per_second = serializers.FloatField(min_value=0, max_value=1e6, required=False)
    burstiness = serializers.FloatField(min_value=1, max_value=1e4, required=False)
    input_tokens = serializers.IntegerField(min_value=1, max_value=MOST_TOKENS, required=False)
    input_cv = serializers.FloatField(min_value=0, max_value=10, required=False)
    output_tokens = serializers.IntegerField(min_value=1, max_value=MOST_TOKENS, required=False)
    output_cv = serializers.FloatField(min_value=0, max_value=10, required=False)
    prefix_share = serializers.FloatField(min_value=0, max_value=0.99, required=False)

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        if not values:
            raise serializers.ValidationError(f"Send one of {', '.join(self.fields)}.")
        return values


class ChangePlanSerializer(serializers.Serializer):
    """What a change would come to; nothing is changed."""

    status = serializers.CharField(source="found.plan.status.value", help_text="As of a plan.")
    message = serializers.CharField(source="found.plan.message")
    what = serializers.CharField(help_text="What of the order changes, in words.")
    deploys = serializers.BooleanField(source="found.deploys", help_text="Whether anything else would run.")
    in_place = serializers.BooleanField(
        source="found.in_place", help_text="Only the number of replicas changes, without a rollout."
    )
    way = serializers.ChoiceField(
        choices=RolloutWay.choices, allow_null=True,
        help_text="Where the new revision would find its GPUs; null: no rollout is needed, or none is possible.",
    )  # fmt: skip
    begins_at = serializers.DateTimeField(help_text="A change in place waits for the class's window.")
    window = serializers.CharField(source="policy.window")
    expected_outage_s = serializers.FloatField(
        source="outage.seconds", allow_null=True, default=None, help_text="Null: it serves all the time."
    )
    expected_outage_from = serializers.CharField(source="outage.source", allow_null=True, default=None)
    steps = serializers.ListField(
        source="policy.steps", child=serializers.IntegerField(), help_text="Percent of the requests."
    )
    evaluation_needed = serializers.SerializerMethodField(
        help_text="Why answers may be others; empty: none is."
    )
    price_now = serializers.DecimalField(
        source="found.price_now",
        max_digits=20,
        decimal_places=6,
        normalize_output=True,
        help_text="Per hour.",
    )
    price_after = serializers.DecimalField(
        source="found.price_after", max_digits=20, decimal_places=6, normalize_output=True, allow_null=True
    )
    currency = serializers.CharField()
    configuration = PlannedConfigurationSerializer(source="document.configuration", allow_null=True)
    refusals = RefusalSerializer(source="document.refusals", many=True)
    approvals = PlanTripSerializer(many=True, help_text="Rules that the change would trip.")

    def get_evaluation_needed(self, plan: Any) -> list[str]:
        return list(plan["evaluates"])


class RolloutCriterionSerializer(serializers.Serializer):
    """One thing that the gate judges: the old revision's number, the new one's, the limit, what was found."""

    name = serializers.CharField(
        help_text="ttft_p95_ms, itl_p95_ms, errors_percent or cost_per_million_tokens (output, with full batches)."
    )
    old = serializers.FloatField(allow_null=True)
    new = serializers.FloatField(allow_null=True)
    limit = serializers.FloatField(allow_null=True)
    finding = serializers.ChoiceField(choices=[each.value for each in Finding])
    told = serializers.CharField(help_text="What is worse, in words.")


class VerdictSerializer(serializers.Serializer):
    """What both revisions served in the step, and what the gate found."""

    finding = serializers.ChoiceField(choices=[each.value for each in Finding])
    old_requests = serializers.IntegerField()
    new_requests = serializers.IntegerField()
    criteria = RolloutCriterionSerializer(many=True)


class RolloutPolicySerializer(serializers.Serializer):
    """The policy of the class when the change was asked for."""

    ways = serializers.ListField(child=serializers.ChoiceField(choices=RolloutWay.choices))
    days = serializers.ListField(child=serializers.IntegerField())
    from_hour = serializers.IntegerField()
    until_hour = serializers.IntegerField()
    steps = serializers.ListField(child=serializers.IntegerField())
    step_s = serializers.IntegerField()
    requests = serializers.IntegerField()
    patience_s = serializers.IntegerField()
    little_traffic = serializers.ChoiceField(choices=OnLittleTraffic.choices)
    start_s = serializers.IntegerField()
    ttft_factor = serializers.FloatField(allow_null=True)
    itl_factor = serializers.FloatField(allow_null=True)
    error_points = serializers.FloatField(allow_null=True)
    cost_factor = serializers.FloatField(allow_null=True)
    ttft_p95_ms = serializers.IntegerField(allow_null=True)
    itl_p95_ms = serializers.IntegerField(allow_null=True)


class RolloutSerializer(serializers.ModelSerializer):
    """A change of what an endpoint runs, from the revision before it to the new one."""

    revision = serializers.IntegerField(
        source="revision.number", allow_null=True, default=None, help_text="Number; null: it has no GPUs yet."
    )
    before = serializers.IntegerField(source="before.number", help_text="Number of what ran before.")
    phase = serializers.ChoiceField(choices=Rollout.Phase.choices)
    way = serializers.ChoiceField(choices=RolloutWay.choices)
    step = serializers.SerializerMethodField(help_text="Of the policy's steps, from 1; null: no canary yet.")
    policy = RolloutPolicySerializer()
    verdict = serializers.SerializerMethodField(help_text="Of the step; null: nothing was judged yet.")
    expected_outage_s = serializers.FloatField(source="outage_s", allow_null=True)
    expected_outage_from = serializers.CharField(source="outage_from")

    class Meta:
        model = Rollout
        fields = [
            "id", "what", "way", "phase", "phase_since", "reason", "revision", "before", "step", "step_since", "weight",
            "policy", "verdict", "expected_outage_s", "expected_outage_from", "started_at", "started_by", "ended_at",
            "ended_by", "dismissed_at",
        ]  # fmt: skip

    def get_step(self, rollout: Rollout) -> int | None:
        return rollout.step + 1 if rollout.step_since else None

    @extend_schema_field(VerdictSerializer(allow_null=True))
    def get_verdict(self, rollout: Rollout) -> dict[str, Any] | None:
        return VerdictSerializer(rollout.verdict).data if rollout.verdict else None
