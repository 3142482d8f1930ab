"""Query parameters of the billing room's reports."""

from __future__ import annotations

import datetime as dt
import functools
from typing import Any, NamedTuple

from django.conf import settings
from django.utils import timezone
from rest_framework import serializers

from billing.buckets import Width, buckets
from billing.costs import Dimension, narrow_to
from billing.quantities import Interval
from billing.rating.periods import month_containing
from tenants import scope
from tenants.api.fields import MomentField, StrictSerializer
from tenants.models import Tenant

LONGEST = dt.timedelta(days=400)

#: How many buckets one answer has by itself, and at most.
LIMITS = {
    Width.MINUTE: (60, 1440), Width.HOUR: (24, 768), Width.DAY: (31, 400), Width.MONTH: (12, 24), None: (1, 1),
}  # fmt: skip
LONGEST_BUCKET = {
    Width.MINUTE: dt.timedelta(minutes=1), Width.HOUR: dt.timedelta(hours=1), Width.DAY: dt.timedelta(days=1),
    Width.MONTH: dt.timedelta(days=32),
}  # fmt: skip


class ManyField(serializers.CharField):
    """Several values, separated by commas or given by repeating the parameter."""

    def __init__(self, *, child: serializers.Field, **options: Any) -> None:
        super().__init__(required=False, **options)
        self.child = child

    def to_internal_value(self, data: Any) -> list[Any]:
        texts = [text.strip() for text in super().to_internal_value(data).split(",")]
        return [self.child.run_validation(text) for text in dict.fromkeys(texts) if text]


class PeriodQuery(StrictSerializer):
    """A half-open interval; without ``start`` from the beginning of the month in the tenant's zone."""

    start = MomentField(
        required=False, default_timezone=dt.UTC, help_text="Default: the first of this month, tenant's zone."
    )
    end = MomentField(required=False, default_timezone=dt.UTC, help_text="Not included. Default: now.")

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
        return month_containing(end - dt.timedelta(microseconds=1), self.zone).start

    @functools.cached_property
    def zone(self) -> str:
        """The tenant's zone, in which months are meant."""
        return Tenant.objects.get(id=scope.current_tenant_id()).time_zone


def _ids(what: str) -> ManyField:
    return ManyField(child=serializers.UUIDField(), help_text=f"Only these {what}, separated by commas.")


def _names(what: str) -> ManyField:
    child = serializers.CharField(max_length=80)
    return ManyField(child=child, help_text=f"Only these {what}, separated by commas.")


class SeriesQuery(PeriodQuery):
    """Buckets of a period, told apart by some dimensions and narrowed to some of their values."""

    group_by = ManyField(
        child=serializers.ChoiceField(choices=[each.value for each in Dimension]),
        help_text=f"Any of {', '.join(Dimension)}, separated by commas.",
    )
    project_ids = _ids("projects")
    endpoint_ids = _ids("endpoints")
    api_key_ids = _ids("keys")
    route_ids = _ids("named routes")
    models = _names("models")
    slo_classes = _names("classes")
    regions = _names("regions")
    limit = serializers.IntegerField(
        min_value=1,
        required=False,
        help_text="How many buckets at once; the default and the most go by the width.",
    )
    page = MomentField(required=False, default_timezone=dt.UTC, help_text="next_page of the answer before.")

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        values = super().validate(values)
        width = values["bucket_width"] = Width(values["bucket_width"]) if values.get("bucket_width") else None
        usual, most = LIMITS[width]
        if values.setdefault("limit", usual) > most:
            raise serializers.ValidationError({"limit": [f"At most {most} buckets of that width at once."]})
        page = values.pop("page", values["start"])
        if not values["start"] <= page < values["end"]:
            raise serializers.ValidationError({"page": ["Take it from next_page of the answer before."]})
        values["group_by"] = tuple(Dimension(each) for each in values.get("group_by", ()))
        values["narrow"] = narrow_to({each: values.pop(each.filter, ()) for each in Dimension})
        values["page"] = self._page(page, values["end"], width, values["limit"])
        return values

    def _page(self, start: dt.datetime, end: dt.datetime, width: Width | None, limit: int) -> Page:
        """Give the buckets of this answer, and where the next begins; far ahead of it is not looked."""
        if width is None:
            return Page([(start, end)], None)
        reach = min(end, start + (limit + 1) * LONGEST_BUCKET[width])
        found = buckets(start, reach, width, self.zone)
        return Page(found[:limit], found[limit][0] if len(found) > limit else None)


class Page(NamedTuple):
    """Some buckets, and where those of the next answer begin, None where there are no more."""

    intervals: list[Interval]
    next: dt.datetime | None


class UsageQuery(SeriesQuery):
    """Usage by hour unless asked otherwise; without ``start`` the last day, by days 30 of them, by months twelve."""

    start = MomentField(
        required=False,
        default_timezone=dt.UTC,
        help_text="Default: a day before end; by days 30, by months a year.",
    )
    bucket_width = serializers.ChoiceField(choices=[each.value for each in Width], default=Width.HOUR.value)
    latency = serializers.BooleanField(
        default=False, help_text="Also give times to first token and between tokens; takes longer."
    )

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        if values["bucket_width"] == Width.MINUTE:
            self._check_minutes(values)
        return super().validate(values)

    def _check_minutes(self, values: dict[str, Any]) -> None:
        if values["latency"]:
            raise serializers.ValidationError({"latency": ["Latencies are kept by the hour; use 1h."]})
        kept = timezone.now() - dt.timedelta(days=settings.USAGE_MINUTE_DAYS)
        if values.get("start", kept) < kept:
            days = settings.USAGE_MINUTE_DAYS
            raise serializers.ValidationError(
                {"start": [f"Minutes are kept for {days} days; use 1h before that."]}
            )

    def earliest(self, end: dt.datetime) -> dt.datetime:
        spans = {
            Width.MINUTE: dt.timedelta(hours=1),
            Width.DAY: dt.timedelta(days=30),
            Width.MONTH: dt.timedelta(days=365),
        }
        return end - spans.get(self.initial_data.get("bucket_width", ""), dt.timedelta(days=1))


class CostQuery(SeriesQuery):
    """Cost of the whole period, or by bucket."""

    bucket_width = serializers.ChoiceField(
        choices=[Width.HOUR.value, Width.DAY.value, Width.MONTH.value], required=False,
        help_text="Without it the whole period is one bucket.",
    )  # fmt: skip


class MonthQuery(StrictSerializer):
    """A month of the tenant's zone; without ``month`` the one that runs."""

    month = serializers.RegexField(r"^[0-9]{4}-(0[1-9]|1[0-2])\Z", required=False, help_text="YYYY-MM")

    def validate_month(self, text: str) -> dt.date:
        if not "2000-01" <= text < "2200-01":
            raise serializers.ValidationError("There are no months but those from 2000 to 2199.")
        return dt.date.fromisoformat(f"{text}-01")
