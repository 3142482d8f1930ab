"""Who asks. Apart from the views, whose import makes Django REST framework read its settings."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping

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
    def maker(self) -> User | None:
        """The person to whom what is handed out is put down: who asks or, by a key, who made that."""
        if self.key is None or self.key.service_account is None:
            return self.user
        return self.key.created_by or self.key.service_account.created_by

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Operator:
    """A person of the platform, who acts for it and for no tenant: operator, finance, auditor, superuser.

    ``clusters`` are ids and names of those that an operator answers for; None is every one.
    """

    principal: str
    actor: str
    user: User
    role: str
    clusters: Mapping[uuid.UUID, str] | None = None

    def may(self, action: roles.PlatformAction) -> bool:
        return roles.platform_allows(self.role, action, narrowed=self.clusters is not None)

    def demand(self, action: roles.PlatformAction) -> None:
        """Insist on the right to do ``action``.

        Raises:
            Forbidden: the role does not give it, or not to those who answer for some clusters alone.
        """
        if self.may(action):
            return
        words = action.replace("-", " ")
        if self.clusters is not None and roles.platform_allows(self.role, action):
            raise Forbidden(
                f"You answer for some clusters alone ({', '.join(sorted(self.clusters.values()))}) and may not "
                f"{words} of the whole platform. Ask an operator of all clusters."
            )
        raise Forbidden(f"The role {self.role} may not {words}. A superuser can give you another role.")
