"""Evaluation sets and runs as JSON: what is shown, and what may be sent."""

from __future__ import annotations

from typing import Any, Final

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from clusters.endpoints.evaluations import prompts as written
from clusters.endpoints.evaluations.prompts import (
    MOST_ANSWER,
    MOST_CHECKS,
    MOST_MESSAGES,
    MOST_PATTERN,
    MOST_PROMPTS,
    MOST_TEXT,
)
from clusters.endpoints.evaluations.sets import USUAL_PERCENT, newest_version, opened
from clusters.models import CatalogModel, Endpoint, EvaluationRun, EvaluationSet
from tenants import narrowing
from tenants.api.fields import ReferenceField, StrictSerializer

_TEXT: Final = {"type": "string", "maxLength": MOST_TEXT}
_WEIGHT: Final = {"type": "integer", "minimum": 1, "maximum": 100, "default": 1}
_CHECK: Final = {
    "type": "object",
    "additionalProperties": False,
    "description": "Exactly one of the checks, with its weight. ignore_case is of texts.",
    "properties": {
        "contains": _TEXT,
        "not_contains": _TEXT,
        "equals": {**_TEXT, "description": "After blanks at both ends are cut."},
        "regex": {
            "type": "string", "maxLength": MOST_PATTERN,
            "description": "Found anywhere in the answer, in linear time: no look-around and no back references.",
        },
        "json_schema": {
            "type": "object", "additionalProperties": True,
            "description": "Draft 2020-12. The answer is JSON that fits; it refers to nothing outside itself.",
        },
        "max_tokens": {"type": "integer", "minimum": 1, "maximum": MOST_ANSWER},
        "similar": {
            "type": "number", "maximum": 1,
            "description": "Least likeness with what the old revision answers, above 0.",
        },
        "ignore_case": {"type": "boolean", "default": False},
        "weight": _WEIGHT,
    },
}  # fmt: skip
_PROMPT: Final = {
    "type": "object",
    "additionalProperties": False,
    "required": ["checks"],
    "description": "Either a prompt, which the model goes on with, or messages.",
    "properties": {
        "name": {"type": "string", "maxLength": 80},
        "prompt": _TEXT,
        "messages": {
            "type": "array", "minItems": 1, "maxItems": MOST_MESSAGES,
            "items": {
                "type": "object", "additionalProperties": False, "required": ["role", "content"],
                "properties": {
                    "role": {"type": "string", "enum": ["system", "user", "assistant"]},
                    "content": _TEXT,
                },
            },
        },
        "max_tokens": {"type": "integer", "minimum": 1, "maximum": MOST_ANSWER, "default": 256},
        "checks": {"type": "array", "minItems": 1, "maxItems": MOST_CHECKS, "items": _CHECK},
    },
}  # fmt: skip


@extend_schema_field({"type": "array", "minItems": 1, "maxItems": MOST_PROMPTS, "items": _PROMPT})
class PromptsField(serializers.Field):
    """Prompts with checks."""

    def to_internal_value(self, data: Any) -> tuple[written.Prompt, ...]:
        return written.checked(data)

    def to_representation(self, value: Any) -> list[dict[str, Any]]:
        return written.plain(value)


def _percent(**options: Any) -> serializers.DecimalField:
    return serializers.DecimalField(
        max_digits=5, decimal_places=2, min_value=0, max_value=100, allow_null=True, **options
    )


_SHARE: Final = "Percent of the weights of all checks that have to be passed; null demands none."
_DROP: Final = "Points that the score may be below the old revision's; null does not compare."


class EvaluationSetBody(StrictSerializer):
    """What a set of the platform's is made of."""

    name = serializers.CharField(max_length=80)
    model = ReferenceField(
        find=CatalogModel.objects.all, by="name", what="model", help_text="Name of the catalog model."
    )
    prompts = PromptsField()
    pass_percent = _percent(default=USUAL_PERCENT, help_text=_SHARE)
    most_drop = _percent(default=None, help_text=_DROP)


class OwnEvaluationSetBody(EvaluationSetBody):
    """What a set of a tenant's is made of: for one of its endpoints, or for a model."""

    model = ReferenceField(
        find=CatalogModel.objects.all, by="name", what="model", required=False,
        help_text="Name of the catalog model. One of model and endpoint_id.",
    )  # fmt: skip
    endpoint_id = serializers.UUIDField(required=False)

    def validate_endpoint_id(self, endpoint_id: Any) -> Endpoint:
        found = narrowing.within(Endpoint.objects.live(), "project").filter(id=endpoint_id).first()
        if found is None:
            raise serializers.ValidationError("There is no such endpoint.")
        return found

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        if ("model" in values) == ("endpoint_id" in values):
            raise serializers.ValidationError({"model": ["Give one of model and endpoint_id."]})
        if "endpoint_id" in values:
            values["endpoint"] = values.pop("endpoint_id")
        return values


class EvaluationSetChange(StrictSerializer):
    """Only what is sent is changed. Other prompts or demands make a new version."""

    name = serializers.CharField(max_length=80, required=False)
    prompts = PromptsField(required=False)
    pass_percent = _percent(required=False, help_text=_SHARE)
    most_drop = _percent(required=False, help_text=_DROP)


