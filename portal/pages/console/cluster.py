"""One cluster: how it is reached and set, its pools and nodes, who holds its GPUs, what is wrong there."""

from __future__ import annotations

from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from clusters.inventory.capacity import PoolCapacity, capacities
from clusters.inventory.selectors import NodeUse, node_uses
from clusters.models import Cluster, Node, NodePool
from portal.pages.base import ConsolePage
from portal.pages.console.attention import credentials_end
from portal.pages.console.clusters import clusters_crumb, find_cluster, find_endpoints_on
from portal.pages.console.dashboard import capacity_rows
from portal.templatetags.berth import since
from tenants.roles import PlatformAction

#: So many nodes of a pool are shown, those in trouble and the fullest first; of those that nobody uses, so many.
MOST_NODES: Final = 24
MOST_IDLE_NODES: Final = 4


class ClusterDetail(ConsolePage):
    action = PlatformAction.VIEW_ESTATE
    reason = "show a cluster with who holds its GPUs"

    def get(self, request: HttpRequest, name: str) -> HttpResponse:
        cluster = find_cluster(name)
        pools = NodePool.objects.filter(cluster=cluster).values_list("id", flat=True)
        shown = [
            _pool(capacity) for capacity in sorted(capacities(pool_ids=pools), key=lambda c: c.pool.name)
        ]
        kubernetes = cluster.driver == Cluster.DriverKind.KUBERNETES
        context = {
            "breadcrumbs": [clusters_crumb(), {"label": cluster.name}],
            "cluster": cluster,
            "kubernetes": kubernetes,
            "removed": kubernetes and not cluster.credentials,
            "discovers": kubernetes and not cluster.namespaces,
            "cordoned": cordoned_because(cluster),
            "facts": _facts(cluster),
            "connection": _connection(cluster) if kubernetes else [],
            "expiry": credentials_end(cluster, timezone.now()),
            "settings": _settings(cluster) if kubernetes else [],
            "pools": shown,
            "endpoints": find_endpoints_on(cluster),
        }
        return self.render("console/cluster.html", context)


def cordoned_because(cluster: Cluster) -> str:
    """Give why operators place nothing on a cluster, whether or not it answers; empty where they may."""
    cordoned = cluster.state == Cluster.State.CORDONED
    return cluster.cordon_reason or (cluster.state_reason or "No reason was given." if cordoned else "")


def _facts(cluster: Cluster) -> list[dict[str, Any]]:
    region = cluster.region
    facts = [
        {"label": "Region", "value": f"{region.name} ({region.code}, {region.country})"},
        {"label": "Zones", "value": ", ".join(region.zones) or "none"},
        {"label": "Certifications", "value": ", ".join(region.certifications) or "none"},
        {"label": "Driver", "value": cluster.get_driver_display()},
    ]
    if cluster.driver != Cluster.DriverKind.KUBERNETES:
        facts += [
            {"label": "Runtimes", "value": ", ".join(cluster.runtimes) or "none"},
            {"label": "GPUs", "value": "declared by hand" if cluster.declared else "read from the hardware"},
        ]
    return facts


def _connection(cluster: Cluster) -> list[dict[str, Any]]:
    ends = cluster.credentials_expire_at
    return [
        {"label": "API server", "value": cluster.server or "none", "code": bool(cluster.server)},
        {"label": "Kubernetes", "value": cluster.version or "not read yet"},
        {
            "label": "Berth is known as",
            "value": cluster.credentials_name or "not read yet",
            "code": bool(cluster.credentials_name),
        },
        {
            "label": "Credentials expire",
            "value": f"{timezone.localtime(ends):%Y-%m-%d %H:%M}" if ends else "not known, or never",
        },
        {
            "label": "Inventory read",
            "value": f"{since(cluster.read_at)} ago" if cluster.read_at else "not yet",
        },
        {"label": "Rotated", "value": f"{max(0, cluster.credentials_version - 1)} times"},
        {"label": "It also offers", "value": ", ".join(cluster.features) or "nothing more that Berth uses"},
    ]


def _settings(cluster: Cluster) -> list[dict[str, Any]]:
    return [
        {"label": "Runtimes", "value": ", ".join(cluster.runtimes) or "none"},
        {
            "label": "Works in",
            "value": ", ".join(cluster.namespaces) or "namespaces of its own, one per project",
        },
        {"label": "Drift", "value": cluster.get_drift_display()},
        {"label": "Replicas decided by", "value": cluster.get_autoscaler_display()},
        {"label": "Storage class", "value": cluster.storage_class or "the cluster's default"},
        {"label": "Its volumes are for", "value": cluster.get_storage_access_mode_display().lower()},
        {"label": "Pull secret", "value": cluster.pull_secret or "none"},
        {"label": "Prometheus in", "value": cluster.prometheus_namespace or "nowhere: metrics are closed"},
        {"label": "Prometheus address", "value": cluster.prometheus_url or "none"},
        {"label": "Gateways in", "value": cluster.gateway_namespace},
        {"label": "Kueue queue", "value": cluster.kueue_queue or "none"},
        {"label": "Weights come from", "value": ", ".join(cluster.loader_cidrs) or "the public internet"},
        {"label": "GPUs asked for by", "value": "resource claims" if cluster.dra else "the device plugin"},
        {"label": "Taints borne", "value": ", ".join(["nvidia.com/gpu", *cluster.tolerate])},
    ]


def _pool(capacity: PoolCapacity) -> dict[str, Any]:
    members = {node.index: node for node in capacity.nodes}
    nodes = [_node(use, members.get(use.index)) for use in node_uses(capacity)]
    nodes.sort(key=lambda node: (not node["trouble"], -node["held"], node["index"]))
    shown = min(MOST_NODES, sum(node["held"] > 0 or node["trouble"] for node in nodes) + MOST_IDLE_NODES)
    others = nodes[shown:]
    return {
        **capacity_rows([capacity])[0],
        "known": capacity.pool.discovered,
        "foreign": capacity.foreign,
        "faulty": capacity.faulty,
        "nodes": nodes[:shown],
        "more_nodes": len(others),
        "more_free": sum(node["free"] for node in others),
    }


def _node(use: NodeUse, node: Node | None) -> dict[str, Any]:
    state, label = _node_state(node)
    return {
        **{name: getattr(use, name) for name in ("index", "total", "held", "reserve", "free", "holders")},
        "name": use.name or f"Node {use.index}",
        "foreign": use.foreign,
        "faulty": use.faulty,
        "driver": use.driver_version,
        "fault": use.fault,
        "since": node and (node.gone_at or node.fault_since),
        "state": state,
        "label": label,
        "trouble": state not in ("active", ""),
    }


def _node_state(node: Node | None) -> tuple[str, str]:
    if node is None:
        return "", ""
    if node.gone_at:
        return "gone", "Gone"
    if node.fault:
        return "failed", "Faulty"
    return ("active", "Healthy") if node.schedulable else ("cordoned", "Cordoned")
