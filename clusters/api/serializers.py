"""Endpoints and what they are ordered from, as JSON: what is shown, and what may be sent."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from clusters.endpoints import selectors
from clusters.endpoints.planning import OrderTerms
from clusters.endpoints.states import NEXT_ACTION
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
from clusters.planning.plans import PlanStatus
from tenants.api.fields import ReferenceField, StrictSerializer
from tenants.models import Project

MOST_TOKENS = 10_000_000
#: What a revision shows of its plan's configuration.
EXPECTED = (
    "ttft_ms", "itl_ms", "tokens_per_s", "price_per_gpu_hour", "price_per_hour", "price_per_million_tokens",
)  # fmt: skip


class CatalogModelSerializer(serializers.ModelSerializer):
    """A model that may be ordered."""

    parameters = serializers.IntegerField(source="architecture.parameters")
    active_parameters = serializers.IntegerField(source="architecture.active_parameters")
    derived_from = serializers.SlugRelatedField(slug_field="name", read_only=True, allow_null=True)

    class Meta:
        model = CatalogModel
        fields = [
            "id", "name", "title", "description", "licence", "allowed_zones", "runtimes", "precisions",
            "parameters", "active_parameters", "context_tokens", "derived_from",
        ]  # fmt: skip


class SloClassSerializer(serializers.ModelSerializer):
    """A class of service. Latencies in milliseconds, null where there is no target; timeouts in seconds."""

    class Meta:
        model = SloClass
        fields = [
            "id", "name", "title", "description", "ttft_p95_ms", "itl_p95_ms", "availability", "priority",
            "price_factor", "first_token_timeout_s", "between_tokens_timeout_s", "total_timeout_s",
            "attempts",
        ]  # fmt: skip


class RegionSerializer(serializers.ModelSerializer):
    """Where endpoints may run: what residency and certifications of an order are compared with."""

    class Meta:
        model = Region
        fields = ["code", "name", "country", "zones", "certifications"]


class PlanRequest(StrictSerializer):
    """Model, SLO class, residency and expected load. ``residency`` is global, zone:EU or region:eu-de-1."""

    name = serializers.CharField(max_length=63, required=False, help_text="Not looked at in a plan.")
    project = ReferenceField(
        find=lambda: Project.objects.all(), by="slug", what="project", required=False, help_text="Its slug."
    )
    model = ReferenceField(find=lambda: CatalogModel.objects.filter(published=True), by="name", what="model")
    slo_class = ReferenceField(find=lambda: SloClass.objects.all(), by="name", what="SLO class")
    residency = serializers.CharField(max_length=60, default="global")
    certifications = serializers.ListField(
        child=serializers.CharField(max_length=40), max_length=20, default=list, help_text="All must be held."
    )
    requests_per_second = serializers.FloatField(min_value=0, max_value=1e6, default=1.0)
    input_tokens = serializers.IntegerField(min_value=1, max_value=MOST_TOKENS, default=500)
    output_tokens = serializers.IntegerField(min_value=1, max_value=MOST_TOKENS, default=200)
    context_tokens = serializers.IntegerField(
        min_value=1,
        max_value=MOST_TOKENS,
        allow_null=True,
        default=None,
        help_text="Null: all of the model's.",
    )
    replicas = serializers.IntegerField(
        min_value=1, max_value=64, allow_null=True, default=None, help_text="Null: as many as the load needs."
    )

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        asked = dict(values)
        order = {name: asked.pop(name) for name in ("name", "project") if name in asked}
        certifications = tuple(dict.fromkeys(asked.pop("certifications")))
        return {**order, "terms": OrderTerms(**asked, certifications=certifications)}


class EndpointOrder(PlanRequest):
    """An order: what to run, for whom, under which name."""

    name = serializers.CharField(max_length=63, help_text="The model name that clients of the endpoint send.")
    project = ReferenceField(
        find=lambda: Project.objects.all(), by="slug", what="project", help_text="Its slug."
    )


class EndpointChange(StrictSerializer):
    replicas = serializers.IntegerField(min_value=1, max_value=64)


class QuotaEffectSerializer(serializers.Serializer):
    resource = serializers.CharField()
    limit = serializers.IntegerField()
    used = serializers.IntegerField(help_text="What would be held once the plan is carried out.")


class PlanSerializer(serializers.Serializer):
    """The answer to an order before anything is spent, with a reason for every candidate not chosen."""

    status = serializers.ChoiceField(choices=[each.value for each in PlanStatus])
    message = serializers.CharField()
    currency = serializers.CharField()
    configuration = serializers.DictField(
        allow_null=True, help_text="Cluster, GPUs, parallelism, replicas, expected speed, prices per hour."
    )
    refusals = serializers.ListField(child=serializers.DictField(), help_text="One by one, with reason.")
    headlines = serializers.ListField(
        child=serializers.DictField(), help_text="Of each pool not chosen, the candidate that came furthest."
    )
    alternatives = serializers.ListField(
        child=serializers.DictField(), help_text="What could be had at once by giving up one demand."
    )
    quota = QuotaEffectSerializer(many=True)


class ConditionSerializer(serializers.ModelSerializer):
    class Meta:
        model = Condition
        fields = ["type", "status", "reason", "message", "observed_generation", "changed_at"]


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


class EndpointSerializer(serializers.ModelSerializer):
    """An endpoint in a list."""

    project = serializers.CharField(source="project.slug")
    model = serializers.CharField(source="model.name")
    slo_class = serializers.CharField(source="slo_class.name")
    state = serializers.ChoiceField(choices=EndpointState.choices)
    reason = serializers.CharField(source="state_reason")
    since = serializers.DateTimeField(source="state_since")
    next_action = serializers.SerializerMethodField()
    revision = serializers.SerializerMethodField()

    class Meta:
        model = Endpoint
        fields = [
            "id", "name", "project", "project_id", "model", "model_id", "slo_class", "slo_class_id",
            "residency", "certifications", "requests_per_second", "input_tokens", "output_tokens",
            "context_tokens", "replicas", "wanted", "generation", "observed_generation",
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


class EndpointDetailSerializer(EndpointSerializer):
    """An endpoint with all that is known of it."""

    conditions = ConditionSerializer(many=True)
    observed_replicas = ReplicaSerializer(many=True, source="present")
    urls = serializers.SerializerMethodField()

    class Meta(EndpointSerializer.Meta):
        fields = [*EndpointSerializer.Meta.fields, "conditions", "observed_replicas", "urls"]

    @extend_schema_field(CallableAtSerializer(many=True))
    def get_urls(self, endpoint: Endpoint) -> list[dict[str, Any]]:
        return CallableAtSerializer(selectors.endpoint_urls(endpoint), many=True).data


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
