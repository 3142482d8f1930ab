"""Ordering an endpoint: the form, its live quote, and the order itself."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect

from billing.prices import price_book
from clusters.endpoints.planning import Market, OrderTerms
from clusters.endpoints.selectors import quota_use
from clusters.endpoints.services import endpoint_order
from clusters.planning.plans import Alternative, Relaxation
from portal.pages.base import TenantPage, put_on_form
from portal.pages.order_form import Offered, OrderForm, starting_values
from portal.pages.places import residency_tiles
from portal.pages.quotes import class_targets, show_plan, token_prices
from portal.templatetags.berth import decimals
from tenants.errors import BerthError, Invalid
from tenants.roles import Action

_FIELDS_OF_LINKS = (
    "model", "project", "slo_class", "residency", "certifications", "requests_per_second", "input_tokens",
    "output_tokens", "context_tokens", "replicas", "name",
)  # fmt: skip


class OrderPage(TenantPage):
    """What the form and its quote share."""

    action = Action.ORDER

    def parts(self, form: OrderForm) -> dict[str, Any]:
        """Give what the form is drawn from: quote, tiles, the suggested name."""
        terms = form.terms()
        market = Market.read(tenant=self.tenant)
        quote = self._quote(form, terms, market)
        # A quote that could not be made may have put its complaint on the form.
        residency = form.data.get("residency", "")
        tiles = residency_tiles(form.offered, None if form.errors else terms, residency, market=market)
        faults = repr([(tile["value"], tile["reason"]) for tile in tiles])
        return {
            "form": form,
            "quote": quote,
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
            url_of=lambda option: self._link(form.data, option),
        )
        return shown | {"compact": True}  # the button to order stays in sight below it

    def _link(self, data: QueryDict, option: Alternative) -> str:
        """Give the path of the form with everything as it is but the demand that the alternative gives up."""
        changed: dict[str, list[str]] = {
            Relaxation.RESIDENCY: {"residency": [option.value]},
            Relaxation.SLO_CLASS: {"slo_class": [option.value]},
            Relaxation.CERTIFICATIONS: {"certifications": []},
        }.get(option.relaxation, {})
        if not changed:
            return ""
        values = {name: data.getlist(name) for name in _FIELDS_OF_LINKS} | changed
        kept = {name: each for name, each in values.items() if any(each)}
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
        form = OrderForm(request.POST, offered=Offered.read())
        if request.POST.get("intent") == "quote" or not form.is_valid():
            return self._show(form, status=200 if request.POST.get("intent") == "quote" else 422)
        terms = form.terms()
        project = form.offered.projects[form.cleaned_data["project"]]
        try:
            endpoint = endpoint_order(
                project=project,
                name=form.cleaned_data["name"] or form.suggest_name(),
                terms=terms,
                actor=self.actor,
                created_by=request.user,
            )
        except BerthError as error:
            return self._show(form, error=error, status=422)
        self.say(f"{endpoint.name} is ordered.")
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
        form = OrderForm(request.POST, offered=Offered.read())
        parts = self.parts(form)
        # The form stays as it is under the typist's hands, but for choices that have opened or closed
        # and a name nobody has touched.
        untouched = request.POST.get("name", "") == request.POST.get("suggested", "")
        if untouched and parts["suggested"] != request.POST.get("suggested"):
            values = request.POST.copy()
            values["name"] = values["suggested"] = parts["suggested"]
            parts["renamed"] = OrderForm(values, offered=form.offered)
        parts["places_changed"] = parts["places_seen"] != request.POST.get("places_seen")
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
