"""The measured load of an endpoint: reading it, planning anew for it, keeping the order, asking what if."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.response import Response

from clusters.api.approvals import asker_of
from clusters.api.load_serializers import (
    LoadSerializer,
    ReplanBody,
    WhatIfBody,
    WhatIfSerializer,
)
from clusters.api.serializers import EndpointDetailSerializer
from clusters.endpoints import selectors
from clusters.endpoints.load.measured import endpoint_keep_order, load_of
from clusters.endpoints.load.replanning import endpoint_replan
from clusters.endpoints.what_if.one import endpoint_what_if
from clusters.models import Endpoint
from tenants.api.base import IF_MATCH, TenantViewSet
from tenants.api.idempotency import idempotent
from tenants.api.preconditions import asks_for_version, etag, refuse_stale
from tenants.errors import NotFound
from tenants.roles import Action


@extend_schema(tags=["endpoints"])
class LoadViewSet(TenantViewSet):
    """What an endpoint's own requests say of its order."""

    model = Endpoint
    serializer_class = LoadSerializer
    project_field = "project"
    role_actions = {"replan": Action.ORDER, "keep_order": Action.ORDER, "what_if": Action.VIEW_COST}

    def rows(self):
        return selectors.endpoint_detail()

    @extend_schema(responses=LoadSerializer, operation_id="endpoints_load", filters=False)
    def load(self, request, id) -> Response:
        """The measured load beside the ordered one, what of it drifts, and the priced answer to that."""
        endpoint = self.get_object()
        observation = load_of(endpoint)
        if observation is None:
            raise NotFound(f"{endpoint.name} has had too few requests to learn its load from.")
        observation.endpoint = endpoint
        return self.shown(LoadSerializer, observation)

    @extend_schema(
        request=ReplanBody,
        responses={202: EndpointDetailSerializer},
        parameters=[IF_MATCH],
        operation_id="endpoints_replan",
    )
    @idempotent
    def replan(self, request, id) -> Response:
        """Take a load over into the order, the measured one by default, and run what it needs."""
        endpoint = self.get_object()
        refuse_stale(request, endpoint.generation)
        body = ReplanBody(data=request.data, context=self.get_serializer_context())
        body.is_valid(raise_exception=True)
        endpoint_replan(
            endpoint=endpoint,
            terms=body.terms(endpoint),
            actor=self.caller.actor,
            asked_by=asker_of(self.caller),
            if_generation=self._if_generation(endpoint),
        )
        return self._changed(status.HTTP_202_ACCEPTED)

    @extend_schema(
        request=None,
        responses=EndpointDetailSerializer,
        parameters=[IF_MATCH],
        operation_id="endpoints_keep_order",
    )
    @idempotent
    def keep_order(self, request, id) -> Response:
        """Keep it as ordered although its load differs; it is no drift until it changes again."""
        endpoint = self.get_object()
        refuse_stale(request, endpoint.generation)
        endpoint_keep_order(
            endpoint=endpoint, actor=self.caller.actor, if_generation=self._if_generation(endpoint)
        )
        return self._changed(status.HTTP_200_OK)

    @extend_schema(request=WhatIfBody, responses=WhatIfSerializer, operation_id="endpoints_what_if")
    def what_if(self, request, id) -> Response:
        """What another class, place, precision, price or more GPUs would mean for it, on its real history."""
        endpoint = self.get_object()
        body = WhatIfBody(data=request.data, context=self.get_serializer_context())
        body.is_valid(raise_exception=True)
        found = endpoint_what_if(endpoint=endpoint, changes=body.changes())
        return self.shown(WhatIfSerializer, found)

    def _if_generation(self, endpoint: Endpoint) -> int | None:
        # The service compares again under its lock.
        return endpoint.generation if asks_for_version(self.request) else None

    def _changed(self, code: int) -> Response:
        endpoint = self.get_object()
        return self.shown(EndpointDetailSerializer, endpoint, code=code, ETag=etag(endpoint.generation))
