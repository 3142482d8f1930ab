"""Invitations of the caller's tenant: sent, sent again, taken back."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from tenants.api.base import ReadOnlyTenantViewSet
from tenants.api.idempotency import idempotent
from tenants.api.invitation_serializers import InvitationCreate, InvitationSerializer
from tenants.identity import invitations
from tenants.models import Invitation
from tenants.roles import Action


@extend_schema(tags=["members"])
class InvitationViewSet(ReadOnlyTenantViewSet):
    """People asked to join. They get a link by mail, which works once and for seven days. For owners and admins."""

    model = Invitation
    serializer_class = InvitationSerializer
    default_role_action = Action.MANAGE_MEMBERS

    def rows(self):
        return Invitation.objects.select_related("invited_by")

    @extend_schema(request=InvitationCreate, responses={201: InvitationSerializer})
    @idempotent
    def create(self, request) -> Response:
        """Send an invitation. There is one open invitation for an address at most."""
        invitation = invitations.invitation_create(
            **self.validated(InvitationCreate),
            **self._granter(),
        )
        return self.created(InvitationSerializer, invitation)

    @extend_schema(request=None, responses=InvitationSerializer, operation_id="invitations_resend")
    def resend(self, request, id) -> Response:
        """Send a new link, which lasts seven days from now; the old one no longer works."""
        invitation = invitations.invitation_resend(invitation=self.get_object(), **self._granter())
        return self.shown(InvitationSerializer, invitation)

    @extend_schema(request=None, responses=InvitationSerializer, operation_id="invitations_revoke")
    def revoke(self, request, id) -> Response:
        """Take it back; its link no longer works. Doing so again changes nothing."""
        return self.shown(InvitationSerializer, invitations.invitation_revoke(invitation=self.get_object()))

    @extend_schema(responses={204: None})
    def destroy(self, request, id) -> Response:
        """The same as revoking: it stays in the list."""
        invitations.invitation_revoke(invitation=self.get_object())
        return Response(status=204)

    def _granter(self) -> dict[str, Any]:
        return {
            "granter_role": self.caller.role,
            "granted_by": self.caller.key,
            "invited_by": self.caller.user,
            "portal_url": settings.PORTAL_PUBLIC_URL or self.request.build_absolute_uri("/"),
        }
