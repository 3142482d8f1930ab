"""Who applies: what they may do, and how history and approvals name them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from clusters.endpoints.approvals.deciding import Asker
from tenants import roles
from tenants.errors import Forbidden
from tenants.models import Role, User


@dataclasses.dataclass(frozen=True, kw_only=True)
class Applier:
    """Somebody who applies documents.

    ``role`` is theirs in the tenant whose objects are applied; ``asked_by`` counts as having asked where approval is
    wanted.
    """

    actor: str
    may: Callable[[str], bool]
    user: User | None = None
    asked_by: Asker | None = None
    role: str = ""

    def demand(self, action: roles.Action | roles.PlatformAction) -> None:
        """Insist on the right to do ``action``.

        Raises:
            Forbidden: they have not.
        """
        if not self.may(action):
            raise Forbidden(f"{self.actor} may not {action.replace('-', ' ')}.")


def of_shell(account: str) -> Applier:
    """Give whoever runs commands on the server: they may do everything, and approvals are asked for all the same."""
    return Applier(actor=f"command apply by {account}", may=lambda action: True, role=Role.OWNER)
