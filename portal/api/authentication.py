"""Who calls the REST API: automation by management key, people by their session."""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser
from rest_framework.authentication import BaseAuthentication, SessionAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed

from tenants import acting
from tenants.addresses import client_address
from tenants.api.caller import Caller
from tenants.errors import BerthError, NotFound
from tenants.identity.policy import refuse_other_sign_in
from tenants.keys import key_authenticate
from tenants.members import memberships_of

TENANT_HEADER = "Berth-Tenant"


class TenantNotNamed(BerthError):
    code = "tenant-not-named"
    status = 400
    title = "Say for which tenant you ask"


class ManagementKeyAuthentication(BaseAuthentication):
    """``Authorization: Bearer berth_…`` with a management key."""

    def authenticate(self, request):
        words = get_authorization_header(request).decode("latin-1").split()
        if not words:
            return None
        if words[0].lower() != "bearer" or len(words) != 2:
            raise AuthenticationFailed("Send a management key as: Authorization: Bearer berth_…")
        try:
            key = key_authenticate(words[1], address=client_address(request))
        except NotFound as error:
            raise AuthenticationFailed(error.message) from error
        account = key.service_account
        if account:
            acting.identify(acting.Actor("service-account", str(account.id), account.name, f"key {key.name}"))
        else:
            maker = key.created_by.email if key.created_by else ""
            acting.identify(acting.Actor("key", str(key.id), key.name, maker))
        caller = Caller(
            tenant_id=key.tenant_id,
            role=key.acting_role,
            principal=str(key.id),
            actor=f"service account {account.name}" if account else f"key {key.name}",
            user=None if account else key.created_by,
            key=key,
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
        slug = request.headers.get(TENANT_HEADER, "")
        memberships = memberships_of(user_id=user.id)
        chosen = [each for each in memberships if not slug or each.tenant.slug == slug]
        if len(chosen) != 1:
            raise TenantNotNamed(f"Name one of your tenants by its slug in the header {TENANT_HEADER}.")
        membership = chosen[0]
        refuse_other_sign_in(request, membership)
        return user, Caller(
            tenant_id=membership.tenant_id,
            role=membership.role,
            principal=str(user.id),
            actor=user.email,
            user=user,
        )
