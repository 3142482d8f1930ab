"""Traces of endpoints, for ``python -m gateway.replay``."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers

from clusters.endpoints import selectors
from clusters.endpoints.load.trace import endpoint_trace
from clusters.models import Endpoint
from tenants.api.base import TenantViewSet
from tenants.api.fields import MomentField, StrictSerializer

MEDIA_TYPE: Final = "text/csv"
LONGEST: Final = dt.timedelta(days=7)


class TraceQuery(StrictSerializer):
    """A half-open interval; without any the last hour."""

    start = MomentField(required=False, default_timezone=dt.UTC, help_text="Default: an hour before the end.")
    end = MomentField(required=False, default_timezone=dt.UTC, help_text="Not included. Default: now.")

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        end = values.setdefault("end", timezone.now())
        start = values.setdefault("start", end - dt.timedelta(hours=1))
        if start >= end:
            raise serializers.ValidationError({"start": ["The start must be before the end."]})
        if end - start > LONGEST:
            raise serializers.ValidationError({"start": [f"Ask for at most {LONGEST.days} days at once."]})
        return values


@extend_schema(tags=["endpoints"])
class TraceViewSet(TenantViewSet):
    """When an endpoint was asked, and for how much."""

    model = Endpoint
    project_field = "project"

    def rows(self):
        return selectors.endpoint_list()

    @extend_schema(
        parameters=[TraceQuery],
        responses={(200, MEDIA_TYPE): OpenApiTypes.STR},
        operation_id="endpoints_trace",
        filters=False,
    )
    def trace(self, request, id) -> HttpResponse:
        """Times and lengths of its requests, never text, as CSV to replay; made from sums by minute, and says so."""
        endpoint = self.get_object()
        query = TraceQuery(data=request.query_params.dict())
        query.is_valid(raise_exception=True)
        return HttpResponse(
            endpoint_trace(endpoint=endpoint, **query.validated_data),
            content_type=f"{MEDIA_TYPE}; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{endpoint.name}-trace.csv"'},
        )
