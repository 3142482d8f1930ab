"""Clusters: the list, and one with its pools, nodes and endpoints."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from clusters.endpoints.selectors import endpoint_list
from clusters.inventory.capacity import PoolCapacity, capacities
from clusters.inventory.selectors import node_uses
from clusters.models import Cluster, NodePool, Region
from portal.pages.base import ConsolePage
from portal.pages.console.dashboard import capacity_rows
from tenants.errors import NotFound

#: So many nodes of a pool are shown, the fullest first; of those that nobody uses, so many.
MOST_NODES = 24
MOST_IDLE_NODES = 4


def find_cluster(name: str) -> Cluster:
    """Find a cluster by its name.

    Raises:
        NotFound: there is none.
    """
    cluster = Cluster.objects.select_related("region").filter(name=name).first()
    if cluster is None:
        raise NotFound("There is no such cluster.")
    return cluster


class Clusters(ConsolePage):
    reason = "list clusters with their GPUs in use"

    def get(self, request: HttpRequest) -> HttpResponse:
        by_cluster: dict[str, list[dict[str, Any]]] = {}
        for row in capacity_rows(capacities()):
            by_cluster.setdefault(row["cluster"].name, []).append(row)
        clusters = [
            {
                "cluster": cluster,
                "pools": (pools := by_cluster.get(cluster.name, [])),
                "total": sum(row["total"] for row in pools),
                "held": sum(row["held"] for row in pools),
                "reserve": sum(row["reserve"] for row in pools),
            }
            for cluster in Cluster.objects.select_related("region")
        ]
        context = {
            "clusters": clusters,
            "regions": Region.objects.prefetch_related("clusters", "gateways"),
            "any_declared": any(row["cluster"].declared for row in clusters),
        }
        return self.render("console/clusters.html", context)


class ClusterDetail(ConsolePage):
    reason = "show a cluster with who holds its GPUs"

    def get(self, request: HttpRequest, name: str) -> HttpResponse:
        cluster = find_cluster(name)
        pools = NodePool.objects.filter(cluster=cluster).values_list("id", flat=True)
        endpoints = (
            endpoint_list().live().filter(revisions__cluster=cluster, revisions__cleaned_at=None).distinct()
        )
        context = {
            "breadcrumbs": [
                {"label": "Clusters", "url": reverse("console:clusters")},
                {"label": cluster.name},
            ],
            "cluster": cluster,
            "facts": _facts(cluster),
            "pools": [
                _pool(capacity) for capacity in sorted(capacities(pool_ids=pools), key=lambda c: c.pool.name)
            ],
            "endpoints": endpoints.order_by("tenant__name", "name"),
        }
        return self.render("console/cluster.html", context)


def _facts(cluster: Cluster) -> list[dict[str, Any]]:
    region = cluster.region
    return [
        {"label": "Region", "value": f"{region.name} ({region.code}, {region.country})"},
        {"label": "Zones", "value": ", ".join(region.zones) or "none"},
        {"label": "Certifications", "value": ", ".join(region.certifications) or "none"},
        {"label": "Driver", "value": cluster.get_driver_display()},
        {"label": "Runtimes", "value": ", ".join(cluster.runtimes) or "none"},
        {"label": "GPUs", "value": "declared by hand" if cluster.declared else "read from the hardware"},
    ]


def _pool(capacity: PoolCapacity) -> dict[str, Any]:
    nodes = sorted(node_uses(capacity), key=lambda node: (-node.held, node.index))
    shown = min(MOST_NODES, sum(node.held > 0 for node in nodes) + MOST_IDLE_NODES)
    others = nodes[shown:]
    return {
        **capacity_rows([capacity])[0],
        "nodes": nodes[:shown],
        "more_nodes": len(others),
        "more_free": sum(node.free for node in others),
    }
