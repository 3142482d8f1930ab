"""The sidebars of both doors, as data. Names of pages are those in their ``urls`` modules."""

from __future__ import annotations

import dataclasses

from django.urls import reverse

from tenants import roles
from tenants.roles import Action, PlatformAction


@dataclasses.dataclass(frozen=True)
class Item:
    """One entry: ``page`` is a URL name of the door; it is current on that page and on those under ``also``.

    Pages under ``beside`` are another entry's all the same.

    ``also`` are prefixes of URL names. Entries are shown to roles that may do ``action``.
    """

    label: str
    page: str
    icon: str
    also: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    action: Action | PlatformAction = Action.VIEW


@dataclasses.dataclass(frozen=True)
class Group:
    """Entries under one heading."""

    label: str
    items: tuple[Item, ...]


TENANT = (
    Group(
        "Serve",
        (
            Item("Endpoints", "endpoints", "endpoints", also=("endpoint",)),
            Item("Catalog", "catalog", "catalog", also=("model", "order")),
            Item("Approvals", "approvals", "check", also=("approval",), beside=("approval-rule",)),
            Item("Routes", "routes", "switch", also=("route",)),
            Item("Keys", "keys", "key", also=("key",)),
        ),
    ),
    Group(
        "Account for",
        (
            Item("Usage and cost", "usage", "usage", also=("usage",), action=Action.VIEW_COST),
            Item("Budgets", "budgets", "cost", also=("budget",)),
            Item("Statements", "statements", "statement", also=("statement",), action=Action.VIEW_COST),
            Item("Commitments", "commitments", "price", also=("commitment",), action=Action.VIEW_COST),
        ),
    ),
    Group(
        "Organise",
        (
            Item("Projects", "projects", "project", also=("project",)),
            Item("Policy", "policy", "audit", also=("policy", "approval-rule")),
            Item("Members", "members", "members", also=("member",)),
            Item("Service accounts", "service-accounts", "gpu", also=("service-account",)),
            Item("Audit", "audit", "audit", also=("audit",), action=Action.VIEW_AUDIT),
            Item("Settings", "settings", "settings", also=("webhook", "sign-in")),
        ),
    ),
)

CONSOLE = (
    Group("", (Item("Dashboard", "home", "dashboard", action=PlatformAction.VIEW_ESTATE),)),
    Group(
        "Estate",
        (
            Item(
                "Clusters",
                "clusters",
                "clusters",
                also=("cluster", "region", "pool"),
                action=PlatformAction.VIEW_ESTATE,
            ),
            Item("GPU costs", "asset-rates", "cost", also=("asset-rate",), action=PlatformAction.VIEW_MONEY),
            Item("Gateways", "gateways", "region", also=("gateway",), action=PlatformAction.VIEW_ESTATE),
            Item(
                "Endpoints",
                "endpoints",
                "endpoints",
                also=("endpoint",),
                action=PlatformAction.VIEW_ENDPOINTS,
            ),
            Item("Advisor", "advisor", "switch", also=("advisor",), action=PlatformAction.VIEW_FLEET),
            Item("What if", "what-if", "search", action=PlatformAction.VIEW_FLEET),
        ),
    ),
    Group(
        "Offer",
        (
            Item("Catalog", "catalog", "catalog", also=("model",), action=PlatformAction.VIEW_OFFER),
            Item("SLO classes", "slo-classes", "slo", also=("slo",), action=PlatformAction.VIEW_OFFER),
            Item(
                "Engine images",
                "engine-images",
                "gpu",
                also=("engine-image",),
                action=PlatformAction.VIEW_OFFER,
            ),
            Item(
                "Engine settings",
                "engine-settings",
                "settings",
                also=("engine-settings",),
                action=PlatformAction.VIEW_OFFER,
            ),
        ),
    ),
    Group(
        "Customers",
        (
            Item("Tenants", "tenants", "tenant", also=("tenant",), action=PlatformAction.VIEW_TENANTS),
            Item("Prices", "prices", "price", also=("price",), action=PlatformAction.VIEW_MONEY),
            Item(
                "Statements",
                "statements",
                "statement",
                also=("statement", "account"),
                action=PlatformAction.VIEW_MONEY,
            ),
            Item(
                "Approvals",
                "approvals",
                "audit",
                also=("approval",),
                action=PlatformAction.MANAGE_ENDPOINTS,
            ),
            Item("Reconciliation", "reconciliation", "check", action=PlatformAction.VIEW_USAGE_CHECKS),
            Item(
                "Sign-in providers", "sign-in", "key", also=("sign-in",), action=PlatformAction.VIEW_TENANTS
            ),
        ),
    ),
    Group(
        "Report",
        (
            Item("GPU utilization", "report-utilization", "gpu", action=PlatformAction.VIEW_ESTATE),
            Item("Throughput", "report-throughput", "usage", action=PlatformAction.VIEW_ESTATE),
            Item("Cost and recovery", "report-costs", "cost", action=PlatformAction.VIEW_MONEY),
            Item("Savings", "report-savings", "ok", also=("saving",), action=PlatformAction.VIEW_ENDPOINTS),
            Item("Fragmentation", "report-fragmentation", "project", action=PlatformAction.VIEW_ESTATE),
        ),
    ),
    Group(
        "Platform",
        (
            Item("People", "people", "members", also=("person",), action=PlatformAction.VIEW_PEOPLE),
            Item("Audit", "audit", "audit", also=("audit",), action=PlatformAction.VIEW_AUDIT),
        ),
    ),
)


def console_url(role: str) -> str:
    """Give the page of the console that a person with this role of the platform begins on."""
    sees_estate = roles.platform_allows(role, PlatformAction.VIEW_ESTATE)
    return reverse("console:home" if sees_estate else "console:statements")
