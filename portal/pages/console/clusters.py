"""Clusters: the list, with how full they are."""

from __future__ import annotations

from typing import Any

from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from clusters.endpoints.selectors import endpoint_list
from clusters.inventory import remit
from clusters.models import Cluster, Endpoint
from portal.pages.base import ConsolePage
from portal.pages.console.dashboard import capacity_rows
from tenants.errors import NotFound
from tenants.roles import PlatformAction


def find_cluster(name: str) -> Cluster:
    """Find a cluster by its name.

    Raises:
        NotFound: there is none.
    """
    cluster = remit.clusters().select_related("region").filter(name=name).first()
    if cluster is None:
        raise NotFound("There is no such cluster.")
    return cluster


def find_endpoints_on(cluster: Cluster) -> QuerySet[Endpoint]:
    """Give the endpoints of which anything is on a cluster, by tenant and name."""
    here = endpoint_list().live().filter(revisions__cluster=cluster, revisions__cleaned_at=None)
    return here.distinct().order_by("tenant__name", "name")


def clusters_crumb() -> dict[str, str]:
    """Give the list's place in the breadcrumbs."""
    return {"label": "Clusters", "url": reverse("console:clusters")}


class Clusters(ConsolePage):
    action = PlatformAction.VIEW_ESTATE
    reason = "list clusters with their GPUs in use"

    def get(self, request: HttpRequest) -> HttpResponse:
        by_cluster: dict[str, list[dict[str, Any]]] = {}
        for row in capacity_rows(remit.pool_capacities()):
            by_cluster.setdefault(row["cluster"].name, []).append(row)
        clusters = [
            {
                "cluster": cluster,
                "pools": (pools := by_cluster.get(cluster.name, [])),
                "total": sum(row["total"] for row in pools),
                "held": sum(row["held"] for row in pools),
                "reserve": sum(row["reserve"] for row in pools),
            }
            for cluster in remit.clusters().select_related("region")
        ]
        context = {
            "clusters": clusters,
            "regions": remit.regions().prefetch_related(
                Prefetch("clusters", queryset=remit.clusters()),
                Prefetch("gateways", queryset=remit.gateways()),
            ),
            "any_declared": any(row["cluster"].declared for row in clusters),
        }
        return self.render("console/clusters.html", context)
