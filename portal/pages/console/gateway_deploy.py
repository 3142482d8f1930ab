"""Gateways that Berth runs in a cluster: deploying, how one stands, changing, removing."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from clusters.inventory import gateways, images, remit
from clusters.models import Cluster, Gateway
from portal.pages.base import ConsolePage
from portal.pages.console.forms import ConsoleForm, FormPage
from portal.pages.console.gateways import find_gateway, gateway_state, gateways_crumb
from portal.pages.console.reconciliation import gateway_usage
from tenants.audit import audit
from tenants.roles import PlatformAction

MOST_REPLICAS = 64


class DeployForm(ConsoleForm):
    name = forms.CharField(max_length=40, help_text="Lower-case letters, digits and hyphens.")
    cluster = forms.ModelChoiceField(
        Cluster.objects.none(),
        empty_label="Choose a cluster",
        help_text="It serves the cluster's region: residency counts.",
    )
    replicas = forms.IntegerField(
        min_value=1, max_value=MOST_REPLICAS, initial=2,
        help_text="Two or more go on serving while one is replaced.",
    )  # fmt: skip
    storage_gib = forms.IntegerField(
        min_value=1, max_value=1000, initial=10, label="Storage of each (GiB)",
        help_text="Holds its usage until it is shipped, and the last snapshot.",
    )  # fmt: skip
    public_url = forms.URLField(
        required=False, assume_scheme="https", label="Public address",
        help_text="Where clients reach it, by the cluster's ingress or load balancer. "
        "Without one, tenants are not shown this gateway.",
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["cluster"].queryset = _hosts()


class ChangeForm(ConsoleForm):
    replicas = forms.IntegerField(min_value=1, max_value=MOST_REPLICAS)
    public_url = forms.URLField(required=False, assume_scheme="https", label="Public address")


class GatewayDeploy(FormPage):
    action = PlatformAction.MANAGE_ESTATE
    reason = "deploy a gateway in a cluster"
    form_class = DeployForm
    title = "Deploy a gateway"
    lede = "Berth runs it in the cluster, gives it a token of its own and keeps it there."
    submit_label = "Deploy gateway"

    def crumbs(self) -> list[dict[str, str]]:
        return [gateways_crumb()]

    def more_context(self) -> dict[str, Any]:
        if not _hosts().exists():
            return _alert(
                "There is no Kubernetes cluster yet",
                "A gateway that somebody else runs needs none: register it instead.",
                self._way("cluster-register", PlatformAction.MANAGE_FLEET), "Register a cluster",
            )  # fmt: skip
        if gateways.IMAGE_USE in images.unpinned():
            return _alert(
                "The gateway's image is not pinned",
                "Build it from deploy/gateway, push it to a registry that the cluster reaches, and enter its digest.",
                self._way("engine-image", PlatformAction.MANAGE_OFFER, gateways.IMAGE_USE), "Pin the image",
            )  # fmt: skip
        return {}

    def _way(self, page: str, action: PlatformAction, *args: str) -> str:
        return reverse(f"console:{page}", args=args) if self.operator.may(action) else ""

    def save(self, form: DeployForm) -> HttpResponse:
        values = form.cleaned_data
        gateway = gateways.gateway_deploy(region=values["cluster"].region, **values)
        audit(
            self.request.user, "gateway.deploy", gateway=gateway.name, cluster=values["cluster"].name,
            replicas=gateway.replicas,
        )  # fmt: skip
        self.say(f"Gateway {gateway.name} is being deployed on {values['cluster'].name}.")
        return redirect("console:gateway", gateway.name)


class GatewayDetail(ConsolePage):
    action = PlatformAction.VIEW_ESTATE
    reason = "show a gateway"

    def get(self, request: HttpRequest, name: str) -> HttpResponse:
        gateway = find_gateway(name)
        context = {
            "breadcrumbs": [gateways_crumb(), {"label": gateway.name}],
            "gateway": gateway,
            "state": gateway_state(gateway),
            "facts": _facts(gateway),
            "removing": gateway.state == Gateway.State.REMOVING,
            **gateway_usage(gateway, checked=self.operator.may(PlatformAction.VIEW_USAGE_CHECKS)),
        }
        return self.render("console/gateway.html", context)


class GatewayChange(FormPage):
    action = PlatformAction.MANAGE_ESTATE
    reason = "change a gateway"
    form_class = ChangeForm
    title = "Change gateway"
    submit_label = "Save gateway"

    def heading(self) -> str:
        return f"Change {self.kwargs['name']}"

    def crumbs(self) -> list[dict[str, str]]:
        gateway = find_gateway(self.kwargs["name"])
        return [
            gateways_crumb(),
            {"label": gateway.name, "url": reverse("console:gateway", args=[gateway.name])},
        ]

    def initial(self) -> dict[str, Any]:
        gateway = find_gateway(self.kwargs["name"])
        return {"replicas": gateway.replicas, "public_url": gateway.public_url}

    def save(self, form: ChangeForm) -> HttpResponse:
        gateway = find_gateway(self.kwargs["name"])
        wishes = {name: form.cleaned_data[name] for name in form.changed_data}
        gateways.gateway_change(gateway=gateway, **wishes)
        audit(self.request.user, "gateway.change", gateway=gateway.name, **wishes)
        self.say(f"Gateway {gateway.name} is saved.")
        return redirect("console:gateway", gateway.name)


class GatewayRemove(ConsolePage):
    """Asks for the name, then takes the gateway away."""

    action = PlatformAction.MANAGE_ESTATE
    reason = "remove a gateway"

    def get(self, request: HttpRequest, name: str) -> HttpResponse:
        return self._ask(find_gateway(name))

    def post(self, request: HttpRequest, name: str) -> HttpResponse:
        gateway = find_gateway(name)
        typed = request.POST.get("confirm", "").strip()
        if typed != gateway.name:
            return self._ask(gateway, typed=typed, error="This is not the name of the gateway.", status=422)
        accepted = "usage_is_lost" in request.POST
        if gateways.may_lose_usage(gateway, timezone.now()) and not accepted:
            return self._ask(gateway, typed=typed, unconfirmed=True, status=422)
        gateways.gateway_remove(gateway=gateway, usage_is_lost=accepted)
        audit(request.user, "gateway.remove", gateway=name)
        self.say(f"Gateway {name} is being removed." if gateway.cluster_id else f"Gateway {name} is removed.")
        return redirect("console:gateways")

    def _ask(
        self,
        gateway: Gateway,
        *,
        typed: str = "",
        error: str = "",
        unconfirmed: bool = False,
        status: int = 200,
    ) -> HttpResponse:
        url = reverse("console:gateway", args=[gateway.name])
        there = (
            "It is drained first: open streams end and its usage is shipped. Then its pods go, and with them their "
            "volumes, which hold its usage log and last snapshot."
            if gateway.cluster_id
            else "Its token stops working at once. Usage that it has not shipped stays on its disk."
        )
        context = {
            "breadcrumbs": [gateways_crumb(), {"label": gateway.name, "url": url}, {"label": "Remove"}],
            "gateway": gateway,
            "consequences": [
                there,
                f"Clients that call {gateway.public_url} get no answer any more."
                if gateway.public_url
                else "Tenants were not shown this gateway.",
            ],
            "typed": typed,
            "error": error,
            "confirm_too": {
                "name": "usage_is_lost",
                "label": "Usage that it has not shipped is lost",
                "help": "It has not been heard of for more than 2 minutes, so nobody knows how much that is. "
                "It cannot be billed afterwards.",
                "error": "Confirm that, or mend its way to the control plane first." if unconfirmed else "",
            }
            if gateways.may_lose_usage(gateway, timezone.now())
            else None,
            "cancel_url": url,
        }
        return self.render("console/gateway_remove.html", context, status=status)


def _hosts() -> QuerySet[Cluster]:
    return remit.clusters().filter(driver=Cluster.DriverKind.KUBERNETES, credentials__isnull=False)


def _alert(title: str, text: str, url: str, label: str) -> dict[str, Any]:
    return {"alert": {"tone": "info", "title": title, "text": text, "url": url, "label": label}}


def _facts(gateway: Gateway) -> list[dict[str, Any]]:
    region = gateway.region
    facts: list[dict[str, Any]] = [
        {"label": "Region", "value": f"{region.name} ({region.code}, {region.country})"},
        {
            "label": "Public address",
            "value": gateway.public_url or "none: tenants are not shown it",
            "code": bool(gateway.public_url),
        },
    ]
    if gateway.cluster:
        facts += [
            {
                "label": "Cluster",
                "value": gateway.cluster.name,
                "url": reverse("console:cluster", args=[gateway.cluster.name]),
            },
            {"label": "Namespace", "value": gateway.cluster.gateway_namespace, "code": True},
            {"label": "Ready", "value": f"{gateway.ready_replicas} of {gateway.replicas} replicas"},
            {"label": "Storage", "value": f"{gateway.storage_gib} GiB each"},
        ]
    else:
        facts.append({"label": "Run by", "value": "others: Berth only admits it by its token"})
    return facts
