"""The operators' reports: the numbers of their dashboards, in buckets and groups."""

from __future__ import annotations

import datetime as dt
import functools
import types
from decimal import Decimal
from typing import Any, Union, get_args, get_origin, get_type_hints

from django.conf import settings
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from billing.reports.asking import MOST, USUAL_MOST, WIDTHS, Asked, Dimension, ask, narrowed_by
from billing.reports.costs import Charged, Recovery, TokenCost, cost_report, recovery_report, top_charged
from billing.reports.documents import document
from billing.reports.throughput import Throughput, throughput_report
from billing.reports.utilization import Utilization, utilization_report
from clusters.api.operators import OperatorScoped
from clusters.endpoints.reporting import cost_targets
from clusters.endpoints.savings.keeping import saving_dismiss
from clusters.endpoints.savings.selectors import SavingRow, savings_list
from clusters.inventory import remit
from clusters.inventory.fragmentation import Fragmentation, fragmentation
from clusters.models import Saving
from tenants.api.fields import MomentField, StrictSerializer
from tenants.api.filters import refuse_unknown_parameters
from tenants.errors import NotFound
from tenants.roles import PlatformAction

USUAL_SPAN = dt.timedelta(days=30)
_FILTERS = ("cluster", "pool", "gpu_type", "tenant", "project", "endpoint", "model", "slo_class")


class SpanQuery(StrictSerializer):
    """A half-open interval of at most 1,100 days."""

    start = MomentField(required=False, default_timezone=dt.UTC, help_text="Default: 30 days before the end.")
    end = MomentField(required=False, default_timezone=dt.UTC, help_text="Not included. Default: now.")

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        end = values.setdefault("end", timezone.now())
        values.setdefault("start", end - USUAL_SPAN)
        return values


class ReportQuery(SpanQuery):
    """A span in buckets, told apart by group_by and narrowed by the others."""

    bucket_width = serializers.ChoiceField(
        choices=[each.value for each in WIDTHS],
        required=False,
        help_text="UTC hours, days or months; the span is widened to whole ones. Default: by the span's length.",
    )
    group_by = serializers.CharField(
        required=False, help_text=f"Names separated by commas, of: {', '.join(Dimension)}."
    )
    limit = serializers.IntegerField(
        default=USUAL_MOST, min_value=1, max_value=MOST,
        help_text="Groups that are told apart, the largest first; the others are one.",
    )  # fmt: skip
    cluster = serializers.CharField(required=False)
    pool = serializers.CharField(required=False)
    gpu_type = serializers.CharField(required=False)
    tenant = serializers.SlugField(required=False, help_text="The tenant's slug.")
    project = serializers.UUIDField(required=False, help_text="The project's id.")
    endpoint = serializers.UUIDField(required=False, help_text="The endpoint's id.")
    model = serializers.CharField(required=False)
    slo_class = serializers.CharField(required=False)

    def validate_group_by(self, text: str) -> tuple[Dimension, ...]:
        names = [name.strip() for name in text.split(",")]
        unknown = [name for name in names if name not in list(Dimension)]
        if unknown:
            raise serializers.ValidationError(
                f"{unknown[0]!r} is nothing to group by; choose of {', '.join(Dimension)}."
            )
        return tuple(Dimension(name) for name in dict.fromkeys(names))


@functools.cache
def row_serializer(row: type) -> type[serializers.Serializer]:
    """Give the serializer that describes a row of a report, as its document is."""
    fields: dict[str, Any] = {"__doc__": row.__doc__}
    for name, kind in get_type_hints(row).items():
        if name != "names":
            fields[name] = _field(kind)
    return type(f"{row.__name__}RowSerializer", (serializers.Serializer,), fields)


def _field(kind: Any) -> serializers.Field:
    parts = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    null = type(None) in parts
    if get_origin(kind) is list:
        return serializers.ListField(child=serializers.CharField())
    kinds: dict[Any, type[serializers.Field]] = {
        int: serializers.IntegerField,
        dt.datetime: serializers.DateTimeField,
        dt.date: serializers.DateField,
        bool: serializers.BooleanField,
    }
    (chosen,) = [part for part in parts if part is not type(None)]
    if chosen is Decimal:
        return serializers.DecimalField(max_digits=None, decimal_places=None, allow_null=null)
    return kinds.get(chosen, serializers.CharField)(allow_null=null)


