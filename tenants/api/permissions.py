"""The one permission class: does the caller's role allow what the view needs."""

from __future__ import annotations

from rest_framework.permissions import BasePermission

from tenants.api.caller import Caller
from tenants.errors import Forbidden


class RolePermission(BasePermission):
    """Anonymous callers are refused with 401, known ones without the role's right with 403."""

    def has_permission(self, request, view) -> bool:
        caller = request.auth
        if not isinstance(caller, Caller):
            return False
        action = view.needed_role_action()
        if not caller.may(action):
            raise Forbidden(
                f"The role {caller.role} may not {action.replace('-', ' ')}; ask an owner or admin."
            )
        return True
