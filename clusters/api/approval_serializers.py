"""Policy, rules, requests and exceptions as JSON: what is shown, and what may be sent."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from clusters.api.order_serializers import MOST_REPLICAS, PinsBody
from clusters.endpoints.approvals.deciding import may_decide, missing_parts, who
from clusters.endpoints.approvals.rules import FIELDS as RULE_FIELDS
from clusters.endpoints.approvals.rules import rule_text
from clusters.endpoints.policy.setting import FIELDS, FLOOR
from clusters.models import (
    ApprovalRequest,
    ApprovalRule,
    ApprovalSignature,
    Decides,
    Endpoint,
    PolicyException,
    SloClass,
    TenantPolicy,
)
from tenants.api.fields import MomentField, ReferenceField, StrictSerializer
from tenants.models import Project

MOST_NAMES = 200
LONGEST_COMMENT = 500

_money = {"max_digits": 14, "min_value": 0, "allow_null": True}


def _names(length: int, text: str, **options: Any) -> serializers.ListField:
    child = serializers.CharField(max_length=length)
    return serializers.ListField(child=child, max_length=MOST_NAMES, help_text=text, **options)


class TenantPolicyBody(StrictSerializer):
    """A whole policy: what is left out is as if it was never set. Empty lists and null restrict nothing."""

    allowed_zones = _names(60, "Zones and regions in which anything may run.", default=list)
    home_zone = serializers.CharField(
        max_length=60, allow_blank=True, default="", help_text="What rules call home: a zone or region."
    )
    certifications = _names(40, "Certifications that every place must hold.", default=list)
    allowed_models = _names(80, "Names of models that may be ordered.", default=list)
    allowed_licences = _names(80, "Licences of models that may be ordered.", default=list)
    allowed_classes = _names(40, "SLO classes that may be ordered.", default=list)
    most_per_hour = serializers.DecimalField(
        decimal_places=4, default=None, help_text="Most that one endpoint may cost an hour.", **_money
    )
    most_per_month = serializers.DecimalField(
        decimal_places=2, default=None, help_text="Most that all endpoints may cost in a month of 730 hours.",
        **_money,
    )  # fmt: skip
    four_eyes = serializers.BooleanField(
        default=True, help_text="Who asks may not decide, and loosening takes two people."
    )
    self_approval = serializers.BooleanField(
        default=False, help_text="Who asks may decide where nobody else could. Only owners set this."
    )
    link_decisions = serializers.BooleanField(
        default=True, help_text="The link in a mail may be decided by without signing in."
    )
    note = serializers.CharField(
        max_length=300, allow_blank=True, default="", help_text="Why it is changed, for the history."
    )


class TenantPolicySerializer(serializers.ModelSerializer):
    """A version of the policy; version 0 is before there was one. ``floor_`` parts are the operators'."""

    set_as = serializers.CharField(help_text="Who set it.")

    class Meta:
        model = TenantPolicy
        fields = ["version", "effective_from", "set_as", "by_platform", "note", *FIELDS, *FLOOR]


class TenantPolicyInForceSerializer(TenantPolicySerializer):
    """The policy in force, and the change of it that waits for a second person."""

    pending_request = serializers.SerializerMethodField(
        help_text="Id of the request that waits, null where none does."
    )
    effective_from = serializers.DateTimeField(allow_null=True)

    class Meta(TenantPolicySerializer.Meta):
        fields = [*TenantPolicySerializer.Meta.fields, "pending_request"]

    @extend_schema_field(serializers.UUIDField(allow_null=True))
    def get_pending_request(self, policy: TenantPolicy) -> str | None:
        pending = ApprovalRequest.objects.pending().filter(what=ApprovalRequest.What.POLICY)
        found = pending.values_list("id", flat=True).first()
        return str(found) if found else None


class FloorBody(StrictSerializer):
    floor_zones = _names(60, "Zones and regions beyond which the tenant cannot allow anything.")
    floor_certifications = _names(40, "Certifications that the tenant cannot do without.")
    note = serializers.CharField(max_length=300, allow_blank=True, default="")


class RuleSerializer(serializers.ModelSerializer):
    """What needs approval, and whose. ``text`` says it in a sentence."""

    text = serializers.SerializerMethodField()
    pending_request = serializers.SerializerMethodField(
        help_text="Id of the request to loosen it that waits for a second person."
    )

    class Meta:
        model = ApprovalRule
        fields = ["id", "kind", "text", *RULE_FIELDS, "pending_request", "created_at", "changed_at"]

    def get_text(self, rule: ApprovalRule) -> str:
        return rule_text(rule, rule.tenant.currency)

    @extend_schema_field(serializers.UUIDField(allow_null=True))
    def get_pending_request(self, rule: ApprovalRule) -> str | None:
        pending = ApprovalRequest.objects.pending().filter(
            what=ApprovalRequest.What.RULE, wish__rule=str(rule.id)
        )
        found = pending.values_list("id", flat=True).first()
        return str(found) if found else None


class RuleChange(StrictSerializer):
    """Only what is sent is changed."""

    amount = serializers.DecimalField(
        decimal_places=4, required=False, help_text="Of price-above, in the tenant's currency.", **_money
    )
    monthly = serializers.BooleanField(
        required=False, help_text="The amount is per month of 730 hours, not per hour."
    )
    gpus = serializers.IntegerField(
        min_value=0, max_value=100_000, allow_null=True, required=False, help_text="Of quota-above."
    )
    share = serializers.IntegerField(
        min_value=1, max_value=100, allow_null=True, required=False,
        help_text="Of quota-above: percent of the GPU quota.",
    )  # fmt: skip
    gpu_types = _names(40, "Of reserved-gpus: names of GPU types.", required=False)
    pools = _names(81, "Of reserved-gpus: pools by cluster/name.", required=False)
    decides = serializers.ChoiceField(choices=Decides.choices, required=False)
    members = serializers.ListField(
        child=serializers.UUIDField(), max_length=50, required=False,
        help_text="Ids of the people who decide, where members do.",
    )  # fmt: skip
    valid_hours = serializers.IntegerField(min_value=1, max_value=720, required=False)
    enabled = serializers.BooleanField(required=False)


