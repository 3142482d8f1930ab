"""Who calls the REST API: automation by management key, people by their session."""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, SessionAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed

from tenants import services
from tenants.api.base import Caller
from tenants.errors import NotFound


class ManagementKeyAuthentication(BaseAuthentication):
    """``Authorization: Bearer berth_…`` with a management key."""

    def authenticate(self, request):
        header = get_authorization_header(request).decode("latin-1").split()
        if not header or header[0].lower() != "bearer":
            return None
        if len(header) != 2:
            raise AuthenticationFailed("Send the key as: Authorization: Bearer berth_…")
        try:
            key = services.key_authenticate(header[1])
        except NotFound as error:
            raise AuthenticationFailed(error.message) from error
        caller = Caller(
            tenant_id=key.tenant_id, role=key.role, principal=str(key.id), actor=f"key {key.name}", user=None
        )
        return AnonymousUser(), caller

    def authenticate_header(self, request) -> str:
        return 'Bearer realm="berth"'


class PortalSessionAuthentication(SessionAuthentication):
    """A signed-in person, for the tenant named in the header ``Berth-Tenant`` (or their only one)."""

    def authenticate(self, request):
        found = super().authenticate(request)
        if found is None:
            return None
        user, _ = found
        slug = request.headers.get("Berth-Tenant", "")
        memberships = services.memberships_of(user_id=user.id)
        chosen = [m for m in memberships if not slug or m.tenant.slug == slug]
        if len(chosen) != 1:
            raise AuthenticationFailed("Name one of your tenants by its slug in the header Berth-Tenant.")
        membership = chosen[0]
        return user, Caller(
            tenant_id=membership.tenant_id,
            role=membership.role,
            principal=str(user.id),
            actor=user.email,
            user=user,
        )


class ManagementKeyScheme(OpenApiAuthenticationExtension):
    target_class = "portal.api.authentication.ManagementKeyAuthentication"
    name = "managementKey"

    def get_security_definition(self, auto_schema):
        return {"type": "http", "scheme": "bearer", "description": "A management key, berth_…"}
