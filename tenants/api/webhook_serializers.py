"""Webhooks and their deliveries as JSON: what is shown, and what may be sent."""

from __future__ import annotations

from rest_framework import serializers

from tenants.api.fields import StrictSerializer
from tenants.models import OutboxState, WebhookDelivery, WebhookEndpoint
from tenants.webhooks.events import EVENT_TYPES

_EVENTS = list(EVENT_TYPES)


class WebhookSerializer(serializers.ModelSerializer):
    """An address that is told of events. Its secret is shown once, when it is made or rotated."""

    event_types = serializers.ListField(child=serializers.ChoiceField(choices=_EVENTS))
    previous_until = serializers.DateTimeField(
        allow_null=True,
        help_text="Until then the secret before the last rotation signs, too; null: there is none.",
    )

    class Meta:
        model = WebhookEndpoint
        fields = [
            "id", "name", "url", "event_types", "active", "previous_until", "failing_since", "disabled_at",
            "disabled_reason", "created_at",
        ]  # fmt: skip


class NewWebhookSerializer(WebhookSerializer):
    """A webhook with its new secret."""

    secret = serializers.CharField(source="shown", help_text="Shown now and never again.")

    class Meta(WebhookSerializer.Meta):
        fields = [*WebhookSerializer.Meta.fields, "secret"]


class WebhookCreate(StrictSerializer):
    name = serializers.CharField(max_length=80)
    url = serializers.CharField(max_length=500, help_text="Begins with https://; where events are posted to.")
    event_types = serializers.ListField(
        child=serializers.ChoiceField(choices=_EVENTS), min_length=1, max_length=len(_EVENTS)
    )
    active = serializers.BooleanField(default=True)


class WebhookChange(StrictSerializer):
    """Only what is sent is changed."""

    name = serializers.CharField(max_length=80, required=False)
    url = serializers.CharField(max_length=500, required=False)
    event_types = serializers.ListField(
        child=serializers.ChoiceField(choices=_EVENTS), min_length=1, max_length=len(_EVENTS), required=False
    )
    active = serializers.BooleanField(
        required=False, help_text="Making it active again forgets its failures."
    )


class AttemptSerializer(serializers.Serializer):
    """One attempt to deliver. ``note`` is the beginning of the answer, or why there was none."""

    at = serializers.DateTimeField()
    status = serializers.IntegerField(allow_null=True, help_text="HTTP status; null: there was no answer.")
    took_ms = serializers.IntegerField()
    note = serializers.CharField()


class DeliverySerializer(serializers.ModelSerializer):
    """An event for a webhook, and what became of it."""

    state = serializers.ChoiceField(choices=OutboxState.choices)
    log = AttemptSerializer(many=True)

    class Meta:
        model = WebhookDelivery
        fields = [
            "id", "event_id", "event_type", "state", "attempts", "due_at", "sent_at", "body", "log", "created_at",
        ]  # fmt: skip
