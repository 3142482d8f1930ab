"""Ordering an endpoint: the form, its live quote, and the order itself."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from billing.prices import price_book
from clusters.endpoints.approvals.selectors import order_trips
from clusters.endpoints.budgets import budget_effect
from clusters.endpoints.planning import Market, OrderTerms
from clusters.endpoints.selectors import quota_use
from clusters.endpoints.services import endpoint_order
from clusters.models import EndpointState
from portal.pages.approvals_shown import trips_problem
from portal.pages.base import TenantPage, put_on_form
from portal.pages.order_form import Offered, OrderForm
from portal.pages.order_profile import follow_profile, profile_tiles, starting_values
from portal.pages.places import residency_tiles
from portal.pages.quotes import class_targets, show_plan, token_prices
from portal.templatetags.berth import decimals
from tenants.errors import BerthError, Invalid
from tenants.roles import Action

#: Fields that only say what the form showed: links to it do without.
_OF_THE_FORM = frozenset({"suggested"})


class OrderPage(TenantPage):
    """What the form and its quote share."""

    action = Action.ORDER

    def parts(self, form: OrderForm) -> dict[str, Any]:
        """Give what the form is drawn from: quote, tiles, the suggested name."""
        terms = form.terms()
        project = form.offered.projects.get(form.data.get("project", ""))
        market = Market.read(tenant=self.tenant, project=project)
        quote = self._quote(form, terms, market)
        # A quote that could not be made may have put its complaint on the form.
        residency = form.data.get("residency", "")
        tiles = residency_tiles(form.offered, None if form.errors else terms, residency, market=market)
        faults = repr([(tile["value"], tile["reason"]) for tile in tiles])
        return {
            "form": form,
            "quote": quote,
            "profile_tiles": profile_tiles(form.data.get("profile", "")),
            "class_tiles": _class_tiles(form),
            "residency_tiles": tiles,
            "places_seen": hashlib.blake2s(faults.encode(), digest_size=8).hexdigest(),
            "suggested": form.suggest_name(),
            "quote_url": self.url("order-quote"),
        }

    def _quote(self, form: OrderForm, terms: OrderTerms | None, market: Market) -> dict[str, Any]:
        if terms is None:
            return _unpriceable(form)
        try:
            plan = market.plan(terms)
        except Invalid as error:
            put_on_form(form, error)
            return _unpriceable(form)
        currency = self.tenant.currency
        shown = show_plan(
            plan,
            currency=currency,
            terms=terms,
            tokens=token_prices(
                price_book(currency),
                model=terms.model.name,
                slo_class=terms.slo_class.name,
                currency=currency,
            ),
            quotas=quota_use(),
            budgets=budget_effect(
                plan, terms, project=form.offered.projects.get(form.data.get("project", ""))
            ),
            link=lambda changes: self._link(form, changes),
        )
        approval = trips_problem(order_trips(tenant=self.tenant, terms=terms, plan=plan, market=market))
        return shown | {"compact": True, "approval": approval}  # the button to order stays in sight below it

    def _link(self, form: OrderForm, changes: Mapping[str, Sequence[str]]) -> str:
        """Give the path of the form with everything as it is but what ``changes`` names."""
        values = {name: form.data.getlist(name) for name in form.fields if name not in _OF_THE_FORM}
        kept = {name: each for name, each in (values | dict(changes)).items() if any(each)}
        return f"{self.url('order')}?{urlencode(kept, doseq=True)}"


class Order(OrderPage):
    """The form. Sent with ``intent=quote`` it only shows the price, for browsers without scripts."""

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        offered = Offered.read()
        values = starting_values(offered, request.GET)
        form = OrderForm(values, offered=offered)
        if not values.get("name"):
            values["suggested"] = values["name"] = form.suggest_name()
        return self._show(form)

    def post(self, request: HttpRequest, slug: str) -> HttpResponse:
        offered = Offered.read()
        values, filled = follow_profile(request.POST, offered.models)
        form = OrderForm(values, offered=offered)
        if request.POST.get("intent") == "quote":
            return self._show(form)
        if not form.is_valid():
            return self._show(form, status=422)
        if filled:
            unseen = "The numbers are those of the chosen profile now. Look at the price, then order."
            return self._show(form, error=Invalid(unseen), status=422)
        terms = form.terms()
        project = form.offered.projects[form.cleaned_data["project"]]
        try:
            endpoint = endpoint_order(
                project=project,
                name=form.cleaned_data["name"] or form.suggest_name(),
                terms=terms,
                actor=self.actor,
                created_by=request.user,
                scaling={"enabled": True} if form.cleaned_data["follow_load"] else None,
            )
        except BerthError as error:
            return self._show(form, error=error, status=422)
        waits = endpoint.state == EndpointState.WAITING_FOR_APPROVAL
        self.say(f"{endpoint.name} {'is asked for: it waits for approval.' if waits else 'is ordered.'}")
        return redirect(self.url("endpoint", endpoint.id))

    def _show(self, form: OrderForm, *, error: BerthError | None = None, status: int = 200) -> HttpResponse:
        parts = self.parts(form)
        if error is not None:
            put_on_form(form, error)
        context = {
            **parts,
            "breadcrumbs": [{"label": "Catalog", "url": self.url("catalog")}, {"label": "Order"}],
        }
        return self.render("tenant/order/form.html", context, status=status)


class Quote(OrderPage):
    """The live quote, for htmx: the panel, and those parts of the form that changed with it."""

    def post(self, request: HttpRequest, slug: str) -> HttpResponse:
        offered = Offered.read()
        values, filled = follow_profile(request.POST, offered.models)
        form = OrderForm(values, offered=offered)
        parts = self.parts(form)
        # The form stays as it is under the typist's hands, but for choices that have opened or closed
        # and a name nobody has touched.
        untouched = request.POST.get("name", "") == request.POST.get("suggested", "")
        if untouched and parts["suggested"] != request.POST.get("suggested"):
            values = form.data.copy()
            values["name"] = values["suggested"] = parts["suggested"]
            parts["renamed"] = OrderForm(values, offered=form.offered)
        seen = {
            name: request.POST.get(name, "") for name in ("places_seen", "profile", "model_seen", "caps_seen")
        }
        parts["places_changed"] = parts["places_seen"] != seen["places_seen"]
        parts["filled"] = filled
        parts["profile_left"] = form.data.get("profile", "") != seen["profile"]
        parts["model_changed"] = form.data["model_seen"] != seen["model_seen"]
        parts["caps_changed"] = form.caps_seen != seen["caps_seen"]
        parts["outside"] = any(
            parts[name] for name in ("filled", "profile_left", "model_changed", "caps_changed")
        )
        return self.render("tenant/order/quote.html", parts)


def _unpriceable(form: OrderForm) -> dict[str, Any]:
    faults = [
        f"{form.fields[name].label or name.capitalize()}: {' '.join(texts)}"
        if name in form.fields
        else " ".join(texts)
        for name, texts in form.errors.items()
    ]
    problem = {"title": "Some values are not right", "text": " ".join(faults)}
    return {"headline": "No price yet", "tone": "warn", "problem": problem}


def _class_tiles(form: OrderForm) -> list[dict[str, Any]]:
    return [
        {
            "value": name,
            "label": slo_class.title,
            "text": f"{slo_class.description} {class_targets(slo_class).capitalize()}.",
            "price": f"Price x {decimals(slo_class.price_factor)}",
            "checked": form.data.get("slo_class") == name,
        }
        for name, slo_class in form.offered.classes.items()
    ]
