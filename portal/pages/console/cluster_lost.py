"""Declaring a cluster lost for good."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from clusters.endpoints.lost import Loss, cluster_loss, cluster_lost
from clusters.models import Cluster
from portal.pages.base import ConsolePage
from portal.pages.console.clusters import clusters_crumb, find_cluster
from tenants.audit import audit
from tenants.roles import PlatformAction


class ClusterLost(ConsolePage):
    """Says what is given up, asks for the name, then gives it up."""

    action = PlatformAction.MANAGE_ESTATE
    reason = "declare a cluster lost"

    def get(self, request: HttpRequest, name: str) -> HttpResponse:
        return self._ask(find_cluster(name))

    def post(self, request: HttpRequest, name: str) -> HttpResponse:
        cluster = find_cluster(name)
        typed = request.POST.get("confirm", "").strip()
        if typed != cluster.name:
            return self._ask(cluster, typed=typed, error="This is not the name of the cluster.", status=422)
        loss = cluster_lost(cluster=cluster, actor=f"operator {request.user.email}")
        audit(request.user, "cluster.lost", cluster=name, **loss.told())
        self.say(f"Cluster {name} is given up; its endpoints are placed elsewhere.")
        return redirect("console:cluster", name)

    def _ask(self, cluster: Cluster, *, typed: str = "", error: str = "", status: int = 200) -> HttpResponse:
        url = reverse("console:cluster", args=[cluster.name])
        context = {
            "breadcrumbs": [clusters_crumb(), {"label": cluster.name, "url": url}, {"label": "Declare lost"}],
            "cluster": cluster,
            "answers": cluster.state != Cluster.State.UNREACHABLE,
            "consequences": _consequences(cluster_loss(cluster)),
            "typed": typed,
            "error": error,
            "cancel_url": url,
        }
        return self.render("console/cluster_lost.html", context, status=status)


def _consequences(loss: Loss) -> list[str]:
    seen = f"{timezone.localtime(loss.ended_at):%Y-%m-%d %H:%M}"
    gateways = ", ".join(loss.gateways)
    return [
        f"The GPU time of {loss.replicas} replicas ends at {seen}, when the cluster was last seen. "
        "Nothing after that is billed, though they may have served.",
        f"{len(loss.endpoint_ids)} endpoints let go of it. Those that are to run are placed on other clusters where "
        "there is room, and do not serve until then; those that are being deleted are gone.",
        f"The gateways there ({gateways}) are forgotten, and with them the usage that they had not shipped."
        if gateways
        else "Berth runs no gateway there.",
        "The cluster stays registered and cordoned. If it ever answers again, Berth deletes the engines that still run "
        "there. Gateways that still run there keep serving from their last snapshot, and can ship nothing: its admin "
        "removes them with kubectl.",
    ]
