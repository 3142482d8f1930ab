"""What is sent and shown of an endpoint's replicas, their bounds, schedules and decisions."""

from __future__ import annotations

from rest_framework import serializers

from clusters.api.plan_serializers import BudgetEffectSerializer
from clusters.endpoints.autoscaling.bounds import DecidedBy
from clusters.endpoints.autoscaling.setting import LEAST_IDLE_S, MOST_IDLE_S
from clusters.models import Cluster, ScaleSchedule, ScalingDecision
from clusters.models.autoscaling import MOST_REPLICAS
from tenants.api.fields import ClockTimeField, StrictSerializer


def _price(**options) -> serializers.DecimalField:
    return serializers.DecimalField(max_digits=None, decimal_places=None, **options)


class AutoscalingBody(StrictSerializer):
    """Whether Berth chooses the replicas, and between what; null, or left out, is the plan's or the class's."""

    enabled = serializers.BooleanField(
        help_text="False: as many as there are now, until somebody changes it."
    )
    floor = serializers.IntegerField(
        min_value=0, max_value=MOST_REPLICAS, default=None, allow_null=True,
        help_text="0 where its class may be scaled to zero.",
    )  # fmt: skip
    ceiling = serializers.IntegerField(min_value=1, max_value=MOST_REPLICAS, default=None, allow_null=True)
    idle_s = serializers.IntegerField(
        min_value=LEAST_IDLE_S, max_value=MOST_IDLE_S, default=None, allow_null=True,
        help_text="Seconds without requests until its last replicas go, where its floor is 0.",
    )  # fmt: skip


class AutoscalingSerializer(serializers.Serializer):
    """Who chooses an endpoint's replicas and between what. Prices are per hour, null while it has no place."""

    decided_by = serializers.ChoiceField(
        source="by", choices=[each.value for each in DecidedBy],
        help_text="cluster: the autoscaler of its cluster, which Berth leaves alone.",
    )  # fmt: skip
    autoscaler = serializers.ChoiceField(
        choices=Cluster.Autoscaler.choices,
        help_text="Of its cluster, none where the cluster does not serve the chosen one.",
    )
    enabled = serializers.BooleanField(source="scaling.enabled")
    floor = serializers.IntegerField(source="scaling.floor", allow_null=True)
    ceiling = serializers.IntegerField(source="scaling.ceiling", allow_null=True)
    idle_s = serializers.IntegerField(source="scaling.idle_s", allow_null=True)
    planned_floor = serializers.IntegerField(help_text="The plan's: what the mean load needs.")
    planned_ceiling = serializers.IntegerField(help_text="The plan's: what the busiest minute needs.")
    floor_now = serializers.IntegerField(source="bounds.floor")
    ceiling_now = serializers.IntegerField(source="bounds.ceiling")
    idle_s_now = serializers.FloatField(
        source="bounds.idle_s", allow_null=True, help_text="Null where it is not scaled to zero now."
    )
    scheduled = serializers.BooleanField(
        source="bounds.scheduled", help_text="Whether a schedule sets the bounds now."
    )
    bounds_until = serializers.DateTimeField(
        source="bounds.until", allow_null=True, help_text="When schedules change the bounds next."
    )
    replicas = serializers.IntegerField(help_text="Wanted now.")
    lacks = serializers.IntegerField(help_text="Replicas it should have besides and cannot get now.")
    currency = serializers.CharField(source="endpoint.tenant.currency")
    price_now = _price(allow_null=True)
    price_at_floor = _price(allow_null=True)
    price_at_ceiling = _price(allow_null=True)
    budgets = BudgetEffectSerializer(
        many=True, help_text="What its ceiling would reserve beyond what is reserved for it now."
    )


class DecisionSerializer(serializers.ModelSerializer):
    """One decision on the number of replicas."""

    class Meta:
        model = ScalingDecision
        fields = [
            "id", "at", "revision", "before", "after", "outcome", "why", "reason", "currency", "price_before",
            "price_after",
        ]  # fmt: skip


class ScheduleSerializer(serializers.ModelSerializer):
    """Other bounds at some times of the week."""

    from_time = ClockTimeField()
    until_time = ClockTimeField()

    class Meta:
        model = ScaleSchedule
        fields = [
            "id", "name", "days", "from_time", "until_time", "time_zone", "floor", "ceiling", "created_at",
        ]  # fmt: skip


class ScheduleBody(StrictSerializer):
    """A schedule, whole."""

    name = serializers.CharField(max_length=60)
    days = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=7), min_length=1, max_length=7,
        help_text="1 (Monday) to 7 (Sunday).",
    )  # fmt: skip
    from_time = ClockTimeField(help_text="HH:MM in the schedule's time zone.")
    until_time = ClockTimeField(help_text="Not after from_time: on the day after.")
    time_zone = serializers.CharField(max_length=60, help_text="IANA name, for instance Europe/Berlin.")
    floor = serializers.IntegerField(min_value=0, max_value=MOST_REPLICAS)
    ceiling = serializers.IntegerField(min_value=1, max_value=MOST_REPLICAS, default=None, allow_null=True)
