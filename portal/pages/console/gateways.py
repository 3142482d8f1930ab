"""Gateways: who was heard of when, registering one, renewing its token."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from clusters.inventory import gateways, remit
from clusters.inventory.selectors import is_silent
from clusters.models import Gateway, Region
from portal.pages.base import ConsolePage
from portal.pages.console.forms import ConsoleForm, FormPage
from tenants.audit import audit
from tenants.errors import NotFound
from tenants.roles import PlatformAction


class GatewayForm(ConsoleForm):
    name = forms.CharField(max_length=40, help_text="Lower-case letters, digits and hyphens.")
    region = forms.ModelChoiceField(
        Region.objects.all(),
        empty_label="Choose a region",
        help_text="Requests pass through it: residency counts.",
    )
    public_url = forms.URLField(
        required=False,
        assume_scheme="https",
        label="Public address",
        help_text="Where clients reach it, for instance https://api.example.org. "
        "Without one, tenants are not shown this gateway.",
    )


class Gateways(ConsolePage):
    action = PlatformAction.VIEW_ESTATE
    reason = "list gateways"

    def get(self, request: HttpRequest) -> HttpResponse:
        context = {
            "gateways": [
                {"gateway": gateway, "state": gateway_state(gateway)}
                for gateway in remit.gateways().select_related("region", "cluster")
            ]
        }
        return self.render("console/gateways.html", context)


class GatewayRegister(FormPage):
    action = PlatformAction.MANAGE_FLEET
    reason = "register a gateway"
    form_class = GatewayForm
    title = "Register a gateway"
    lede = "It gets a token of its own, with which it pulls what it may serve and ships usage."
    submit_label = "Register gateway"

    def crumbs(self) -> list[dict[str, str]]:
        return [gateways_crumb()]

    def save(self, form: GatewayForm) -> HttpResponse:
        gateway, token = gateways.gateway_add(**form.cleaned_data)
        audit(self.request.user, "gateway.register", gateway=gateway.name, region=gateway.region.code)
        return _show_token(self, gateway, token, f"Gateway {gateway.name} is registered")


class GatewayToken(ConsolePage):
    """Asks before the old token stops working, then shows the new one once."""

    action = PlatformAction.MANAGE_ESTATE
    reason = "renew a gateway's token"

    def get(self, request: HttpRequest, name: str) -> HttpResponse:
        return self._ask(find_gateway(name))

    def post(self, request: HttpRequest, name: str) -> HttpResponse:
        gateway = find_gateway(name)
        typed = request.POST.get("confirm", "").strip()
        if typed != gateway.name:
            return self._ask(gateway, typed=typed, error=f"Type {gateway.name} to confirm.", status=422)
        audit(request.user, "gateway.renew-token", gateway=gateway.name)
        if gateway.cluster_id:
            gateways.gateway_token_rotate(gateway=gateway)
            self.say(f"Gateway {gateway.name} has a new token; its pods restart with it one by one.")
            return redirect("console:gateway", gateway.name)
        gateway, token = gateways.gateway_register(
            name=gateway.name, region=gateway.region, public_url=gateway.public_url
        )
        return _show_token(self, gateway, token, f"Gateway {gateway.name} has a new token")

    def _ask(self, gateway: Gateway, *, typed: str = "", error: str = "", status: int = 200) -> HttpResponse:
        context = {
            "breadcrumbs": [gateways_crumb(), {"label": f"Renew token of {gateway.name}"}],
            "gateway": gateway,
            "consequences": [
                "The old token stops working at once.",
                "Until it runs with the new one, the gateway serves from the snapshot it holds and keeps its usage.",
            ],
            "typed": typed,
            "error": error,
            "cancel_url": reverse("console:gateway", args=[gateway.name]),
        }
        return self.render("console/gateway_token.html", context, status=status)


def _show_token(page: ConsolePage, gateway: Gateway, token: str, heading: str) -> HttpResponse:
    context: dict[str, Any] = {
        "breadcrumbs": [gateways_crumb(), {"label": gateway.name}],
        "gateway": gateway,
        "token": token,
        "heading": heading,
        "done_url": reverse("console:gateways"),
    }
    answer = page.render("console/gateway_registered.html", context)
    answer["Cache-Control"] = "no-store"
    return answer


def find_gateway(name: str) -> Gateway:
    """Find a gateway by its name.

    Raises:
        NotFound: there is none.
    """
    gateway = remit.gateways().select_related("region", "cluster").filter(name=name).first()
    if gateway is None:
        raise NotFound("There is no such gateway.")
    return gateway


def gateways_crumb() -> dict[str, str]:
    """Give the list's place in the breadcrumbs."""
    return {"label": "Gateways", "url": reverse("console:gateways")}


def gateway_state(gateway: Gateway) -> dict[str, str]:
    """Give how a gateway stands as a badge: of its pods where Berth runs them, then of its contact."""
    kinds = Gateway.State
    deployed = {
        kinds.DEPLOYING: "provisioning",
        kinds.FAILED: "failed",
        kinds.UNREACHABLE: "unreachable",
        kinds.REMOVING: "deleting",
    }
    if gateway.state in deployed:
        return {"state": deployed[kinds(gateway.state)], "label": gateway.get_state_display()}
    if gateway.last_seen_at is None:
        return {"state": "pending", "label": "Never heard of"}
    if is_silent(gateway, timezone.now()):
        return {"state": "unreachable", "label": "Silent"}
    return {"state": "active", "label": "In contact"}
