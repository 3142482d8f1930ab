"""The base of REST views on the platform's estate: for operators, by their session, across tenants."""

from __future__ import annotations

from typing import Any, ClassVar

from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from tenants.across import across_tenants
from tenants.api.base import TenantScoped, TenantViewSet
from tenants.api.caller import Caller, Operator
from tenants.audit import audit
from tenants.errors import NotFound


class OperatorSessionAuthentication(SessionAuthentication):
    """A signed-in operator; everybody else is left to the other ways of signing in."""

    def authenticate(self, request):
        found = super().authenticate(request)
        if found is None or not found[0].is_operator:
            return None
        user, _ = found
        return user, Operator(principal=str(user.id), actor=f"operator {user.email}", user=user)

    def authenticate_header(self, request) -> str:
        return 'Session realm="berth operators"'


class OperatorPermission(BasePermission):
    """To known callers who are no operators, what is here does not exist."""

    def has_permission(self, request, view) -> bool:
        if isinstance(request.auth, Caller):
            raise NotFound
        return isinstance(request.auth, Operator)


class OperatorScoped(TenantScoped):
    """Runs the whole view in the platform's scope. ``reason`` says why rows of all tenants are needed."""

    permission_classes = [OperatorPermission]
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
        door = across_tenants(request.auth.user, what=f"{request.method} {request.path}", reason=self.reason)
        if getattr(self, "action", "") in self.dialling:
            with door:
                pass  # who looks is written down all the same
        else:
            self._scopes.enter_context(door)
            self._in_scope = True

    @property
    def caller(self) -> Operator:
        return self.request.auth

    def audit(self, action: str, **facts: Any) -> None:
        """Write what the operator did into the operators' log, as the console does."""
        audit(self.caller.user, action, **facts)


class OperatorViewSet(OperatorScoped, TenantViewSet):
    """Reads by queryset and serializer; a write validates, calls one service, serialises."""
