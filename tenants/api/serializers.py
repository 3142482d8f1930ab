"""Tenants' objects as JSON: what is shown, and what may be sent."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from tenants.api.fields import ReferenceField, StrictSerializer
from tenants.limits import KEY_LIMITS, RATES
from tenants.models import ApiKey, KeyScope, Membership, Project, Role
from tenants.models.tenants import slug_rule

MOST_A_MINUTE = 2_147_483_647


def rate_field(what: str, **options: Any) -> serializers.IntegerField:
    """Give a field for a limit a minute; null lifts it."""
    return serializers.IntegerField(
        min_value=1, max_value=MOST_A_MINUTE, allow_null=True, required=False,
        help_text=f"{what} a minute over all gateways; null: no limit.", **options,
    )  # fmt: skip


class RatesBody(StrictSerializer):
    """Limits a minute; only what is sent is changed."""

    requests_per_minute = rate_field("Requests")
    tokens_per_minute = rate_field("Tokens, input and output together,")


def apart(values: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Gather the fields ``names`` of a checked body under ``limits``."""
    limits = {name: values.pop(name) for name in names if name in values}
    return {**values, "limits": limits} if limits else values


class ProjectSerializer(serializers.ModelSerializer):
    """A cost centre inside a tenant."""

    class Meta:
        model = Project
        fields = [
            "id", "slug", "name", "cost_centre", "requests_per_minute", "tokens_per_minute", "created_at",
        ]  # fmt: skip


class ProjectCreate(RatesBody):
    """A cost centre to be made."""

    slug = serializers.CharField(max_length=40, validators=[slug_rule])
    name = serializers.CharField(max_length=120)
    cost_centre = serializers.CharField(max_length=64, allow_blank=True, default="")

    def validate(self, values):
        return apart(values, RATES)


class ProjectChange(RatesBody):
    """Only what is sent is changed. The slug stays: keys, labels and statements refer to it."""

    name = serializers.CharField(max_length=120, required=False)
    cost_centre = serializers.CharField(max_length=64, allow_blank=True, required=False)

    def validate(self, values):
        return apart(values, RATES)


class MemberSerializer(serializers.ModelSerializer):
    """A person with a role in the tenant."""

    email = serializers.EmailField(source="user.email")
    name = serializers.CharField(source="user.name")

    class Meta:
        model = Membership
        fields = ["id", "email", "name", "role", "created_at"]


class MemberCreate(StrictSerializer):
    email = serializers.EmailField(max_length=254)
    role = serializers.ChoiceField(choices=Role.choices)
    name = serializers.CharField(max_length=120, allow_blank=True, default="", help_text="For a new account.")


class MemberChange(StrictSerializer):
    role = serializers.ChoiceField(choices=Role.choices)


class KeySerializer(serializers.ModelSerializer):
    """A key, recognised by its first characters; its text is shown once, when it is made."""

    project = serializers.SlugRelatedField(slug_field="slug", read_only=True, allow_null=True)
    state = serializers.SerializerMethodField()

    class Meta:
        model = ApiKey
        fields = [
            "id", "name", "scope", "project", "project_id", "role", "hint", "state",
            "slo_class", "context_tokens", "requests_per_minute", "tokens_per_minute",
            "created_at", "expires_at", "revoked_at", "last_used_at",
        ]  # fmt: skip

    @extend_schema_field({"type": "string", "enum": ["active", "expired", "revoked"]})
    def get_state(self, key: ApiKey) -> str:
        return key.state(timezone.now())


class NewKeySerializer(KeySerializer):
    """A key just made, with its text."""

    key = serializers.CharField(source="text", help_text="Shown now and never again.")

    class Meta(KeySerializer.Meta):
        fields = [*KeySerializer.Meta.fields, "key"]


class KeyLimits(RatesBody):
    """What an inference key may use; the lower of its class and the endpoint's holds."""

    slo_class = serializers.CharField(
        max_length=40, allow_blank=True, required=False,
        help_text="Name of a class for its requests, where it is lower than the endpoint's. Empty: the endpoint's.",
    )  # fmt: skip
    context_tokens = serializers.IntegerField(
        min_value=2, max_value=MOST_A_MINUTE, allow_null=True, required=False,
        help_text="Most tokens of a request with its answer; null: what the endpoint allows.",
    )  # fmt: skip


class KeyChange(KeyLimits):
    """Only what is sent is changed. Purpose, project, role and expiry stay."""

    name = serializers.CharField(max_length=80, required=False)

    def validate(self, values):
        return apart(values, KEY_LIMITS)


class KeyCreate(KeyLimits):
    """An inference key calls the models of its ``project``; a management key acts here with a ``role``."""

    name = serializers.CharField(max_length=80)
    scope = serializers.ChoiceField(choices=KeyScope.choices)
    project = ReferenceField(find=lambda: Project.objects.all(), by="slug", what="project", required=False)
    role = serializers.ChoiceField(choices=Role.choices, required=False)
    expires_at = serializers.DateTimeField(
        required=False, default_timezone=dt.UTC, help_text="Within 366 days; 90 days from now if left out."
    )

    def validate(self, values):
        wrong = "role" if values["scope"] == KeyScope.INFERENCE else "project"
        if wrong in values:
            raise serializers.ValidationError(
                {wrong: [f"A key with scope {values['scope']} has no {wrong}."]}
            )
        return apart(values, KEY_LIMITS)
