"""Who asks. Apart from the views, whose import makes Django REST framework read its settings."""

from __future__ import annotations

import dataclasses
import uuid

from tenants import roles
from tenants.models import User


@dataclasses.dataclass(frozen=True)
class Caller:
    """Who asks: what authentication puts into ``request.auth``.

    ``principal`` is the key's or the person's id; ``actor`` how the history names them.
    """

    tenant_id: uuid.UUID
    role: str
    principal: str
    actor: str
    user: User | None = None

    def may(self, action: roles.Action) -> bool:
        return roles.allows(self.role, action)


@dataclasses.dataclass(frozen=True)
class Operator:
    """An operator, who acts for the platform and for no tenant."""

    principal: str
    actor: str
    user: User
