"""The catalog: which models can be ordered, from what price on, and why some cannot run here."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse

from billing.prices import price_book
from clusters.endpoints.planning import Market
from clusters.models import CatalogModel, Endpoint, ModelSecret, SloClass
from clusters.planning.plans import Plan, PlanStatus, Reason
from portal.pages.base import TenantPage
from portal.pages.order_form import smallest_terms
from portal.pages.quotes import class_targets, token_prices
from portal.templatetags.berth import count, sentence, short

#: Plans that no waiting brings about.
_NEVER = (PlanStatus.IMPOSSIBLE, PlanStatus.POLICY)


class Catalog(TenantPage):
    """All models as cards, those that can run here first."""

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        classes = list(SloClass.objects.order_by("price_factor"))
        market = Market.read(tenant=self.tenant)
        cards = [self._card(model, classes, market) for model in CatalogModel.objects.filter(published=True)]
        cards.sort(key=lambda card: not card["possible"])
        return self.render("tenant/catalog/list.html", {"cards": cards})

    def _card(self, model: CatalogModel, classes: list[SloClass], market: Market) -> dict[str, Any]:
        # The first that can be had is the cheapest: classes differ in price by their factor alone.
        plans = (market.plan(smallest_terms(model, slo_class)) for slo_class in classes)
        tried: list[Plan] = []
        for plan in plans:
            tried.append(plan)
            if plan.status not in _NEVER:
                break
        plan = tried[-1] if tried else None
        return {
            "model": model,
            "url": self.url("model", model.name),
            "order_url": self.url("order", model=model.name),
            "possible": plan is not None and plan.status not in _NEVER,
            "price": plan.configuration.price_per_hour if plan and plan.configuration else None,
            "reason": _reason(plan),
            "size": _size(model),
            "where": ", ".join(model.allowed_zones) or "anywhere",
        }


class Model(TenantPage):
    """One model: its numbers, and what each class takes."""

    def get(self, request: HttpRequest, slug: str, name: str) -> HttpResponse:
        model = CatalogModel.objects.select_related("derived_from").filter(name=name, published=True).first()
        if model is None:
            raise Http404
        book, currency = price_book(self.tenant.currency), self.tenant.currency
        market = Market.read(tenant=self.tenant)
        offers = [
            {
                "slo_class": slo_class,
                "targets": class_targets(slo_class),
                "plan": plan,
                "possible": plan.status not in _NEVER,
                "price": plan.configuration.price_per_hour if plan.configuration else None,
                "reason": _reason(plan),
                "tokens": token_prices(book, model=model.name, slo_class=slo_class.name, currency=currency),
                "order_url": self.url("order", model=model.name, slo_class=slo_class.name),
            }
            for slo_class in SloClass.objects.all()
            for plan in [market.plan(smallest_terms(model, slo_class))]
        ]
        context = {
            "model": model,
            "facts": _facts(model),
            "notes": [
                {"precision": name, **told}
                for name, told in model.precision_notes.items()
                if name in model.precisions
            ],
            "offers": offers,
            "possible": any(offer["possible"] for offer in offers),
            "endpoints": [
                {"name": endpoint.name, "url": self.url("endpoint", endpoint.id), "endpoint": endpoint}
                for endpoint in Endpoint.objects.live().filter(model=model)
            ],
            "needs_secret": model.weights_kind != CatalogModel.WeightsKind.BUILT_IN,
            "own_secret": ModelSecret.objects.filter(model=model).exists(),
            "breadcrumbs": [{"label": "Catalog", "url": self.url("catalog")}, {"label": model.title}],
            "order_url": self.url("order", model=model.name),
        }
        return self.render("tenant/catalog/model.html", context)


def _reason(plan: Plan | None) -> str:
    """Give why it cannot be had now, by the pool that came furthest; empty if it can."""
    if plan is None:
        return "No service class is defined yet."
    if plan.status == PlanStatus.PLACED:
        return ""
    stages = list(Reason)
    refusals = sorted(plan.headlines(), key=lambda refusal: stages.index(refusal.reason), reverse=True)
    if not refusals:
        return sentence(plan.message)
    others = sum(refusal.reason == refusals[0].reason for refusal in refusals) - 1
    likewise = f"; likewise in {others} other pool{'' if others == 1 else 's'}" if others else ""
    return sentence(f"{refusals[0].message}{likewise}")


def _size(model: CatalogModel) -> str:
    total, active = (model.architecture.get(name) for name in ("parameters", "active_parameters"))
    if total is None:
        return ""
    return f"{short(total)} parameters" + (f", {short(active)} at work" if active and active != total else "")


def _facts(model: CatalogModel) -> list[dict[str, Any]]:
    facts = [
        {"label": "Name", "value": model.name, "code": True},
        {"label": "Licence", "value": model.licence},
        {"label": "Context", "value": f"{count(model.context_tokens)} tokens"},
        {"label": "Size", "value": _size(model)},
        {"label": "May run", "value": ", ".join(model.allowed_zones) or "anywhere"},
        {"label": "Precisions", "value": ", ".join(model.precisions)},
        {"label": "Runtimes", "value": ", ".join(model.runtimes)},
    ]
    if model.derived_from:
        facts.append({"label": "Variant of", "value": model.derived_from.title})
    return facts