class RuleCreate(RuleChange):
    kind = serializers.ChoiceField(choices=ApprovalRule.Kind.choices)


class TripSerializer(serializers.Serializer):
    """Why somebody has to agree, and who."""

    kind = serializers.CharField()
    reason = serializers.CharField()
    decides = serializers.ChoiceField(choices=Decides.choices)


class SignatureSerializer(serializers.ModelSerializer):
    """That somebody agreed, in a round."""

    class Meta:
        model = ApprovalSignature
        fields = ["round", "part", "signed_as", "via", "comment", "created_at"]


class ApprovalSerializer(serializers.ModelSerializer):
    """A wish that somebody has to agree to. ``quote`` is what it came to when the round began.

    ``changed`` holds what whoever decided changed of it, each with ``from`` and ``to``.
    """

    endpoint_name = serializers.SerializerMethodField()
    wish = serializers.DictField()
    quote = serializers.DictField()
    changed = serializers.DictField()
    trips = TripSerializer(many=True)
    signatures = SignatureSerializer(many=True)
    waits_for = serializers.SerializerMethodField(help_text="Whose agreement is wanting, in words.")
    may_decide = serializers.SerializerMethodField(help_text="Whether you may decide upon it.")

    class Meta:
        model = ApprovalRequest
        fields = [
            "id", "what", "title", "state", "round", "endpoint", "endpoint_name", "wish", "quote", "trips",
            "signatures", "waits_for", "may_decide", "asked_as", "created_at", "expires_at", "decided_as",
            "decided_at", "decided_via", "comment", "changed",
        ]  # fmt: skip

    def get_endpoint_name(self, request: ApprovalRequest) -> str:
        return request.endpoint.name if request.endpoint else ""

    def get_waits_for(self, request: ApprovalRequest) -> str:
        return who(request, missing_parts(request)) if request.is_pending else ""

    def get_may_decide(self, request: ApprovalRequest) -> bool:
        decider = self.context["view"].decider if "view" in self.context else None
        return decider is not None and request.is_pending and may_decide(request, decider)


class ApprovalBriefSerializer(serializers.ModelSerializer):
    """What an endpoint waits for approval of, or the last request about it."""

    waits_for = serializers.SerializerMethodField()

    class Meta:
        model = ApprovalRequest
        fields = ["id", "what", "title", "state", "waits_for", "expires_at", "decided_as", "comment"]

    def get_waits_for(self, request: ApprovalRequest) -> str:
        return who(request, missing_parts(request)) if request.is_pending else ""


class DecisionBody(StrictSerializer):
    comment = serializers.CharField(max_length=LONGEST_COMMENT, allow_blank=True, default="")
    round = serializers.IntegerField(
        min_value=1, max_value=10_000, allow_null=True, default=None,
        help_text="The round whose quote was looked at; another one by now is refused.",
    )  # fmt: skip


class WishChanges(StrictSerializer):
    """What of a wish can be changed; what is left out stays."""

    replicas = serializers.IntegerField(min_value=1, max_value=MOST_REPLICAS, required=False)
    residency = serializers.CharField(max_length=60, required=False)
    slo_class = ReferenceField(
        find=lambda: SloClass.objects.all(), by="name", what="SLO class", required=False
    )
    pins = PinsBody(required=False)


class OtherTermsBody(DecisionBody):
    """Other terms than those that were asked for, to be agreed to as that."""

    changes = WishChanges()


class AskAgainBody(StrictSerializer):
    """Ask again, with other terms where some are sent."""

    changes = WishChanges(required=False)


class ExceptionSerializer(serializers.ModelSerializer):
    """Something that the policy restricts and that is allowed all the same, until ``ends_at``."""

    endpoint_name = serializers.SerializerMethodField()
    project = serializers.SerializerMethodField(help_text="Slug of the project; null: not for one.")

    class Meta:
        model = PolicyException
        fields = [
            "id", "restriction", "value", "endpoint", "endpoint_name", "project", "reason", "starts_at",
            "ends_at", "approved_as", "request", "ended_as", "created_at",
        ]  # fmt: skip

    def get_endpoint_name(self, exception: PolicyException) -> str:
        return exception.endpoint.name if exception.endpoint else ""

    def get_project(self, exception: PolicyException) -> str | None:
        return exception.project.slug if exception.project else None


class ExceptionCreate(StrictSerializer):
    """Asks for an exception: for one endpoint, one project, or with neither for the whole tenant."""

    restriction = serializers.ChoiceField(choices=PolicyException.Restriction.choices)
    value = serializers.CharField(
        max_length=80, help_text="The zone, certification, model, licence or class; of spend the amount."
    )
    endpoint = ReferenceField(
        find=lambda: Endpoint.objects.live(),
        by="name",
        what="endpoint",
        required=False,
        help_text="Its name.",
    )
    project = ReferenceField(
        find=lambda: Project.objects.all(), by="slug", what="project", required=False, help_text="Its slug."
    )
    ends_at = MomentField(help_text="Within 366 days.")
    reason = serializers.CharField(max_length=300)
