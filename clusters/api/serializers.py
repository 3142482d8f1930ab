"""Endpoints and what they are ordered from, as JSON."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from clusters.api.approval_serializers import ApprovalBriefSerializer
from clusters.api.capacity_serializers import CapacitySerializer
from clusters.api.plan_serializers import PRECISIONS
from clusters.endpoints import selectors
from clusters.endpoints.approvals.selectors import request_of
from clusters.endpoints.limits import endpoint_fallbacks, overload_policy
from clusters.endpoints.runbooks import runbook_of
from clusters.endpoints.states import NEXT_ACTION
from clusters.endpoints.waiting import capacity_of
from clusters.models import (
    CatalogModel,
    Condition,
    Endpoint,
    EndpointEvent,
    EndpointState,
    Region,
    Replica,
    Revision,
    SloClass,
)
from tenants.api.fields import StrictSerializer

#: What a revision shows of its plan's configuration.
EXPECTED = (
    "ttft_ms", "ttft_p95_ms", "itl_ms", "itl_p95_ms", "answer_ms", "tokens_per_s", "price_per_gpu_hour",
    "price_per_hour", "price_per_million_tokens",
)  # fmt: skip


#: How endpoints of a class change what they run.
ROLLOUT = [
    "rollout_ways", "rollout_days", "rollout_from_hour", "rollout_until_hour", "rollout_steps", "rollout_step_s",
    "rollout_requests", "rollout_patience_s", "rollout_little_traffic", "rollout_start_s", "rollout_ttft_factor",
    "rollout_itl_factor", "rollout_error_points", "rollout_cost_factor",
]  # fmt: skip


class PrecisionNoteSerializer(serializers.Serializer):
    """What is known of a model's answers in a precision that a job makes of its checkpoint."""

    note = serializers.CharField()
    needs_approval = serializers.BooleanField(
        default=False, help_text="An order gets it only if its approved_precisions name it."
    )


class CatalogModelSerializer(serializers.ModelSerializer):
    """A model that may be ordered. The first of its precisions is its own."""

    parameters = serializers.IntegerField(source="architecture.parameters")
    active_parameters = serializers.IntegerField(source="architecture.active_parameters")
    derived_from = serializers.SlugRelatedField(slug_field="name", read_only=True, allow_null=True)
    precision_notes = serializers.DictField(
        child=PrecisionNoteSerializer(),
        help_text="By precision. One that is made without a note is not offered.",
    )

    tokenizer = serializers.CharField(
        source="tokenizer_id",
        read_only=True,
        allow_null=True,
        help_text="SHA-256 of its tokenizer.json. Without one, prompts are counted by their bytes.",
    )

    class Meta:
        model = CatalogModel
        fields = [
            "id", "name", "title", "description", "licence", "allowed_zones", "runtimes", "precisions",
            "precision_notes", "parameters", "active_parameters", "context_tokens", "derived_from",
            "tokenizer",
        ]  # fmt: skip


class SloClassSerializer(serializers.ModelSerializer):
    """A class of service. Latencies in milliseconds, null where there is no target; timeouts in seconds.

    ``queue_s`` is the longest a request waits for a replica, ``floor`` the share of admissions that stays with the
    class while higher ones wait too, ``on_overload`` what happens when there is no room. ``credit_percent`` of an
    endpoint's charge is credited for a month in which it misses a target; ``cost_target`` is what a million tokens
    should cost at most, null where there is no target. ``may_scale_to_zero`` to ``quiet_s`` are
    how replicas follow the load: whether to zero and after how long, how long requests are held while one wakes, and
    the marks between which replicas stay.
    ``rollout_*`` say how endpoints of the class change what they run: docs/rollouts.md.
    """

    class Meta:
        model = SloClass
        fields = [
            "id", "name", "title", "description", "ttft_p95_ms", "itl_p95_ms", "availability", "priority",
            "price_factor", "credit_percent", "cost_target", "spare_replicas",
            "connect_timeout_s", "first_token_timeout_s", "between_tokens_timeout_s",
            "total_timeout_s", "attempts", "backoff_s", "backoff_most_s", "queue_s", "floor", "context_tokens",
            "on_overload", "degraded_context_tokens", "may_scale_to_zero", "idle_to_zero_s", "wake_hold_s",
            "high_water", "low_water", "quiet_s", "needs_evaluation", *ROLLOUT,
        ]  # fmt: skip


