"""Paths of the tenants room under /api/v1. Those of keys stand in the router, for their classes are another room's."""

from django.urls import path

from tenants.api.audit import AuditViewSet
from tenants.api.invitations import InvitationViewSet
from tenants.api.service_accounts import ServiceAccountViewSet
from tenants.api.views import MemberViewSet, ProjectViewSet
from tenants.api.webhooks import WebhookViewSet

urlpatterns = [
    path("audit-entries", AuditViewSet.as_view({"get": "list"})),
    path("audit-entries/<uuid:id>", AuditViewSet.as_view({"get": "retrieve"})),
    path("audit-entries:export", AuditViewSet.as_view({"get": "export"})),
    path("projects", ProjectViewSet.as_view({"get": "list", "post": "create"})),
    path("projects/<uuid:id>", ProjectViewSet.as_view({"get": "retrieve", "patch": "partial_update"})),
    path("webhooks", WebhookViewSet.as_view({"get": "list", "post": "create"})),
    path(
        "webhooks/<uuid:id>",
        WebhookViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
    ),
    path("webhooks/<uuid:id>/rotate", WebhookViewSet.as_view({"post": "rotate"})),
    path("webhooks/<uuid:id>/test", WebhookViewSet.as_view({"post": "test"})),
    path("webhooks/<uuid:id>/deliveries", WebhookViewSet.as_view({"get": "deliveries"})),
    path(
        "webhooks/deliveries/<uuid:id>/redeliver",
        WebhookViewSet.as_view({"post": "redeliver"}),
    ),
    path("service-accounts", ServiceAccountViewSet.as_view({"get": "list", "post": "create"})),
    path(
        "service-accounts/<uuid:id>",
        ServiceAccountViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
    ),
    path("members", MemberViewSet.as_view({"get": "list"})),
    path(
        "members/<uuid:id>",
        MemberViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
    ),
    path("invitations", InvitationViewSet.as_view({"get": "list", "post": "create"})),
    path("invitations/<uuid:id>", InvitationViewSet.as_view({"get": "retrieve", "delete": "destroy"})),
    path("invitations/<uuid:id>:resend", InvitationViewSet.as_view({"post": "resend"})),
    path("invitations/<uuid:id>:revoke", InvitationViewSet.as_view({"post": "revoke"})),
]
