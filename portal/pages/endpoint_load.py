"""The load of one endpoint: measured beside ordered, planning anew for it, keeping the order."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from clusters.endpoints.load.measured import endpoint_keep_order, load_of, measured_load, measured_terms
from clusters.endpoints.load.observing import replan_document
from clusters.endpoints.load.replanning import endpoint_replan, order_changes, replan_find
from clusters.endpoints.planning import Market, OrderTerms
from clusters.models import LoadObservation, Wanted
from portal.pages.approvals_shown import told_of
from portal.pages.endpoint import EndpointPage
from portal.pages.load_shown import load_alert, load_rows, replan_text, side_words
from portal.templatetags.berth import money, ms
from tenants.errors import BerthError
from tenants.roles import Action


class Load(EndpointPage):
    """What was measured beside what was ordered, and what follows."""

    tab = "endpoint-load"

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        observation = load_of(self.endpoint)
        context: dict[str, Any] = {"observation": observation}
        if observation is not None:
            context |= {
                "rows": load_rows(
                    self.endpoint, measured_load(observation), {part["name"] for part in observation.drift}
                ),
                "alert": load_alert(self.endpoint, self.tenant.currency, ""),
                "replan": _replan_shown(observation.replan, self.tenant.currency),
                "reasons": observation.correction.get("reasons", []),
                "running": self.endpoint.wanted == Wanted.RUNNING,
            }
        return self.render("tenant/endpoint/load.html", context)


class Replan(EndpointPage):
    """Plan anew for the measured load, once confirmed: before and after."""

    tab = "endpoint-load"
    action = Action.ORDER

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        return self._ask()

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        generation = request.POST.get("generation", "")
        try:
            done = endpoint_replan(
                endpoint=self.endpoint,
                actor=self.actor,
                asked_by=request.user,
                if_generation=int(generation) if generation.isdecimal() else None,
            )
        except BerthError as error:
            return self._ask(error=error)
        self.say(f"{self.endpoint.name} {told_of(done, 'is being brought to its measured load.')}")
        return redirect(self.link("endpoint"))

    def _ask(self, *, error: BerthError | None = None) -> HttpResponse:
        observation = load_of(self.endpoint)
        context: dict[str, Any] = {"observation": observation, "error": error}
        if observation is not None:
            context |= self._comparison(observation)
        return self.render(
            "tenant/endpoint/replan.html", context, status=error.status if error is not None else 200
        )

    def _comparison(self, observation: LoadObservation) -> dict[str, Any]:
        terms = measured_terms(self.endpoint)
        rows = load_rows(
            self.endpoint, measured_load(observation), {part["name"] for part in observation.drift}
        )
        market = Market.read(tenant=self.tenant, besides=self.endpoint)
        try:
            found = replan_find(endpoint=self.endpoint, terms=terms, market=market)
        except BerthError as refused:
            return {"rows": rows, "refused": refused.message}
        document = replan_document(found) | {"computed_at": timezone.now().isoformat()}
        return {
            "rows": rows,
            "order_changes": order_changes(OrderTerms.of(self.endpoint), terms),
            "replan": _replan_shown(document, self.tenant.currency),
            "possible": found.plan.configuration is not None,
        }


class KeepOrder(EndpointPage):
    """Keep what was ordered until the load changes again."""

    http_method_names = ["post"]
    action = Action.ORDER

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        endpoint_keep_order(endpoint=self.endpoint, actor=self.actor)
        self.say(f"{self.endpoint.name} is kept as ordered until its load changes again.")
        return redirect(self.link("endpoint-load"))


def _replan_shown(replan: dict[str, Any] | None, currency: str) -> dict[str, Any] | None:
    if replan is None:
        return None
    now, after = replan.get("now") or {}, replan.get("after") or {}
    return {
        "text": replan_text(replan, currency),
        "in_place": replan.get("in_place", False),
        "changes": replan.get("changes", False),
        "computed_at": dt.datetime.fromisoformat(replan["computed_at"]),
        "now": side_words(now),
        "after": side_words(after),
        "price_now": money(replan.get("price_now"), currency),
        "price_after": money(replan.get("price_after"), currency),
        "times": [
            {"label": label, "now": _time(now, name), "after": _time(after, name)}
            for label, name in (("First token, p95", "ttft_p95_ms"), ("Between tokens, p95", "itl_p95_ms"))
        ],
    }


def _time(side: dict[str, Any], name: str) -> str:
    if side and side.get(name) is None:
        return "does not keep up"
    return ms(side.get(name))
