"""Who asks. Apart from the views, whose import makes Django REST framework read its settings."""

from __future__ import annotations

import dataclasses
import uuid

from tenants import reach, roles
from tenants.errors import Forbidden
from tenants.models import ApiKey, User


@dataclasses.dataclass(frozen=True)
class Caller:
    """Who asks: what authentication puts into ``request.auth``.

    ``principal`` is the key's or the person's id; ``actor`` how the history names them. ``key`` is the management
    key that asks, None for a person.
    """

    tenant_id: uuid.UUID
    role: str
    principal: str
    actor: str
    user: User | None = None
    key: ApiKey | None = None

    def may(self, action: roles.Action) -> bool:
        """Say whether the role allows ``action``, and the key's verbs where there is one."""
        return roles.allows(self.role, action) if self.key is None else reach.key_may(self.key, action)

    @property
    def projects(self) -> frozenset[uuid.UUID] | None:
        """The projects whose objects are seen, None for the whole tenant's."""
        return None if self.key is None else self.key.seen_projects

    def require_whole_tenant(self) -> None:
        """Insist on seeing the whole tenant.

        Raises:
            Forbidden: the key is limited to projects.
        """
        if self.projects is not None:
            raise Forbidden(
                "This key is limited to some projects, and this belongs to the whole tenant. Use a key that is not."
            )


@dataclasses.dataclass(frozen=True)
class Operator:
    """An operator, who acts for the platform and for no tenant."""

    principal: str
    actor: str
    user: User
