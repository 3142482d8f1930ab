"""Endpoints: plan, order, read, scale, pause, resume, delete."""

from __future__ import annotations

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.response import Response

from clusters.api.approvals import asker_of
from clusters.api.order_serializers import EndpointChange, EndpointOrder, PlanRequest
from clusters.api.plan_serializers import PlanSerializer
from clusters.api.serializers import (
    EndpointDetailSerializer,
    EndpointSerializer,
    EventSerializer,
    LogQuery,
    LogSerializer,
    RevisionDetailSerializer,
)
from clusters.endpoints import selectors, services
from clusters.endpoints.approvals.selectors import order_trips, waits_for_approval
from clusters.endpoints.budgets import budget_effect
from clusters.endpoints.limits import endpoint_limits_set
from clusters.endpoints.planning import Market
from clusters.endpoints.waiting import capacity_for
from clusters.models import Endpoint, EndpointState
from tenants.api.base import IF_MATCH, ReadOnlyTenantViewSet
from tenants.api.filters import PAGING, refuse_unknown_parameters
from tenants.api.idempotency import idempotent
from tenants.api.preconditions import asks_for_version, etag, refuse_stale
from tenants.models import Tenant
from tenants.roles import Action


class EndpointFilter(django_filters.FilterSet):
    state = django_filters.MultipleChoiceFilter(
        choices=EndpointState.choices, help_text="Repeat for several; deleted ones are listed only by this."
    )
    project = django_filters.CharFilter(field_name="project__slug", help_text="Slug of the project.")
    model = django_filters.CharFilter(field_name="model__name", help_text="Name of the catalog model.")
    name = django_filters.CharFilter(field_name="name", lookup_expr="iexact")

    def filter_queryset(self, queryset: QuerySet) -> QuerySet:
        rows = super().filter_queryset(queryset)
        return rows if self.form.cleaned_data.get("state") else rows.live()


