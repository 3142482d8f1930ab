"""Query parameters of the billing room's reports."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.utils import timezone
from rest_framework import serializers

from billing.rating.periods import month_containing
from billing.usage import Group, Width
from tenants import scope
from tenants.api.fields import StrictSerializer
from tenants.models import Tenant

LONGEST = dt.timedelta(days=400)
LONGEST_BY_HOUR = dt.timedelta(days=32)
WIDTHS = {"1h": Width.HOUR, "1d": Width.DAY}


class PeriodQuery(StrictSerializer):
    """A half-open interval; without ``start`` from the beginning of the month in the tenant's zone."""

    start = serializers.DateTimeField(
        required=False, default_timezone=dt.UTC, help_text="Default: the first of this month, tenant's zone."
    )
    end = serializers.DateTimeField(
        required=False, default_timezone=dt.UTC, help_text="Not included. Default: now."
    )

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        now = timezone.now()
        end = values.setdefault("end", now)
        start = values.setdefault("start", self.earliest(min(end, now)))
        if start >= end:
            raise serializers.ValidationError({"start": ["The start must be before the end."]})
        if end - start > LONGEST:
            raise serializers.ValidationError({"start": [f"Ask for at most {LONGEST.days} days at once."]})
        return values

    def earliest(self, end: dt.datetime) -> dt.datetime:
        """Give the default start for an ``end``."""
        zone = Tenant.objects.get(id=scope.current_tenant_id()).time_zone
        return month_containing(end - dt.timedelta(microseconds=1), zone).start


class UsageQuery(PeriodQuery):
    """Usage by hour (default, at most 32 days) or UTC day; without ``start`` the last day or 30 days."""

    start = serializers.DateTimeField(
        required=False, default_timezone=dt.UTC, help_text="Default: a day, or by days 30 days, before end."
    )
    bucket_width = serializers.ChoiceField(choices=list(WIDTHS), default="1h")
    group_by = serializers.ChoiceField(choices=[each.value for each in Group if each], required=False)
    endpoint_id = serializers.UUIDField(required=False, help_text="Only this endpoint.")

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        values = super().validate(values)
        if values["bucket_width"] == "1h" and values["end"] - values["start"] > LONGEST_BY_HOUR:
            raise serializers.ValidationError(
                {"bucket_width": [f"By hour at most {LONGEST_BY_HOUR.days} days are given; use 1d."]}
            )
        return values

    def earliest(self, end: dt.datetime) -> dt.datetime:
        hourly = self.initial_data.get("bucket_width", "1h") == "1h"
        return end - dt.timedelta(days=1 if hourly else 30)


class DailyQuery(PeriodQuery):
    """Cost by UTC day."""

    group_by = serializers.ChoiceField(choices=["project", "endpoint"], required=False)


class MonthQuery(StrictSerializer):
    """A month of the tenant's zone; without ``month`` the one that runs."""

    month = serializers.RegexField(r"^\d{4}-(0[1-9]|1[0-2])$", required=False, help_text="YYYY-MM")

    def validate_month(self, text: str) -> dt.date:
        if text < "2000-01":
            raise serializers.ValidationError("There is no statement from before 2000.")
        return dt.date.fromisoformat(f"{text}-01")
