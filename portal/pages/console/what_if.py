"""What if prices changed, or GPUs were delivered: over the endpoints of all tenants."""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from clusters.endpoints.what_if.fleet import FleetWhatIf, Placed, fleet_what_if
from portal.pages.base import ConsolePage, put_on_form
from portal.pages.what_if_form import WhatIfForm
from portal.pages.what_if_shown import difference_words
from portal.templatetags.berth import money
from tenants.errors import BerthError
from tenants.roles import PlatformAction


class FleetWhatIfForm(WhatIfForm):
    """Changes of prices and GPUs, for all tenants."""

    groups: ClassVar = (
        ("Prices", "Endpoints as they run now, at other prices.", ("price_percent", "prices_at")),
        (
            "A delivery of GPUs",
            "Those who wait longest are placed first; then endpoints that would be cheaper there.",
            ("cluster", "gpu_type", "nodes"),
        ),
    )


class WhatIf(ConsolePage):
    """Asks and answers; nothing is changed."""

    action = PlatformAction.VIEW_FLEET
    reason = "compare all endpoints with what they would be"

    def get(self, request: HttpRequest) -> HttpResponse:
        return self._show(FleetWhatIfForm())

    def post(self, request: HttpRequest) -> HttpResponse:
        form = FleetWhatIfForm(request.POST)
        if form.is_valid():
            try:
                changes = form.changes()
                found = fleet_what_if(changes=changes)
            except BerthError as error:
                put_on_form(form, error)
            else:
                return self._show(form, _shown(found) | {"delivery": changes.added is not None})
        return self._show(form, status=422)

    def _show(
        self, form: FleetWhatIfForm, found: dict[str, Any] | None = None, *, status: int = 200
    ) -> HttpResponse:
        context = {"form": form, "found": found, "currency": settings.CURRENCY}
        return self.render("console/what_if.html", context, status=status)


def _shown(found: FleetWhatIf) -> dict[str, Any]:
    currency = settings.CURRENCY
    return {
        "headline": f"All endpoints together: what they hold {difference_words(found.difference, currency)}.",
        "saving": found.cheaper and money(found.saving, currency),
        "tenants": [
            {
                "name": each.tenant.name,
                "url": reverse("console:tenant", args=[each.tenant.slug]),
                "endpoints": each.endpoints,
                "now": money(each.price_now, each.tenant.currency),
                "after": money(each.price_after, each.tenant.currency),
                "difference": money(each.difference, each.tenant.currency),
            }
            for each in found.tenants
        ],
        "placeable": [_placed(each) for each in found.placeable],
        "cheaper": [_placed(each) for each in found.cheaper],
        "still_waiting": found.still_waiting,
        "not_planned": found.not_planned,
    }


def _placed(placed: Placed) -> dict[str, Any]:
    endpoint, chosen = placed.endpoint, placed.configuration
    return {
        "name": endpoint.name,
        "url": reverse("console:endpoint", args=[endpoint.id]),
        "tenant": endpoint.tenant.name,
        "runs": f"{chosen.replicas} x {chosen.gpus_per_replica} {chosen.gpu} in {chosen.pool}",
        "price": money(chosen.price_per_hour, endpoint.tenant.currency),
        "saves": money(placed.saves_per_hour, endpoint.tenant.currency),
    }
