"""What each role may do inside a tenant, and what for the platform. Two tables, read by the API and by the pages."""

from __future__ import annotations

import enum
from typing import Final

from tenants.models import SUPERUSER, PlatformRole, Role


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
    VIEW_AUDIT = "view-audit"
    MANAGE_SERVICE_ACCOUNTS = "manage-service-accounts"
    MANAGE_POLICY = "manage-policy"  # what the tenant lets itself use, and what needs approval
    APPROVE = "approve"  # requests; who may decide upon one, its rules say
    MANAGE_IDENTITY = "manage-identity"  # sign-in providers, what their groups may do, second factors


_DEVELOP = {Action.VIEW, Action.ORDER, Action.MINT_KEYS, Action.VIEW_COST, Action.REPORT_USAGE}
_ALLOWED: dict[str, frozenset[Action]] = {
    Role.OWNER: frozenset(Action),
    Role.ADMIN: frozenset(Action) - {Action.MANAGE_IDENTITY},
    Role.DEVELOPER: frozenset(_DEVELOP),
    Role.BILLING: frozenset({Action.VIEW, Action.VIEW_COST, Action.MANAGE_BUDGETS, Action.APPROVE}),
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


class PlatformAction(enum.StrEnum):
    """What is asked of the platform: of its console and of the operators' part of the API."""

    VIEW_ESTATE = "view-estate"  # clusters, pools, nodes, gateways, and how their GPUs are used
    MANAGE_ESTATE = "manage-estate"
    VIEW_FLEET = "view-fleet"  # what is about all clusters at once: the advisor, what if
    MANAGE_FLEET = "manage-fleet"  # those, and new regions, new clusters, gateways that others run
    VIEW_ENDPOINTS = "view-endpoints"
    MANAGE_ENDPOINTS = "manage-endpoints"  # move, restore, put a saving off
    VIEW_OFFER = "view-offer"
    MANAGE_OFFER = (
        "manage-offer"  # catalog, SLO classes, engine images and settings, what every tenant may call
    )
    VIEW_TENANTS = "view-tenants"
    MANAGE_TENANTS = "manage-tenants"  # open, quotas, limits
    VIEW_MONEY = "view-money"
    MANAGE_MONEY = "manage-money"  # prices, books, asset rates, commitments, credits, parked accounts
    VIEW_USAGE_CHECKS = "view-usage-checks"
    VIEW_AUDIT = "view-audit"
    VIEW_PEOPLE = "view-people"
    MANAGE_PEOPLE = "manage-people"  # hand out and take away these roles


_OF_SUPERUSERS = {
    PlatformAction.MANAGE_MONEY, PlatformAction.VIEW_AUDIT, PlatformAction.VIEW_PEOPLE,
    PlatformAction.MANAGE_PEOPLE,
}  # fmt: skip
_PLATFORM: Final[dict[str, frozenset[PlatformAction]]] = {
    SUPERUSER: frozenset(PlatformAction),
    PlatformRole.OPERATOR: frozenset(PlatformAction) - _OF_SUPERUSERS,
    PlatformRole.FINANCE: frozenset(
        {
            PlatformAction.VIEW_MONEY, PlatformAction.MANAGE_MONEY, PlatformAction.VIEW_TENANTS,
            PlatformAction.VIEW_USAGE_CHECKS,
        }
    ),
    PlatformRole.AUDITOR: frozenset(each for each in PlatformAction if each.name.startswith("VIEW_")),
}  # fmt: skip

#: What an operator may do who answers for some clusters alone: what can be narrowed to them, and to read the offer.
_OF_SOME_CLUSTERS: Final = frozenset(
    {
        PlatformAction.VIEW_ESTATE, PlatformAction.MANAGE_ESTATE, PlatformAction.VIEW_ENDPOINTS,
        PlatformAction.MANAGE_ENDPOINTS, PlatformAction.VIEW_OFFER,
    }
)  # fmt: skip


def platform_allows(role: str, action: PlatformAction, *, narrowed: bool = False) -> bool:
    """Say whether a person of the platform may do ``action``; ``narrowed``: they answer for some clusters alone."""
    return action in _PLATFORM.get(role, frozenset()) and not (narrowed and action not in _OF_SOME_CLUSTERS)
