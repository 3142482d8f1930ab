"""Changing an endpoint's order while it serves, and the rollouts that come of it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from clusters.api.approvals import asker_of
from clusters.api.rollout_serializers import ChangePlanSerializer, OrderChangeBody, RolloutSerializer
from clusters.api.serializers import EndpointDetailSerializer
from clusters.endpoints import selectors
from clusters.endpoints.rollouts import deciding
from clusters.endpoints.rollouts.changing import change_plan, endpoint_change
from clusters.endpoints.rollouts.selectors import rollout_list
from clusters.models import Endpoint
from tenants.api.base import IF_MATCH, TenantViewSet
from tenants.api.filters import PAGING, refuse_unknown_parameters
from tenants.api.idempotency import idempotent
from tenants.api.preconditions import asks_for_version, etag, refuse_stale
from tenants.roles import Action

CHANGED = {202: EndpointDetailSerializer}


@extend_schema(tags=["endpoints"])
class RolloutViewSet(TenantViewSet):
    """How an endpoint changes what it runs."""

    model = Endpoint
    serializer_class = RolloutSerializer
    project_field = "project"
    role_actions = dict.fromkeys(("change", "promote", "roll_back", "retry", "dismiss"), Action.ORDER)

    def rows(self):
        return selectors.endpoint_detail()

    @extend_schema(
        request=OrderChangeBody, responses=ChangePlanSerializer, operation_id="endpoints_plan_change"
    )
    def plan_change(self, request: Request, id: uuid.UUID) -> Response:
        """What a change of the order would come to: what would run, at what price, by what way, with what outage."""
        endpoint = self.get_object()
        plan = change_plan(endpoint=endpoint, changes=self.validated(OrderChangeBody))
        answer = {
            **{
                name: getattr(plan, name)
                for name in ("what", "found", "policy", "way", "begins_at", "outage", "evaluates")
            },
            "document": plan.found.plan.to_document(),
            "currency": endpoint.tenant.currency,
            "approvals": [trip.to_document() for trip in plan.trips],
        }
        return self.shown(ChangePlanSerializer, answer)

    @extend_schema(
        request=OrderChangeBody, responses=CHANGED, parameters=[IF_MATCH], operation_id="endpoints_change"
    )
    @idempotent
    def change(self, request: Request, id: uuid.UUID) -> Response:
        """Change the order and roll out what it needs; where a rule wants it, somebody is asked first."""
        endpoint = self.get_object()
        refuse_stale(request, endpoint.generation)
        endpoint_change(
            endpoint=endpoint,
            changes=self.validated(OrderChangeBody),
            actor=self.caller.actor,
            asked_by=asker_of(self.caller),
        )
        return self._changed()

    @extend_schema(responses=RolloutSerializer(many=True), operation_id="endpoints_rollouts", filters=False)
    def rollouts(self, request: Request, id: uuid.UUID) -> Response:
        """Its rollouts, newest first."""
        refuse_unknown_parameters(request, PAGING)
        page = self.paginate_queryset(rollout_list(self.get_object()))
        return self.get_paginated_response(RolloutSerializer(page, many=True).data)

    @extend_schema(responses=RolloutSerializer, operation_id="endpoints_rollout", filters=False)
    def rollout(self, request: Request, id: uuid.UUID, rollout_id: uuid.UUID) -> Response:
        """One rollout with the numbers of both revisions."""
        return self.shown(RolloutSerializer, deciding.rollout_get(self.get_object(), rollout_id))

    @extend_schema(
        request=None, responses=CHANGED, parameters=[IF_MATCH], operation_id="endpoints_rollout_promote"
    )
    @idempotent
    def promote(self, request: Request, id: uuid.UUID, rollout_id: uuid.UUID) -> Response:
        """Let the new revision serve alone now, whatever the gate would say."""
        return self._decide(deciding.rollout_promote_now, rollout_id)

    @extend_schema(
        request=None, responses=CHANGED, parameters=[IF_MATCH], operation_id="endpoints_rollout_rollback"
    )
    @idempotent
    def roll_back(self, request: Request, id: uuid.UUID, rollout_id: uuid.UUID) -> Response:
        """Go back to what ran before, and to the order as it was."""
        return self._decide(deciding.rollout_roll_back, rollout_id)

    @extend_schema(
        request=None, responses=CHANGED, parameters=[IF_MATCH], operation_id="endpoints_rollout_retry"
    )
    @idempotent
    def retry(self, request: Request, id: uuid.UUID, rollout_id: uuid.UUID) -> Response:
        """Ask for the change of an undone rollout again."""
        return self._decide(deciding.rollout_retry, rollout_id, asked_by=asker_of(self.caller))

    @extend_schema(
        request=None, responses=CHANGED, parameters=[IF_MATCH], operation_id="endpoints_rollout_dismiss"
    )
    @idempotent
    def dismiss(self, request: Request, id: uuid.UUID, rollout_id: uuid.UUID) -> Response:
        """Show a failed update no longer as the endpoint's state."""
        return self._decide(deciding.rollout_dismiss, rollout_id)

    def _decide(self, service: Callable[..., Endpoint], rollout_id: uuid.UUID, **further: Any) -> Response:
        endpoint = self.get_object()
        refuse_stale(self.request, endpoint.generation)
        service(
            endpoint=endpoint,
            rollout_id=rollout_id,
            actor=self.caller.actor,
            # The service compares again under its lock.
            if_generation=endpoint.generation if asks_for_version(self.request) else None,
            **further,
        )
        return self._changed()

    def _changed(self) -> Response:
        endpoint = self.get_object()
        return self.shown(
            EndpointDetailSerializer, endpoint, code=status.HTTP_202_ACCEPTED, ETag=etag(endpoint.generation)
        )