def report_serializer(name: str, **rows: type) -> type[serializers.Serializer]:
    """Give the serializer of a whole report, whose parts are lists of rows."""
    fields: dict[str, Any] = {
        part: serializers.ListSerializer(child=row_serializer(row)()) for part, row in rows.items()
    }
    fields |= {
        "__doc__": "A report. Rows also name each of what they are grouped by.",
        "start": serializers.DateTimeField(),
        "end": serializers.DateTimeField(),
        "bucket_width": serializers.CharField(),
        "group_by": serializers.ListField(child=serializers.CharField()),
    }
    return type(f"{name}Serializer", (serializers.Serializer,), fields)


class ReportView(OperatorScoped):
    """Reads the query and gives a report's rows as documents."""

    reason = "an operator reads a report over all tenants through the REST API"
    usual_groups: tuple[Dimension, ...] = ()

    def asked(self) -> Asked:
        """Give the checked question.

        Raises:
            Invalid: a parameter is wrong or unknown, or asks for too many buckets.
        """
        query = ReportQuery(data=self.request.query_params.dict())
        query.is_valid(raise_exception=True)
        values = query.validated_data
        return ask(
            start=values["start"],
            end=values["end"],
            width=values.get("bucket_width"),
            group_by=values.get("group_by", self.usual_groups),
            narrowed=narrowed_by(
                {name: str(values.get(name) or "") for name in _FILTERS}, tenants=remit.tenants()
            ),
            within=remit.names(),
            most=values["limit"],
        )

    def span(self) -> dict[str, Any]:
        """Give the checked span of a report that has months alone."""
        query = SpanQuery(data=self.request.query_params.dict())
        query.is_valid(raise_exception=True)
        values = query.validated_data
        ask(start=values["start"], end=values["end"], width="1M")
        return values

    def told(self, asked: Asked, **parts: Any) -> Response:
        """Answer with a report's parts."""
        rows = {name: [document(each) for each in found] for name, found in parts.items()}
        return Response(
            {
                "start": asked.start,
                "end": asked.end,
                "bucket_width": asked.width,
                "group_by": list(asked.group_by),
                **rows,
            }
        )


@extend_schema(tags=["platform"])
class UtilizationView(ReportView):
    """GPU-hours held, serving, idle, free."""

    default_platform_action = PlatformAction.VIEW_ESTATE

    @extend_schema(
        operation_id="platform_utilization", parameters=[ReportQuery],
        responses=report_serializer("UtilizationReport", groups=Utilization, points=Utilization),
    )  # fmt: skip
    def get(self, request) -> Response:
        """GPU-hours of whole GPUs by group and bucket: held, serving, idle, loading, free, the platform's."""
        report = utilization_report(self.asked())
        return self.told(report.asked, groups=report.groups, points=report.points)


@extend_schema(tags=["platform"])
class ThroughputView(ReportView):
    """Tokens per second of a serving GPU."""

    default_platform_action = PlatformAction.VIEW_ESTATE
    usual_groups = (Dimension.GPU_TYPE, Dimension.MODEL)

    @extend_schema(
        operation_id="platform_throughput", parameters=[ReportQuery],
        responses=report_serializer("ThroughputReport", groups=Throughput, points=Throughput),
    )  # fmt: skip
    def get(self, request) -> Response:
        """Tokens per second of a serving GPU, measured and planned; by model and GPU type unless asked otherwise."""
        report = throughput_report(self.asked())
        return self.told(report.asked, groups=report.groups, points=report.points)


@extend_schema(tags=["platform"])
class PlatformCostView(ReportView):
    """What a million tokens came to."""

    default_platform_action = PlatformAction.VIEW_MONEY
    usual_groups = (Dimension.SLO_CLASS,)

    @extend_schema(
        operation_id="platform_costs", parameters=[ReportQuery],
        responses=report_serializer("PlatformCostReport", groups=TokenCost, points=TokenCost),
    )  # fmt: skip
    def get(self, request) -> Response:
        """Cost of GPU time and of a million tokens, by class against its target unless asked otherwise."""
        report = cost_report(self.asked(), targets=cost_targets(), currency=settings.CURRENCY)
        return self.told(report.asked, groups=report.groups, points=report.points)


