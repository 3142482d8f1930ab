"""How an endpoint's replicas are chosen: bounds, schedules, and what was decided at which price."""

from __future__ import annotations

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.response import Response

from clusters.api.autoscaling_serializers import (
    AutoscalingBody,
    AutoscalingSerializer,
    DecisionSerializer,
    ScheduleBody,
    ScheduleSerializer,
)
from clusters.endpoints import selectors
from clusters.endpoints.autoscaling.selectors import scaling_decisions, scaling_shown
from clusters.endpoints.autoscaling.setting import (
    ScheduleTerms,
    endpoint_scaling_set,
    schedule_delete,
    schedule_set,
)
from clusters.models import Endpoint, ScaleSchedule
from tenants import narrowing
from tenants.api.base import IF_MATCH, EditableTenantViewSet, TenantViewSet
from tenants.api.filters import PAGING, refuse_unknown_parameters
from tenants.api.idempotency import idempotent
from tenants.api.preconditions import asks_for_version, etag, refuse_stale
from tenants.errors import NotFound
from tenants.roles import Action


@extend_schema(tags=["endpoints"])
class AutoscalingViewSet(TenantViewSet):
    """Who chooses an endpoint's replicas, between what, and when."""

    model = Endpoint
    serializer_class = AutoscalingSerializer
    project_field = "project"
    role_actions = {"set": Action.ORDER}

    def rows(self):
        return selectors.endpoint_list()

    @extend_schema(
        responses=AutoscalingSerializer, operation_id="endpoints_autoscaling_retrieve", filters=False
    )
    def read(self, request, id) -> Response:
        """Who chooses its replicas, the bounds that hold now, and what they cost per hour."""
        return self._answer(self.get_object())

    @extend_schema(
        request=AutoscalingBody,
        responses=AutoscalingSerializer,
        parameters=[IF_MATCH],
        operation_id="endpoints_autoscaling_update",
    )
    def set(self, request, id) -> Response:
        """Let Berth choose its replicas within bounds, or stop it. What is left out is the plan's, or the class's."""
        endpoint = self.get_object()
        refuse_stale(request, endpoint.generation)
        endpoint_scaling_set(
            endpoint=endpoint,
            actor=self.caller.actor,
            if_generation=endpoint.generation if asks_for_version(request) else None,
            **self.validated(AutoscalingBody),
        )
        return self._answer(self.get_object())

    @extend_schema(
        responses=DecisionSerializer(many=True), operation_id="endpoints_scaling_decisions", filters=False
    )
    def decisions(self, request, id) -> Response:
        """What was decided of its replicas, why, and what it costs per hour before and after; newest first."""
        return self._page(DecisionSerializer, scaling_decisions(self.get_object()))

    def _answer(self, endpoint: Endpoint) -> Response:
        found = scaling_shown(endpoint, now=timezone.now())
        return self.shown(AutoscalingSerializer, found, ETag=etag(endpoint.generation))

    def _page(self, serializer_class, rows) -> Response:
        refuse_unknown_parameters(self.request, PAGING)
        page = self.paginate_queryset(rows)
        return self.get_paginated_response(
            serializer_class(page, many=True, context=self.get_serializer_context()).data
        )


@extend_schema(tags=["endpoints"])
class ScheduleViewSet(EditableTenantViewSet):
    """The times of the week at which other bounds hold for an endpoint's replicas."""

    model = ScaleSchedule
    serializer_class = ScheduleSerializer
    project_field = "endpoint__project"
    lookup_url_kwarg = "schedule_id"
    role_actions = dict.fromkeys(("create", "update", "destroy"), Action.ORDER)

    def rows(self):
        return ScaleSchedule.objects.filter(endpoint=self._endpoint()).select_related("endpoint")

    @extend_schema(operation_id="endpoints_schedules_list", filters=False)
    def list(self, request, id) -> Response:
        """Where several hold at once the highest floor wins."""
        return super().list(request)

    @extend_schema(operation_id="endpoints_schedules_retrieve")
    def retrieve(self, request, id, schedule_id) -> Response:
        """One schedule. The ETag is for If-Match."""
        return super().retrieve(request)

    @extend_schema(
        request=ScheduleBody, responses={201: ScheduleSerializer}, operation_id="endpoints_schedules_create"
    )
    @idempotent
    def create(self, request, id) -> Response:
        """Add a schedule."""
        endpoint = self._endpoint()
        terms = ScheduleTerms(**self.validated(ScheduleBody))
        schedule = schedule_set(endpoint=endpoint, terms=terms, actor=self.caller.actor)
        return self.created(ScheduleSerializer, schedule)

    @extend_schema(
        request=ScheduleBody,
        responses=ScheduleSerializer,
        parameters=[IF_MATCH],
        operation_id="endpoints_schedules_update",
    )
    def update(self, request, id, schedule_id) -> Response:
        """Give a schedule other terms."""
        schedule = self.to_edit()
        terms = ScheduleTerms(**self.validated(ScheduleBody))
        return self.versioned(
            schedule_set(endpoint=schedule.endpoint, terms=terms, actor=self.caller.actor, schedule=schedule)
        )

    @extend_schema(responses={204: None}, parameters=[IF_MATCH], operation_id="endpoints_schedules_destroy")
    def destroy(self, request, id, schedule_id) -> Response:
        """Take a schedule away; the endpoint's own bounds hold from then on."""
        schedule_delete(schedule=self.to_edit(), actor=self.caller.actor)
        return Response(status=status.HTTP_204_NO_CONTENT)

    def _endpoint(self) -> Endpoint:
        rows = narrowing.within(selectors.endpoint_list(), "project")
        found = rows.filter(id=self.kwargs["id"]).first()
        if found is None:
            raise NotFound
        return found
