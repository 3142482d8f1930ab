"""Webhooks of the caller's tenant: made, changed, tested, rotated, and what became of each delivery."""

from __future__ import annotations

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from tenants.api.base import IF_MATCH, EditableTenantViewSet
from tenants.api.filters import PAGING, refuse_unknown_parameters
from tenants.api.idempotency import idempotent
from tenants.api.webhook_serializers import (
    DeliverySerializer,
    NewWebhookSerializer,
    WebhookChange,
    WebhookCreate,
    WebhookSerializer,
)
from tenants.models import WebhookDelivery, WebhookEndpoint
from tenants.roles import Action
from tenants.webhooks import services


@extend_schema(tags=["webhooks"])
class WebhookViewSet(EditableTenantViewSet):
    """Addresses that are told of events, signed as Standard Webhooks. For owners and admins: some are secret."""

    model = WebhookEndpoint
    serializer_class = WebhookSerializer
    default_role_action = Action.MANAGE_SETTINGS

    @extend_schema(request=WebhookCreate, responses={201: NewWebhookSerializer})
    @idempotent
    def create(self, request) -> Response:
        """Make a webhook. The answer holds its secret, which is not shown again."""
        endpoint, endpoint.shown = services.webhook_create(**self.validated(WebhookCreate))
        return self.created(NewWebhookSerializer, endpoint)

    @extend_schema(request=WebhookChange, responses=WebhookSerializer, parameters=[IF_MATCH])
    def partial_update(self, request, id) -> Response:
        changes = self.validated(WebhookChange)
        return self.versioned(services.webhook_change(endpoint=self.to_edit(), **changes))

    @extend_schema(responses={204: None}, parameters=[IF_MATCH])
    def destroy(self, request, id) -> Response:
        """Remove it with its deliveries; what is not delivered yet is not."""
        services.webhook_remove(endpoint=self.to_edit())
        return Response(status=204)

    @extend_schema(request=None, responses=NewWebhookSerializer, operation_id="webhooks_rotate")
    @idempotent
    def rotate(self, request, id) -> Response:
        """Give it another secret. The old one signs beside it for a day."""
        endpoint = self.get_object()
        secret = services.webhook_rotate(endpoint=endpoint)
        endpoint = self.get_object()
        endpoint.shown = secret
        return self.shown(NewWebhookSerializer, endpoint)

    @extend_schema(request=None, responses={202: DeliverySerializer}, operation_id="webhooks_test")
    def test(self, request, id) -> Response:
        """Send it an event of the type webhook.test."""
        return self.shown(DeliverySerializer, services.webhook_test(endpoint=self.get_object()), code=202)

    @extend_schema(responses=DeliverySerializer(many=True), operation_id="webhooks_deliveries", filters=False)
    def deliveries(self, request, id) -> Response:
        """What was sent to it and what became of that, newest first. Kept for 30 days."""
        refuse_unknown_parameters(request, PAGING)
        page = self.paginate_queryset(WebhookDelivery.objects.filter(endpoint=self.get_object()))
        return self.get_paginated_response(DeliverySerializer(page, many=True).data)

    @extend_schema(request=None, responses={202: DeliverySerializer}, operation_id="webhooks_redeliver")
    def redeliver(self, request, id) -> Response:
        """Send an event again, under its old id."""
        delivery = get_object_or_404(WebhookDelivery, id=id)
        return self.shown(DeliverySerializer, services.delivery_redeliver(delivery=delivery), code=202)
