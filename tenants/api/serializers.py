"""Tenants' objects as JSON: what is shown, and what may be sent."""

from __future__ import annotations

import datetime as dt

from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from tenants.api.fields import ReferenceField, StrictSerializer
from tenants.models import ApiKey, KeyScope, Membership, Project, Role
from tenants.models.tenants import slug_rule


class ProjectSerializer(serializers.ModelSerializer):
    """A cost centre inside a tenant."""

    class Meta:
        model = Project
        fields = ["id", "slug", "name", "cost_centre", "created_at"]


class ProjectCreate(StrictSerializer):
    slug = serializers.CharField(max_length=40, validators=[slug_rule])
    name = serializers.CharField(max_length=120)
    cost_centre = serializers.CharField(max_length=64, allow_blank=True, default="")


class ProjectChange(StrictSerializer):
    """Only what is sent is changed. The slug stays: keys, labels and statements refer to it."""

    name = serializers.CharField(max_length=120, required=False)
    cost_centre = serializers.CharField(max_length=64, allow_blank=True, required=False)


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


class KeyCreate(StrictSerializer):
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
        return values
