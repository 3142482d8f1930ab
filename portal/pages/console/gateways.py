"""Gateways: who was heard of when, registering one, renewing its token."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone

from clusters.inventory import services
from clusters.inventory.selectors import is_silent
from clusters.models import Gateway, Region
from portal.pages.base import ConsolePage
from portal.pages.console.forms import ConsoleForm, FormPage, audit
from tenants.errors import NotFound


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
    reason = "list gateways"

    def get(self, request: HttpRequest) -> HttpResponse:
        now = timezone.now()
        context = {
            "gateways": [
                {"gateway": gateway, "state": _state(gateway, now)}
                for gateway in Gateway.objects.select_related("region")
            ]
        }
        return self.render("console/gateways.html", context)


class GatewayRegister(FormPage):
    reason = "register a gateway"
    form_class = GatewayForm
    title = "Register a gateway"
    lede = "It gets a token of its own, with which it pulls what it may serve and ships usage."
    submit_label = "Register gateway"

    def crumbs(self) -> list[dict[str, str]]:
        return [_crumb()]

    def save(self, form: GatewayForm) -> HttpResponse:
        gateway, token = services.gateway_add(**form.cleaned_data)
        audit(self.request.user, "gateway.register", gateway=gateway.name, region=gateway.region.code)
        return _show_token(self, gateway, token, f"Gateway {gateway.name} is registered")


class GatewayToken(ConsolePage):
    """Asks before the old token stops working, then shows the new one once."""

    reason = "renew a gateway's token"

    def get(self, request: HttpRequest, name: str) -> HttpResponse:
        return self._ask(_find(name))

    def post(self, request: HttpRequest, name: str) -> HttpResponse:
        gateway = _find(name)
        typed = request.POST.get("confirm", "").strip()
        if typed != gateway.name:
            return self._ask(gateway, typed=typed, error=f"Type {gateway.name} to confirm.", status=422)
        gateway, token = services.gateway_register(
            name=gateway.name, region=gateway.region, public_url=gateway.public_url
        )
        audit(request.user, "gateway.renew-token", gateway=gateway.name)
        return _show_token(self, gateway, token, f"Gateway {gateway.name} has a new token")

    def _ask(self, gateway: Gateway, *, typed: str = "", error: str = "", status: int = 200) -> HttpResponse:
        context = {
            "breadcrumbs": [_crumb(), {"label": f"Renew token of {gateway.name}"}],
            "gateway": gateway,
            "consequences": [
                "The old token stops working at once.",
                "Until it runs with the new one, the gateway serves from the snapshot it holds and keeps its usage.",
            ],
            "typed": typed,
            "error": error,
            "cancel_url": reverse("console:gateways"),
        }
        return self.render("console/gateway_token.html", context, status=status)


def _show_token(page: ConsolePage, gateway: Gateway, token: str, heading: str) -> HttpResponse:
    context: dict[str, Any] = {
        "breadcrumbs": [_crumb(), {"label": gateway.name}],
        "gateway": gateway,
        "token": token,
        "heading": heading,
        "done_url": reverse("console:gateways"),
    }
    answer = page.render("console/gateway_registered.html", context)
    answer["Cache-Control"] = "no-store"
    return answer


def _find(name: str) -> Gateway:
    gateway = Gateway.objects.select_related("region").filter(name=name).first()
    if gateway is None:
        raise NotFound("There is no such gateway.")
    return gateway


def _crumb() -> dict[str, str]:
    return {"label": "Gateways", "url": reverse("console:gateways")}


def _state(gateway: Gateway, now: Any) -> dict[str, str]:
    if gateway.last_seen_at is None:
        return {"state": "pending", "label": "Never heard of"}
    if is_silent(gateway, now):
        return {"state": "unreachable", "label": "Silent"}
    return {"state": "active", "label": "In contact"}
