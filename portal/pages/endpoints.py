"""The tenant's endpoints: the list, which follows what happens without a reload."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from clusters.endpoints.savings.selectors import SavingRow, savings_of
from clusters.endpoints.selectors import endpoint_list, quota_use
from clusters.endpoints.shared import shared_endpoints
from clusters.models import Endpoint, EndpointState, Revision, Saving
from portal.pages.base import Live, TenantPage
from portal.pages.budgets import alerts_now
from portal.pages.savings_shown import savings_shown
from tenants.models import Project
from tenants.roles import Action

#: States that end by themselves: whoever looks at one wants to see the end of it.
MOVING: Final = frozenset(
    {EndpointState.PROVISIONING, EndpointState.UPDATING, EndpointState.DELETING, EndpointState.DEGRADED}
)
FAST_S: Final = 2
SLOW_S: Final = 10
PER_PAGE: Final = 50


def every_s(*endpoints: Endpoint) -> int:
    """Say how often to look at ``endpoints`` again, in seconds."""
    return FAST_S if any(endpoint.state in MOVING for endpoint in endpoints) else SLOW_S


def revision_price(revision: Revision) -> Decimal:
    """Give what a revision costs per hour at its present replicas, by the price it was planned with.

    It must come of :mod:`clusters.endpoints.selectors`.
    """
    planned = revision.configuration
    return Decimal(planned["price_per_hour"]) / max(1, planned["replicas"]) * revision.replicas


class EndpointsPage(TenantPage):
    """What the list and its live part share."""

    def table(self) -> tuple[Live, dict[str, Any]]:
        """Give the live table of endpoints and what the page around it shows."""
        project, page = self.request.GET.get("project", ""), self.request.GET.get("page", "1")
        rows = endpoint_list().live().defer("model__chat_template").order_by("-created_at")
        if project:
            rows = rows.filter(project__slug=project)
        found = Paginator(rows, PER_PAGE).get_page(page)
        items = [_item(endpoint, self.url("endpoint", endpoint.id)) for endpoint in found]
        query = {name: value for name, value in {"project": project, "page": page}.items() if value}
        context = {
            "items": items,
            "project": project,
            "hourly": sum((item["hourly"] for item in items if item["hourly"]), Decimal(0)),
            "newer_url": self.url("endpoints", project=project, page=found.previous_page_number())
            if found.has_previous()
            else "",
            "older_url": self.url("endpoints", project=project, page=found.next_page_number())
            if found.has_next()
            else "",
            "all_url": self.url("endpoints"),
            "quotas": [quota for quota in quota_use() if ":" not in quota.resource],
        }
        live = self.live(
            "tenant/endpoints/table.html",
            context,
            name="endpoints",
            url=self.url("endpoints-table", **query),
            every_s=every_s(*found),
        )
        return live, context


class Endpoints(EndpointsPage):
    """The list. Without endpoints it leads to the catalog."""

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        table, context = self.table()
        context |= {"table": table, "projects": Project.objects.all(), "shared": shared_endpoints()}
        context["budget_alerts"] = [
            row | {"url": self.url("budget", row["budget"].id)} for row in alerts_now()
        ]
        if self.may(Action.VIEW_COST):
            context["savings"] = savings_shown(savings_of(now=timezone.now()), self._where_to_act)
        return self.render("tenant/endpoints/list.html", context)

    def _where_to_act(self, row: SavingRow) -> list[tuple[str, str]]:
        links = [("Open the endpoint", self.url("endpoint", row.endpoint_id))]
        if not self.may(Action.ORDER):
            return links
        if row.kind == Saving.Kind.IDLE:
            others = (("Scale", "endpoint-scale"), ("Delete", "endpoint-delete"))
            there = [("Open to pause", links[0][1])]
            return there + [(label, self.url(name, row.endpoint_id)) for label, name in others]
        return [("Plan anew", self.url("endpoint-replan", row.endpoint_id)), *links]


class EndpointsTable(EndpointsPage):
    """The live part of the list, for htmx."""

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        return self.live_answer(self.table()[0])


def _item(endpoint: Endpoint, url: str) -> dict[str, Any]:
    revision = next(iter(endpoint.current_revisions), None)
    return {
        "endpoint": endpoint,
        "url": url,
        "revision": revision,
        "hourly": revision_price(revision) if revision else None,
    }
