"""The one permission class: do the caller's role and key allow what the view needs."""

from __future__ import annotations

from rest_framework.permissions import BasePermission

from tenants import roles
from tenants.api.caller import Caller
from tenants.errors import Forbidden


class RolePermission(BasePermission):
    """Anonymous callers are refused with 401, known ones without the role's right with 403."""

    def has_permission(self, request, view) -> bool:
        caller = request.auth
        if not isinstance(caller, Caller):
            return False
        action = view.needed_role_action()
        wish = action.replace("-", " ")
        if not roles.allows(caller.role, action):
            raise Forbidden(f"The role {caller.role} may not {wish}; ask an owner or admin.")
        if not caller.may(action):
            assert caller.key is not None
            raise Forbidden(
                f"This key may not {wish}: it is limited to {', '.join(caller.key.verbs)}. Use another one, or have"
                " an owner or admin change its verbs."
            )
        if view.project_field is None:
            caller.require_whole_tenant()
        return True