class RegionSerializer(serializers.ModelSerializer):
    """Where endpoints may run: what residency and certifications of an order are compared with."""

    class Meta:
        model = Region
        fields = ["code", "name", "country", "zones", "certifications"]


class ConditionSerializer(serializers.ModelSerializer):
    runbook = serializers.SerializerMethodField(
        help_text="Path of the page that says what to do about it; empty while nothing is to be done."
    )

    class Meta:
        model = Condition
        fields = ["type", "status", "reason", "message", "runbook", "observed_generation", "changed_at"]

    def get_runbook(self, condition: Condition) -> str:
        return runbook_of(condition)


class ReplicaSerializer(serializers.ModelSerializer):
    """One engine as its cluster last showed it."""

    id = serializers.CharField(source="replica_id")
    revision = serializers.IntegerField(source="revision.number")

    class Meta:
        model = Replica
        fields = ["id", "index", "revision", "phase", "message", "started_at", "ready_at"]


class RevisionSerializer(serializers.ModelSerializer):
    """An immutable deployable spec: the plan's answer, with what was expected and priced then."""

    cluster = serializers.CharField(source="cluster.name")
    region = serializers.CharField(source="cluster.region.code")
    declared_gpus = serializers.BooleanField(
        source="cluster.declared", help_text="Declared by hand, not hardware."
    )
    gpus = serializers.SerializerMethodField()
    expected = serializers.SerializerMethodField(help_text="Times in milliseconds, prices per hour.")

    class Meta:
        model = Revision
        fields = [
            "id", "number", "generation", "cluster", "region", "declared_gpus", "runtime", "gpu_type",
            "precision", "tensor_parallel", "pipeline_parallel", "replicas", "gpus",
            "context_tokens", "max_batch_size", "expected", "created_at", "applied_at", "retired_at",
            "cleaned_at",
        ]  # fmt: skip

    def get_gpus(self, revision: Revision) -> int:
        return revision.replicas * revision.gpus_per_replica

    @extend_schema_field(serializers.DictField())
    def get_expected(self, revision: Revision) -> dict[str, Any]:
        chosen = revision.configuration or {}
        return {name: chosen.get(name) for name in EXPECTED}


class RevisionDetailSerializer(RevisionSerializer):
    """A revision with the whole plan as it was shown."""

    plan = serializers.DictField()

    class Meta(RevisionSerializer.Meta):
        fields = [*RevisionSerializer.Meta.fields, "plan"]


class ProfileSerializer(serializers.Serializer):
    """A shape of load. The rate is everybody's own."""

    name = serializers.CharField()
    title = serializers.CharField()
    description = serializers.CharField()
    burstiness = serializers.FloatField(help_text="The busiest minute's rate over the mean.")
    input_tokens = serializers.IntegerField(source="input.mean", help_text="In the mean.")
    input_cv = serializers.FloatField(source="input.cv", help_text="Standard deviation over mean.")
    output_tokens = serializers.IntegerField(source="output.mean", help_text="In the mean.")
    output_cv = serializers.FloatField(source="output.cv")
    prefix_share = serializers.FloatField(help_text="Share of the input that other requests began with, too.")
    context_tokens = serializers.IntegerField(help_text="Suggested cap of a request with its answer.")
    output_limit = serializers.IntegerField(
        source="max_output_tokens", help_text="Suggested cap of an answer."
    )
    source = serializers.CharField(help_text="Where its numbers come from.")


class ProfilesSerializer(serializers.Serializer):
    results = ProfileSerializer(many=True)


class PinsSerializer(serializers.Serializer):
    """What the order leaves no choice in; what is not named, Berth chose."""

    gpu = serializers.CharField(required=False)
    cluster = serializers.CharField(required=False)
    precision = serializers.ChoiceField(choices=PRECISIONS, required=False)
    tp = serializers.IntegerField(required=False)
    pp = serializers.IntegerField(required=False)
    max_batch_size = serializers.IntegerField(required=False)


