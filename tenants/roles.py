"""What each role may do inside a tenant. One table, read by the API and by the pages."""

from __future__ import annotations

import enum

from tenants.models import Role


class Action(enum.StrEnum):
    """What is asked of a tenant's objects."""

    VIEW = "view"
    ORDER = "order"  # endpoints: order, scale, pause, resume, delete
    MINT_KEYS = "mint-keys"
    VIEW_COST = "view-cost"
    REPORT_USAGE = "report-usage"  # of engines that Berth does not run
    MANAGE_BUDGETS = "manage-budgets"
    MANAGE_PROJECTS = "manage-projects"
    MANAGE_MEMBERS = "manage-members"
    MANAGE_SETTINGS = "manage-settings"  # what the tenant chose: how long it is served and kept
    MANAGE_SECRETS = "manage-secrets"  # credentials for fetching the weights of models
    MANAGE_IDENTITY = (
        "manage-identity"  # sign-in providers, what their groups may do, who needs a second factor
    )


_DEVELOP = {Action.VIEW, Action.ORDER, Action.MINT_KEYS, Action.VIEW_COST, Action.REPORT_USAGE}
_ALLOWED: dict[str, frozenset[Action]] = {
    Role.OWNER: frozenset(Action),
    Role.ADMIN: frozenset(Action) - {Action.MANAGE_IDENTITY},
    Role.DEVELOPER: frozenset(_DEVELOP),
    Role.BILLING: frozenset({Action.VIEW, Action.VIEW_COST, Action.MANAGE_BUDGETS}),
    Role.VIEWER: frozenset({Action.VIEW}),
}

#: From most to least; nobody may hand out a role above their own.
RANK = [Role.OWNER, Role.ADMIN, Role.DEVELOPER, Role.BILLING, Role.VIEWER]


def allows(role: str, action: Action) -> bool:
    """Say whether ``role`` may do ``action``."""
    return action in _ALLOWED.get(role, frozenset())


def may_grant(granter: str, role: str) -> bool:
    """Say whether a member with role ``granter`` may hand out ``role``."""
    return granter in RANK and role in RANK and RANK.index(role) >= RANK.index(granter)
