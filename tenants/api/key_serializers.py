"""Keys as JSON: what is shown, and what may be sent."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from tenants.api.fields import MomentField, ReferenceField, StrictSerializer
from tenants.api.projects import project_field
from tenants.api.serializers import MOST_A_MINUTE, RatesBody, apart
from tenants.key_sweeps import MOST_AT_ONCE, MOST_TEXTS, Sweep
from tenants.keys import DEFAULT_OVERLAP, LONGEST_OVERLAP
from tenants.limits import KEY_LIMITS
from tenants.models import ApiKey, KeyScope, Role, ServiceAccount
from tenants.networks import MOST_NETWORKS
from tenants.reach import KEY_REACH, MOST_ENDPOINTS, MOST_PROJECTS

KEY_STATES = ["active", "expired", "revoked", "disabled"]
LONGEST_TEXT = 200


class KeySerializer(serializers.ModelSerializer):
    """A key, recognised by its first characters; its text is shown once, when it is made."""

    project = serializers.SlugRelatedField(slug_field="slug", read_only=True, allow_null=True)
    service_account = serializers.SlugRelatedField(slug_field="name", read_only=True, allow_null=True)
    role = serializers.ChoiceField(
        source="acting_role", choices=Role.choices, allow_blank=True, read_only=True,
        help_text="With which a management key acts: its own or its service account's.",
    )  # fmt: skip
    state = serializers.SerializerMethodField()
    replaced_by = serializers.UUIDField(
        source="replaced_by_id", read_only=True, allow_null=True, help_text="The key that took its place."
    )
    earlier = serializers.ListField(
        child=serializers.UUIDField(),
        read_only=True,
        help_text="The keys whose place it took, the first one first.",
    )

    class Meta:
        model = ApiKey
        fields = [
            "id", "name", "scope", "project", "project_id", "role", "service_account", "service_account_id", "hint",
            "state", "slo_class", "context_tokens", "requests_per_minute", "tokens_per_minute",
            "networks", "verbs", "endpoints", "projects",
            "created_at", "expires_at", "revoked_at", "last_used_at", "last_used_from",
            "replaced_by", "rotated_at", "earlier",
        ]  # fmt: skip

    @extend_schema_field({"type": "string", "enum": KEY_STATES})
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
    networks = serializers.ListField(
        child=serializers.CharField(max_length=60, allow_blank=True), max_length=MOST_NETWORKS, required=False,
        help_text="CIDRs from which it may be used. Empty: from anywhere.",
    )  # fmt: skip
    verbs = serializers.ListField(
        child=serializers.CharField(max_length=32), max_length=32, required=False,
        help_text="What it may be used for; an inference key chat, completions, embeddings, models, files and batches,"
        " a management key what its role may. Empty: all of that.",
    )  # fmt: skip
    endpoints = serializers.ListField(
        child=serializers.UUIDField(), max_length=MOST_ENDPOINTS, required=False,
        help_text="Ids of the endpoints and named routes that an inference key may call. Empty: all it reaches.",
    )  # fmt: skip
    projects = serializers.ListField(
        child=serializers.UUIDField(), max_length=MOST_PROJECTS, required=False,
        help_text="Ids of the projects whose objects a management key sees. Empty: the whole tenant.",
    )  # fmt: skip


def split(values: dict[str, Any]) -> dict[str, Any]:
    """Gather limits under ``limits`` and what a key reaches under ``narrowed``."""
    values = apart(values, KEY_LIMITS)
    narrowed = {name: values.pop(name) for name in KEY_REACH if name in values}
    return {**values, "narrowed": narrowed} if narrowed else values


class KeyChange(KeyLimits):
    """Only what is sent is changed. Purpose, project, role, service account and expiry stay."""

    name = serializers.CharField(max_length=80, required=False)

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        return split(values)


def account_field(**options: Any) -> ReferenceField:
    """Give a field that names a service account of the tenant."""
    return ReferenceField(
        find=lambda: ServiceAccount.objects.filter(removed_at=None), by="name", what="service account",
        required=False, **options,
    )  # fmt: skip


class KeyCreate(KeyLimits):
    """An inference key calls the models of its ``project``; a management key acts here with a ``role``, or with that
    of its ``service_account``."""

    name = serializers.CharField(max_length=80)
    scope = serializers.ChoiceField(choices=KeyScope.choices)
    project = project_field(required=False)
    role = serializers.ChoiceField(choices=Role.choices, required=False)
    service_account = account_field(help_text="Name of the one that it is for.")
    expires_at = serializers.DateTimeField(
        required=False, default_timezone=dt.UTC, help_text="Within 366 days; 90 days from now if left out."
    )

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        wrong = "role" if values["scope"] == KeyScope.INFERENCE else "project"
        if wrong in values:
            raise serializers.ValidationError(
                {wrong: [f"A key with scope {values['scope']} has no {wrong}."]}
            )
        return split(values)


class KeyRotate(StrictSerializer):
    """How long the old key goes on, and until when the new one lasts."""

    overlap_s = serializers.IntegerField(
        min_value=0, max_value=int(LONGEST_OVERLAP.total_seconds()), default=int(DEFAULT_OVERLAP.total_seconds()),
        help_text="Seconds for which the old key goes on beside the new one.",
    )  # fmt: skip
    expires_at = serializers.DateTimeField(
        required=False, default_timezone=dt.UTC,
        help_text="Of the new key, within 366 days; if left out it lasts as long as the old one was made for.",
    )  # fmt: skip

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        overlap = dt.timedelta(seconds=values.pop("overlap_s"))
        return {**values, "overlap": overlap}


class KeysRevoke(StrictSerializer):
    """With ``dry_run`` and filters: which keys are meant. With ``ids``: exactly these."""

    dry_run = serializers.BooleanField(help_text="Whether to show the keys and leave them as they are.")
    ids = serializers.ListField(
        child=serializers.UUIDField(), allow_empty=False, max_length=MOST_AT_ONCE, required=False,
        help_text="Of keys to revoke, as a dry run gave them.",
    )  # fmt: skip
    scope = serializers.ChoiceField(choices=KeyScope.choices, required=False)
    project = project_field(required=False)
    service_account = account_field(help_text="Name of the one that they are for.")
    created_by = serializers.EmailField(
        max_length=254, required=False, help_text="Of the person who made them."
    )
    name = serializers.CharField(max_length=80, required=False, help_text="Part of their names.")
    unused_since = MomentField(
        required=False, default_timezone=dt.UTC, help_text="Not used since then, and made before."
    )
    texts = serializers.ListField(
        child=serializers.CharField(max_length=LONGEST_TEXT), allow_empty=False, max_length=MOST_TEXTS, required=False,
        help_text="Whole keys, or at least their first 12 characters.",
    )  # fmt: skip

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        dry_run, ids = values.pop("dry_run"), values.pop("ids", None)
        if ids is not None and values:
            raise serializers.ValidationError({"ids": ["Send ids or filters, not both."]})
        if not dry_run and ids is None:
            raise serializers.ValidationError(
                {"ids": ["Filters alone revoke nothing: send the ids that a dry run with them gave."]}
            )
        return {"dry_run": dry_run, "ids": ids, "sweep": Sweep(**values)}


class SweptKeySerializer(KeySerializer):
    """A key that is meant, and whether the caller's role may revoke it."""

    revocable = serializers.BooleanField()

    class Meta(KeySerializer.Meta):
        fields = [*KeySerializer.Meta.fields, "revocable"]


class SweptKeysSerializer(serializers.Serializer):
    """The keys that are meant, or were revoked."""

    dry_run = serializers.BooleanField()
    results = SweptKeySerializer(many=True)


class KeyLeaked(StrictSerializer):
    """The text of a key that others know."""

    key = serializers.CharField(max_length=LONGEST_TEXT, write_only=True, help_text="The whole key.")
