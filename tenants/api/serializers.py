"""Tenants' objects as JSON: what is shown, and what may be sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rest_framework import serializers

from tenants.api.fields import StrictSerializer
from tenants.limits import RATES
from tenants.models import Membership, Project, Role
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


class MemberChange(StrictSerializer):
    role = serializers.ChoiceField(choices=Role.choices)