class EvaluationSetSerializer(serializers.ModelSerializer):
    """A set as it holds now. ``owner`` is who may change it; a tenant sees the platform's beside its own."""

    owner = serializers.SerializerMethodField()
    model = serializers.SlugRelatedField(slug_field="name", read_only=True, allow_null=True)
    endpoint_id = serializers.UUIDField(read_only=True, allow_null=True)

    class Meta:
        model = EvaluationSet
        fields = ["id", "name", "owner", "model", "endpoint_id", "version", "created_at"]

    @extend_schema_field({"type": "string", "enum": ["platform", "tenant"]})
    def get_owner(self, found: EvaluationSet) -> str:
        return "platform" if found.tenant_id is None else "tenant"


class EvaluationSetDetailSerializer(EvaluationSetSerializer):
    """A set with the prompts of its newest version."""

    pass_percent = serializers.SerializerMethodField(help_text=_SHARE)
    most_drop = serializers.SerializerMethodField(help_text=_DROP)
    made_as = serializers.SerializerMethodField(help_text="Who made the newest version.")
    prompts = serializers.SerializerMethodField()

    class Meta(EvaluationSetSerializer.Meta):
        fields = [*EvaluationSetSerializer.Meta.fields, "pass_percent", "most_drop", "made_as", "prompts"]

    def to_representation(self, found: EvaluationSet) -> dict[str, Any]:
        self._newest = newest_version(found)
        return super().to_representation(found)

    @extend_schema_field(_percent())
    def get_pass_percent(self, found: EvaluationSet) -> str | None:
        return _plain(self._newest.pass_percent)

    @extend_schema_field(_percent())
    def get_most_drop(self, found: EvaluationSet) -> str | None:
        return _plain(self._newest.most_drop)

    def get_made_as(self, found: EvaluationSet) -> str:
        return self._newest.made_as

    @extend_schema_field(PromptsField())
    def get_prompts(self, found: EvaluationSet) -> list[dict[str, Any]]:
        return written.plain(opened(self._newest))


def _plain(value: Any) -> str | None:
    return None if value is None else f"{value:.2f}"


class JudgedSerializer(serializers.Serializer):
    kind = serializers.ChoiceField(choices=written.KINDS)
    weight = serializers.IntegerField()
    passed = serializers.BooleanField(allow_null=True, help_text="Null: there was nothing to compare with.")
    reason = serializers.CharField(help_text="Why it was not passed. No text of prompts or answers.")


class ResultSerializer(serializers.Serializer):
    """What came of one prompt."""

    name = serializers.CharField()
    checks = JudgedSerializer(many=True)
    before = JudgedSerializer(many=True, allow_null=True, help_text="Of the old revision; null: not asked.")
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cached_tokens = serializers.IntegerField()


class EvaluationRunSerializer(serializers.ModelSerializer):
    """A revision asked the prompts of a set, and what came of it."""

    endpoint_id = serializers.UUIDField(read_only=True)
    endpoint = serializers.CharField(source="endpoint.name", read_only=True)
    revision = serializers.IntegerField(source="revision.number", read_only=True)
    before = serializers.IntegerField(source="before.number", read_only=True, default=None, allow_null=True)
    set_id = serializers.UUIDField(source="version.set_id", read_only=True)
    set = serializers.CharField(source="version.set.name", read_only=True)
    version = serializers.IntegerField(source="version.number", read_only=True)
    prompts = serializers.IntegerField(source="version.prompts", read_only=True)
    asked = serializers.SerializerMethodField(help_text="How many of the prompts were asked.")

    class Meta:
        model = EvaluationRun
        fields = [
            "id", "endpoint_id", "endpoint", "revision", "before", "set_id", "set", "version", "state", "message",
            "asked_as", "prompts", "asked", "pass_percent", "most_drop", "score", "score_before", "input_tokens",
            "output_tokens", "cost", "currency", "created_at", "began_at", "ended_at", "decided_as", "decided_at",
            "note",
        ]  # fmt: skip

    def get_asked(self, run: EvaluationRun) -> int:
        return len(run.results)


class EvaluationRunDetailSerializer(EvaluationRunSerializer):
    """A run with what came of each prompt."""

    results = ResultSerializer(many=True)

    class Meta(EvaluationRunSerializer.Meta):
        fields = [*EvaluationRunSerializer.Meta.fields, "results"]


class EvaluationRunsSerializer(serializers.Serializer):
    results = EvaluationRunSerializer(many=True)


class EvaluateBody(StrictSerializer):
    """What is asked. Without a set: every one that holds for the endpoint."""

    set_id = serializers.UUIDField(required=False)
    revision = serializers.IntegerField(
        min_value=1,
        max_value=2**31 - 1,
        required=False,
        help_text="Its number. The one that is wanted now if left out.",
    )
    against = serializers.IntegerField(
        min_value=1, max_value=2**31 - 1, required=False,
        help_text="Number of a revision that still runs, to compare with.",
    )  # fmt: skip


class AcceptBody(StrictSerializer):
    note = serializers.CharField(max_length=300, help_text="Why it is accepted.")