class EndpointSerializer(serializers.ModelSerializer):
    """An endpoint in a list."""

    project = serializers.CharField(source="project.slug")
    model = serializers.CharField(source="model.name")
    slo_class = serializers.CharField(source="slo_class.name")
    state = serializers.ChoiceField(choices=EndpointState.choices)
    reason = serializers.CharField(source="state_reason")
    since = serializers.DateTimeField(source="state_since")
    next_action = serializers.SerializerMethodField()
    pins = PinsSerializer()
    revision = serializers.SerializerMethodField()

    class Meta:
        model = Endpoint
        fields = [
            "id", "name", "project", "project_id", "model", "model_id", "slo_class", "slo_class_id",
            "residency", "certifications", "near", "profile", "requests_per_second", "burstiness", "input_tokens",
            "input_cv", "output_tokens", "output_cv", "prefix_share", "context_tokens", "output_limit", "pins",
            "approved_precisions", "replicas", "requests_per_minute", "tokens_per_minute", "shared",
            "wanted", "generation", "observed_generation",
            "state", "reason", "since", "next_action", "revision", "created_at", "ready_at", "deleted_at",
        ]  # fmt: skip

    def get_next_action(self, endpoint: Endpoint) -> str:
        return NEXT_ACTION[endpoint.state]

    @extend_schema_field(RevisionSerializer(allow_null=True))
    def get_revision(self, endpoint: Endpoint) -> dict[str, Any] | None:
        current = endpoint.current_revisions
        return RevisionSerializer(current[0]).data if current else None


class CallableAtSerializer(serializers.Serializer):
    """Where an OpenAI client calls the endpoint."""

    gateway = serializers.CharField()
    region = serializers.CharField()
    base_url = serializers.CharField()


class FallbackSerializer(serializers.Serializer):
    """An endpoint that takes another's requests, where its class says so."""

    id = serializers.UUIDField()
    name = serializers.CharField(help_text="Empty: it is gone.")
    note = serializers.CharField(
        help_text="Why it takes none, or none now; empty: nothing stands in the way."
    )


class EndpointDetailSerializer(EndpointSerializer):
    """An endpoint with all that is known of it."""

    fallbacks = serializers.SerializerMethodField()
    overload = serializers.SerializerMethodField(
        help_text="What happens to a request when there is no room, in words."
    )

    conditions = ConditionSerializer(many=True)
    observed_replicas = ReplicaSerializer(many=True, source="present")
    urls = serializers.SerializerMethodField()
    capacity = serializers.SerializerMethodField(help_text="While it waits for free GPUs, else null.")
    approval = serializers.SerializerMethodField(
        help_text="What waits for somebody's approval, else the last request about it; null: there was none."
    )

    class Meta(EndpointSerializer.Meta):
        fields = [
            *EndpointSerializer.Meta.fields,
            "fallbacks",
            "overload",
            "conditions",
            "observed_replicas",
            "urls",
            "capacity",
            "approval",
        ]

    @extend_schema_field(FallbackSerializer(many=True))
    def get_fallbacks(self, endpoint: Endpoint) -> list[dict[str, Any]]:
        return FallbackSerializer(endpoint_fallbacks(endpoint), many=True).data

    def get_overload(self, endpoint: Endpoint) -> str:
        return overload_policy(endpoint)

    @extend_schema_field(CallableAtSerializer(many=True))
    def get_urls(self, endpoint: Endpoint) -> list[dict[str, Any]]:
        return CallableAtSerializer(selectors.endpoint_urls(endpoint), many=True).data

    @extend_schema_field(CapacitySerializer(allow_null=True))
    def get_capacity(self, endpoint: Endpoint) -> dict[str, Any] | None:
        answer = capacity_of(endpoint)
        return CapacitySerializer(answer).data if answer else None

    @extend_schema_field(ApprovalBriefSerializer(allow_null=True))
    def get_approval(self, endpoint: Endpoint) -> dict[str, Any] | None:
        request = request_of(endpoint)
        return ApprovalBriefSerializer(request).data if request else None


class EventSerializer(serializers.ModelSerializer):
    """A line of an endpoint's history; without actor it is what the reconciler saw or did."""

    class Meta:
        model = EndpointEvent
        fields = ["id", "kind", "message", "actor", "created_at"]


class LogQuery(StrictSerializer):
    replica = serializers.CharField(
        max_length=80, default="", allow_blank=True, help_text="Its id; the newest one if left out."
    )
    lines = serializers.IntegerField(min_value=1, max_value=selectors.MOST_LOG_LINES, default=100)


class LogSerializer(serializers.Serializer):
    """The last lines of one engine's own log."""

    replica = serializers.CharField()
    lines = serializers.ListField(child=serializers.CharField())
