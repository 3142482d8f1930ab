"""Invitations as JSON. The link itself goes by mail alone and is shown to nobody."""

from __future__ import annotations

from rest_framework import serializers

from tenants.api.fields import StrictSerializer
from tenants.models import Invitation, Role


class InvitationSerializer(serializers.ModelSerializer):
    """A person asked to join the tenant."""

    state = serializers.ChoiceField(choices=["pending", "accepted", "revoked", "expired"])
    role = serializers.ChoiceField(choices=Role.choices)
    invited_by = serializers.EmailField(
        source="invited_by.email", default=None, allow_null=True, help_text="Null: a key did."
    )

    class Meta:
        model = Invitation
        fields = [
            "id", "email", "role", "state", "invited_by", "sent_at", "expires_at", "accepted_at", "revoked_at",
            "created_at",
        ]  # fmt: skip


class InvitationCreate(StrictSerializer):
    email = serializers.EmailField(help_text="Where the link is sent.")
    role = serializers.ChoiceField(choices=Role.choices, help_text="Not above your own.")
