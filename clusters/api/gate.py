"""The gate that a customer's own pipeline asks before it changes an endpoint."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from clusters.api.gate_serializers import GateBody, GateSerializer
from clusters.endpoints import selectors
from clusters.endpoints.evaluations.criteria import endpoint_gate
from clusters.models import Endpoint
from tenants.api.base import TenantViewSet
from tenants.roles import Action


@extend_schema(tags=["evaluations"])
class GateViewSet(TenantViewSet):
    """Judging a change of an endpoint."""

    model = Endpoint
    serializer_class = GateSerializer
    project_field = "project"
    role_actions = {"gate": Action.VIEW_COST}

    def rows(self):
        return selectors.endpoint_detail()

    @extend_schema(request=GateBody, responses=GateSerializer, operation_id="endpoints_gate")
    def gate(self, request, id) -> Response:
        """Whether a change, a replay's report or an evaluation keeps SLO, cost and quality. Nothing is changed."""
        endpoint = self.get_object()
        body = GateBody(data=request.data, context=self.get_serializer_context())
        body.is_valid(raise_exception=True)
        return self.shown(GateSerializer, endpoint_gate(endpoint=endpoint, **body.asked(endpoint)))
