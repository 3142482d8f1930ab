"""How endpoints kept the targets of their class, to read."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from billing.api.queries import MonthQuery
from billing.attainment import EndpointKept, attainments, rounded_down
from billing.costs import Names
from tenants.api.base import TenantScoped
from tenants.api.fields import MonthField
from tenants.roles import Action


class AttainmentDaySerializer(serializers.Serializer):
    """One UTC day against the targets of its class as of then."""

    day = serializers.DateField()
    availability = serializers.DecimalField(max_digits=6, decimal_places=5, help_text="The target.")
    ttft_p95_ms = serializers.IntegerField(allow_null=True)
    itl_p95_ms = serializers.IntegerField(allow_null=True)
    requests = serializers.IntegerField()
    failed = serializers.IntegerField()
    hours = serializers.IntegerField()
    ttft_met = serializers.IntegerField()
    itl_met = serializers.IntegerField()


class AttainmentSerializer(serializers.Serializer):
    """An endpoint's month. Shares are rounded down to five places; null: nothing to judge by, or no target."""

    endpoint_id = serializers.UUIDField()
    endpoint = serializers.CharField()
    slo_class = serializers.CharField(help_text="Of the last day, as the targets in milliseconds are.")
    kept = serializers.BooleanField(allow_null=True)
    missed = serializers.ListField(child=serializers.ChoiceField(["availability", "ttft", "itl"]))
    credit_percent = serializers.DecimalField(
        max_digits=5,
        decimal_places=2,
        help_text="Of the month's charge, credited on its statement; 0 where all was kept.",
    )
    requests = serializers.IntegerField(help_text="Those answered or failed.")
    failed = serializers.IntegerField()
    availability = serializers.FloatField(allow_null=True)
    availability_target = serializers.FloatField(allow_null=True)
    hours = serializers.IntegerField(help_text="Those with requests.")
    ttft_share = serializers.FloatField(
        allow_null=True, help_text="Hours that met it; 0.95 is to be reached."
    )
    ttft_p95_ms = serializers.IntegerField(allow_null=True)
    itl_share = serializers.FloatField(allow_null=True)
    itl_p95_ms = serializers.IntegerField(allow_null=True)
    days = AttainmentDaySerializer(many=True)


class AttainmentsSerializer(serializers.Serializer):
    """A calendar month; endpoints without requests in it are left out."""

    month = MonthField()
    results = AttainmentSerializer(many=True)


@extend_schema(tags=["usage and cost"])
class AttainmentView(TenantScoped):
    """How each endpoint kept the targets of its class in a calendar month of UTC days."""

    default_role_action = Action.VIEW

    @extend_schema(
        operation_id="slo_attainment_list", parameters=[MonthQuery], responses=AttainmentsSerializer
    )
    def get(self, request) -> Response:
        query = MonthQuery(data=request.query_params.dict())
        query.is_valid(raise_exception=True)
        month = query.validated_data.get("month") or timezone.now().astimezone(dt.UTC).date().replace(day=1)
        following = (month + dt.timedelta(days=32)).replace(day=1)
        kept, names = attainments(start=month, end=following), Names()
        names.read_shared(each.endpoint_id for each in kept)
        results = sorted(
            (_told(each, names) for each in kept), key=lambda told: (told["endpoint"], told["endpoint_id"])
        )
        return Response(AttainmentsSerializer({"month": month, "results": results}).data)


def _told(each: EndpointKept, names: Names) -> dict[str, Any]:
    found = each.judgement
    return {
        "endpoint_id": each.endpoint_id,
        "slo_class": each.slo_class,
        "ttft_p95_ms": each.last.ttft_p95_ms,
        "itl_p95_ms": each.last.itl_p95_ms,
        "days": each.days,
        **{
            name: getattr(found, name)
            for name in ("kept", "missed", "credit_percent", "requests", "failed", "hours")
        },
        "endpoint": names.endpoint(each.endpoint_id),
        "availability": rounded_down(found.availability),
        "availability_target": rounded_down(found.availability_target),
        "ttft_share": rounded_down(found.ttft),
        "itl_share": rounded_down(found.itl),
    }
