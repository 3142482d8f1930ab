"""The base of REST views on the platform's estate: for people of the platform, by their session, across tenants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from clusters.inventory import remit
from tenants.across import across_tenants
from tenants.api.base import TenantScoped, TenantViewSet
from tenants.api.caller import Caller, Operator
from tenants.audit import audit
from tenants.errors import NotFound
from tenants.roles import PlatformAction


class OperatorSessionAuthentication(SessionAuthentication):
    """A signed-in person of the platform; everybody else, and who shows a key, is left to the other ways."""

    def authenticate(self, request):
        if "Authorization" in request.headers:
            return None
        found = super().authenticate(request)
        if found is None or not found[0].acts_as:
            return None
        user, _ = found
        return user, remit.operator_of(user)

    def authenticate_header(self, request) -> str:
        return 'Session realm="berth operators"'


class OperatorPermission(BasePermission):
    """To known callers who are not of the platform, what is here does not exist; to those who are, by their role."""

    def has_permission(self, request, view) -> bool:
        if isinstance(request.auth, Caller):
            raise NotFound
        if not isinstance(request.auth, Operator):
            return False
        request.auth.demand(view.needed_platform_action())
        return True


class OperatorScoped(TenantScoped):
    """Runs the whole view in the platform's scope and in the reach of whoever asks.

    ``reason`` says why rows of all tenants are needed. ``platform_actions`` maps a view's action (or lower-case method)
    to what the person's role must allow; ``default_platform_action`` is for the others.
    """

    permission_classes = [OperatorPermission]
    platform_actions: ClassVar[Mapping[str, PlatformAction]] = {}
    default_platform_action: ClassVar[PlatformAction]
    #: Actions that may wait for a cluster: they hold neither scope nor transaction, their services open both.
    dialling: ClassVar[frozenset[str]] = frozenset()
    reason: ClassVar[str] = "an operator asks through the REST API"

    def get_authenticators(self) -> list[BaseAuthentication]:
        ours = OperatorSessionAuthentication()
        # The description names the one way that leads anywhere.
        return [ours] if getattr(self, "swagger_fake_view", False) else [ours, *super().get_authenticators()]

    def perform_authentication(self, request: Request) -> None:
        super().perform_authentication(request)
        if not isinstance(request.auth, Operator):
            return
        self._scopes.enter_context(remit.within(request.auth))
        door = across_tenants(request.auth.user, what=f"{request.method} {request.path}", reason=self.reason)
        if getattr(self, "action", "") in self.dialling:
            with door:
                pass  # who looks is written down all the same
        else:
            self._scopes.enter_context(door)
            self._in_scope = True

    def needed_platform_action(self) -> PlatformAction:
        """Give what the person's role must allow for this request."""
        name = getattr(self, "action", None) or self.request.method.lower()
        return self.platform_actions.get(name, self.default_platform_action)

    @property
    def caller(self) -> Operator:
        return self.request.auth

    def audit(self, action: str, **facts: Any) -> None:
        """Write what the operator did into the operators' log, as the console does."""
        audit(self.caller.user, action, **facts)


class OperatorViewSet(OperatorScoped, TenantViewSet):
    """Reads by queryset and serializer; a write validates, calls one service, serialises."""
