"""The sidebars of both doors, as data. Names of pages are those in their ``urls`` modules."""

from __future__ import annotations

import dataclasses

from tenants.roles import Action


@dataclasses.dataclass(frozen=True)
class Item:
    """One entry: ``page`` is a URL name of the door; it is current on that page and on those under ``also``.

    ``also`` are prefixes of URL names. Entries of a tenant are shown to roles that may do ``action``.
    """

    label: str
    page: str
    icon: str
    also: tuple[str, ...] = ()
    action: Action = Action.VIEW


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
            Item("Members", "members", "members", also=("member",)),
            Item("Service accounts", "service-accounts", "gpu", also=("service-account",)),
            Item("Settings", "settings", "settings", also=("webhook",)),
        ),
    ),
)

CONSOLE = (
    Group("", (Item("Dashboard", "home", "dashboard"),)),
    Group(
        "Estate",
        (
            Item("Clusters", "clusters", "clusters", also=("cluster", "region", "pool")),
            Item("GPU costs", "asset-rates", "cost", also=("asset-rate",)),
            Item("Gateways", "gateways", "region", also=("gateway",)),
            Item("Endpoints", "endpoints", "endpoints", also=("endpoint",)),
            Item("Advisor", "advisor", "switch", also=("advisor",)),
            Item("What if", "what-if", "search"),
        ),
    ),
    Group(
        "Offer",
        (
            Item("Catalog", "catalog", "catalog", also=("model",)),
            Item("SLO classes", "slo-classes", "slo", also=("slo",)),
            Item("Engine images", "engine-images", "gpu", also=("engine-image",)),
            Item("Engine settings", "engine-settings", "settings", also=("engine-settings",)),
        ),
    ),
    Group(
        "Customers",
        (
            Item("Tenants", "tenants", "tenant", also=("tenant",)),
            Item("Prices", "prices", "price", also=("price",)),
            Item("Statements", "statements", "statement", also=("statement", "account")),
            Item("Reconciliation", "reconciliation", "check"),
        ),
    ),
    Group(
        "Report",
        (
            Item("GPU utilization", "report-utilization", "gpu"),
            Item("Throughput", "report-throughput", "usage"),
            Item("Cost and recovery", "report-costs", "cost"),
            Item("Savings", "report-savings", "ok", also=("saving",)),
            Item("Fragmentation", "report-fragmentation", "project"),
        ),
    ),
)