@extend_schema(tags=["platform"])
class RecoveryView(ReportView):
    """What was billed beside what the estate cost."""

    default_platform_action = PlatformAction.VIEW_MONEY

    @extend_schema(
        operation_id="platform_recovery", parameters=[SpanQuery],
        responses=report_serializer("RecoveryReport", months=Recovery, top=Charged),
    )  # fmt: skip
    def get(self, request) -> Response:
        """What statements come to beside the asset cost by calendar month, and the tenants who are charged most."""
        span = self.span()
        asked = ask(start=span["start"], end=span["end"], width="1M")
        first, last = asked.start.date(), asked.buckets[-1].date()
        months = recovery_report(first=first, last=last)
        return self.told(asked, months=months, top=top_charged(first=first, last=last, most=USUAL_MOST))


@extend_schema(tags=["platform"])
class FragmentationView(ReportView):
    """How free GPUs lie."""

    default_platform_action = PlatformAction.VIEW_ESTATE

    @extend_schema(
        operation_id="platform_fragmentation",
        responses=type(
            "FragmentationReportSerializer",
            (serializers.Serializer,),
            {"pools": serializers.ListSerializer(child=row_serializer(Fragmentation)())},
        ),
    )
    def get(self, request) -> Response:
        """Free GPUs by pool now, and what of them replicas of 1, 2, 4 and 8 GPUs could use."""
        refuse_unknown_parameters(request, [])
        return Response({"pools": [document(row) for row in fragmentation(remit.pool_capacities())]})


class SavingsQuery(StrictSerializer):
    """What is narrowed to."""

    kind = serializers.ChoiceField(choices=Saving.Kind.values, required=False)
    tenant = serializers.SlugField(required=False, help_text="The tenant's slug.")
    dismissed = serializers.BooleanField(
        default=False, help_text="Those that were put off instead of the open ones."
    )


class DismissBody(StrictSerializer):
    """Why a saving is put off, and until when."""

    reason = serializers.CharField(max_length=300)
    until = MomentField(default_timezone=dt.UTC, help_text="Within the next 366 days.")


class SavingsReportSerializer(serializers.Serializer):
    """Savings, those that save most first."""

    savings = serializers.ListSerializer(child=row_serializer(SavingRow)())


@extend_schema(tags=["platform"])
class SavingsView(ReportView):
    """What endpoints could save."""

    default_platform_action = PlatformAction.VIEW_ENDPOINTS

    @extend_schema(
        operation_id="platform_savings", parameters=[SavingsQuery], responses=SavingsReportSerializer
    )
    def get(self, request) -> Response:
        """Idle endpoints, more GPUs than a load needs, cheaper GPU types that keep the class; money of 30 days."""
        query = SavingsQuery(data=request.query_params.dict())
        query.is_valid(raise_exception=True)
        rows = savings_list(now=timezone.now(), among=remit.savings(), **query.validated_data)
        return Response({"savings": [document(row) for row in rows]})


@extend_schema(tags=["platform"])
class SavingDismissView(ReportView):
    """Puts a saving off."""

    default_platform_action = PlatformAction.MANAGE_ENDPOINTS
    reason = "an operator puts a saving off through the REST API"

    @extend_schema(
        operation_id="platform_savings_dismiss", request=DismissBody, responses=row_serializer(SavingRow)
    )
    def post(self, request, id) -> Response:
        """Put a saving off until a moment, for a reason; saying it again changes both."""
        body = DismissBody(data=request.data)
        body.is_valid(raise_exception=True)
        now = timezone.now()
        saving = remit.savings().filter(id=id, endpoint__deleted_at=None).first()
        if saving is None:
            raise NotFound("There is no such saving any more.")
        saving_dismiss(saving=saving, actor=self.caller.actor, now=now, **body.validated_data)
        self.audit("saving.dismiss", saving=str(id), until=saving.dismissed_until.isoformat())
        (row,) = [each for each in savings_list(now=now, dismissed=True) if each.id == saving.id]
        return Response(document(row))
