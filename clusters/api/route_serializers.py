"""Named routes and shared endpoints as JSON: what is shown, and what may be sent."""

from __future__ import annotations

from typing import Any

import msgspec
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from billing.api.serializers import CostSerializer
from billing.costs import PLACES
from clusters.api.serializers import CallableAtSerializer
from clusters.endpoints.routes import (
    LONGEST_VALUE,
    MOST_KEYS,
    MOST_RULES,
    MOST_TARGETS,
    MOST_WEIGHT,
    rule_warnings,
    rules_of,
)
from clusters.models import NamedRoute
from gateway.contract import RouteRule, RouteTarget
from tenants.api.fields import StrictSerializer
from tenants.api.projects import project_field

MOST_TOKENS = 10_000_000


class RouteTargetBody(StrictSerializer):
    """An endpoint and its share of the requests that the rule takes."""

    endpoint_id = serializers.UUIDField()
    weight = serializers.IntegerField(min_value=0, max_value=MOST_WEIGHT, default=1)


class RouteRuleBody(StrictSerializer):
    """Conditions, all of which must hold, and where requests go then. One without conditions takes every request."""

    targets = RouteTargetBody(many=True, allow_empty=False, max_length=MOST_TARGETS)
    slo_class = serializers.CharField(
        max_length=40, allow_blank=True, default="", help_text="Class of the request's key. Empty: any."
    )
    min_input_tokens = serializers.IntegerField(
        min_value=0, max_value=MOST_TOKENS, default=0, help_text="Of the prompt."
    )
    max_input_tokens = serializers.IntegerField(
        min_value=1,
        max_value=MOST_TOKENS,
        allow_null=True,
        default=None,
        help_text="Of the prompt; null: any.",
    )
    key_ids = serializers.ListField(
        child=serializers.UUIDField(), max_length=MOST_KEYS, default=list, help_text="Empty: any key."
    )
    header = serializers.CharField(
        max_length=64, allow_blank=True, default="",
        help_text="Name of a request header, in lower case. Empty: none is looked at.",
    )  # fmt: skip
    header_value = serializers.CharField(
        max_length=LONGEST_VALUE, allow_blank=True, default="", help_text="What the header must be."
    )


class _Rules(StrictSerializer):
    def validate_rules(self, rules: list[dict[str, Any]]) -> tuple[RouteRule, ...]:
        return tuple(
            RouteRule(
                **{
                    **rule,
                    "targets": tuple(
                        RouteTarget(endpoint_id=str(each["endpoint_id"]), weight=each["weight"])
                        for each in rule["targets"]
                    ),
                    "key_ids": tuple(map(str, rule["key_ids"])),
                }
            )
            for rule in rules
        )


class RouteCreate(_Rules):
    name = serializers.CharField(max_length=63, help_text="The model name that clients send.")
    project = project_field(help_text="Its slug. Keys of this project call the route.",
    )  # fmt: skip
    rules = RouteRuleBody(
        many=True, allow_empty=False, max_length=MOST_RULES, help_text="The first that matches decides."
    )


class RouteChange(_Rules):
    """Only what is sent is changed; rules are sent whole."""

    name = serializers.CharField(max_length=63, required=False)
    rules = RouteRuleBody(many=True, allow_empty=False, max_length=MOST_RULES, required=False)


class RouteSerializer(serializers.ModelSerializer):
    """A name that stands for several endpoints."""

    project = serializers.CharField(source="project.slug")
    rules = serializers.SerializerMethodField()
    warnings = serializers.SerializerMethodField(help_text="What is allowed and hardly meant.")

    class Meta:
        model = NamedRoute
        fields = ["id", "name", "project", "project_id", "rules", "warnings", "created_at"]

    @extend_schema_field(RouteRuleBody(many=True))
    def get_rules(self, route: NamedRoute) -> list[dict[str, Any]]:
        return msgspec.to_builtins(rules_of(route))

    @extend_schema_field(serializers.ListField(child=serializers.CharField()))
    def get_warnings(self, route: NamedRoute) -> list[str]:
        return rule_warnings(rules_of(route))


def _money(**options: Any) -> serializers.DecimalField:
    return serializers.DecimalField(max_digits=30, decimal_places=PLACES, **options)


def _share(**options: Any) -> serializers.DecimalField:
    return serializers.DecimalField(max_digits=5, decimal_places=4, allow_null=True, **options)


class RouteTargetCostSerializer(serializers.Serializer):
    """What came to one endpoint by the route."""

    endpoint_id = serializers.UUIDField(allow_null=True)
    endpoint = serializers.CharField()
    model = serializers.CharField()
    slo_class = serializers.CharField()
    cost = CostSerializer()
    request_share = _share(help_text="Of the route's requests, 0..1; null: there were none.")
    token_share = _share()
    all_here = _money(
        allow_null=True, help_text="What all of the route's tokens would have cost at this endpoint's prices."
    )


class RouteCostsSerializer(serializers.Serializer):
    """A route's traffic at the price book, and what it saved against the dearest of its targets."""

    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    currency = serializers.CharField()
    total = CostSerializer()
    targets = RouteTargetCostSerializer(many=True)
    dearest = serializers.UUIDField(allow_null=True)
    saving = _money(
        allow_null=True, help_text="What all would have cost at the dearest target, less what it did."
    )
    unpriced = serializers.ListField(
        child=serializers.CharField(), help_text="What has no price and counts as 0."
    )


class SharedPricesSerializer(serializers.Serializer):
    """Per million tokens."""

    currency = serializers.CharField()
    input = serializers.CharField()
    output = serializers.CharField()
    cached = serializers.CharField()


class SharedEndpointSerializer(serializers.Serializer):
    """An endpoint that the platform publishes to every tenant."""

    id = serializers.UUIDField()
    name = serializers.CharField(help_text="What clients send as the model.")
    model = serializers.CharField()
    slo_class = serializers.CharField()
    residency = serializers.CharField()
    context_tokens = serializers.IntegerField()
    state = serializers.CharField()
    prices = SharedPricesSerializer(allow_null=True)
    urls = CallableAtSerializer(many=True)


class SharedEndpointsSerializer(serializers.Serializer):
    results = SharedEndpointSerializer(many=True)