@extend_schema(tags=["endpoints"])
class EndpointViewSet(ReadOnlyTenantViewSet):
    """What the tenant ordered, and how it stands."""

    model = Endpoint
    serializer_class = EndpointSerializer
    project_field = "project"
    filterset_class = EndpointFilter
    role_actions = dict.fromkeys(("create", "partial_update", "destroy", "pause", "resume"), Action.ORDER)

    def rows(self):
        return selectors.endpoint_list() if self.action == "list" else selectors.endpoint_detail()

    @extend_schema(responses=EndpointDetailSerializer)
    def retrieve(self, request, id) -> Response:
        """One endpoint with all that is known of it. The ETag is for If-Match."""
        return self._answer(self.get_object())

    @extend_schema(request=EndpointOrder, responses={201: EndpointDetailSerializer})
    @idempotent
    def create(self, request) -> Response:
        """Order an endpoint. Where free GPUs or somebody's approval are wanting it is accepted and waits for them."""
        order = self.validated(EndpointOrder)
        endpoint = services.endpoint_order(
            **order,
            actor=self.caller.actor,
            created_by=self.caller.user,
            asked_by=asker_of(self.caller),
        )
        response = self.created(EndpointDetailSerializer, self.get_queryset().get(id=endpoint.id))
        response["ETag"] = etag(endpoint.generation)
        return response

    @extend_schema(request=PlanRequest, responses=PlanSerializer, operation_id="endpoints_plan")
    def plan(self, request) -> Response:
        """Plan an order without placing it. That it cannot be placed is an answer too, not an error."""
        order = self.validated(PlanRequest)
        tenant = Tenant.objects.get(id=self.caller.tenant_id)
        market = Market.read(tenant=tenant, project=order.get("project"))
        plan = market.plan(order["terms"])
        trips = order_trips(tenant=tenant, terms=order["terms"], plan=plan, market=market)
        answer = {
            **plan.to_document(),
            "currency": tenant.currency,
            "approvals": [trip.to_document() for trip in trips],
            "policy_version": market.policy.version if market.policy else 0,
            "quota": selectors.quota_effect(plan),
            "budgets": budget_effect(plan, order["terms"], project=order.get("project")),
            "capacity": capacity_for(plan, slo_class=order["terms"].slo_class),
        }
        return self.shown(PlanSerializer, answer)

    @extend_schema(
        request=EndpointChange,
        responses={200: EndpointDetailSerializer, 202: EndpointDetailSerializer},
        parameters=[IF_MATCH],
    )
    def partial_update(self, request, id) -> Response:
        """Change the replicas, the limits a minute, or the fallbacks; 202 where replicas wait for approval."""
        wishes = self.validated(EndpointChange)
        replicas = wishes.pop("replicas", None)
        if replicas is None:
            return self._change(endpoint_limits_set, **wishes)
        answer = self._change(services.endpoint_scale, may_wait=True, replicas=replicas)
        if not wishes:
            return answer
        endpoint_limits_set(endpoint=self.get_object(), actor=self.caller.actor, **wishes)
        return self._answer(self.get_object())

    @extend_schema(responses={202: EndpointDetailSerializer}, parameters=[IF_MATCH])
    def destroy(self, request, id) -> Response:
        """Ask for its end. It is gone, and costs nothing more, when its cluster shows its GPUs released."""
        return self._change(services.endpoint_delete, code=status.HTTP_202_ACCEPTED)

    @extend_schema(
        request=None,
        responses=EndpointDetailSerializer,
        parameters=[IF_MATCH],
        operation_id="endpoints_pause",
    )
    @idempotent
    def pause(self, request, id) -> Response:
        """Stop its engines and release its GPUs, keeping the order."""
        return self._change(services.endpoint_pause)

    @extend_schema(
        request=None,
        responses={200: EndpointDetailSerializer, 202: EndpointDetailSerializer},
        parameters=[IF_MATCH],
        operation_id="endpoints_resume",
    )
    @idempotent
    def resume(self, request, id) -> Response:
        """Serve again, planned afresh against today's capacity and prices; 202 where that waits for approval."""
        return self._change(services.endpoint_resume, may_wait=True)

    @extend_schema(responses=EventSerializer(many=True), operation_id="endpoints_events", filters=False)
    def events(self, request, id) -> Response:
        """What people did and what the reconciler saw change, newest first."""
        return self._page(EventSerializer, selectors.endpoint_history(self.get_object()))

    @extend_schema(
        responses=RevisionDetailSerializer(many=True), operation_id="endpoints_revisions", filters=False
    )
    def revisions(self, request, id) -> Response:
        """Its revisions with the whole plan of each, newest first."""
        return self._page(RevisionDetailSerializer, selectors.endpoint_revisions(self.get_object()))

    @extend_schema(
        parameters=[LogQuery], responses={200: LogSerializer, 503: None}, operation_id="endpoints_logs"
    )
    def logs(self, request, id) -> Response:
        """The last lines of an engine's own log. Request texts are never in it."""
        endpoint = self.get_object()
        query = LogQuery(data=request.query_params.dict())
        query.is_valid(raise_exception=True)
        asked = query.validated_data
        tail = selectors.endpoint_logs(endpoint, replica_id=asked["replica"], lines=asked["lines"])
        return self.shown(LogSerializer, {"replica": tail.replica, "lines": tail.text.splitlines()})

    def _change(
        self, service, *, code: int = status.HTTP_200_OK, may_wait: bool = False, **wishes
    ) -> Response:
        endpoint = self.get_object()
        refuse_stale(self.request, endpoint.generation)
        # The service compares again under its lock.
        if_generation = endpoint.generation if asks_for_version(self.request) else None
        if may_wait:
            wishes["asked_by"] = asker_of(self.caller)
        service(endpoint=endpoint, actor=self.caller.actor, if_generation=if_generation, **wishes)
        changed = self.get_object()
        if may_wait and changed.generation == endpoint.generation and waits_for_approval(changed):
            code = status.HTTP_202_ACCEPTED
        return self._answer(changed, code=code)

    def _answer(self, endpoint: Endpoint, *, code: int = status.HTTP_200_OK) -> Response:
        return self.shown(EndpointDetailSerializer, endpoint, code=code, ETag=etag(endpoint.generation))

    def _page(self, serializer_class, rows: QuerySet) -> Response:
        refuse_unknown_parameters(self.request, PAGING)
        page = self.paginate_queryset(rows)
        return self.get_paginated_response(
            serializer_class(page, many=True, context=self.get_serializer_context()).data
        )
