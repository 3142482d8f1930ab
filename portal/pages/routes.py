"""Named routes: the list, and one with its rules, its targets, their share of the traffic, and what it saves."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from billing.prices import price_book
from billing.routes import RouteCosts, RouteTargetCost, route_costs
from clusters.endpoints.pricing import token_prices
from clusters.endpoints.routes import matches_everything, rule_warnings, rules_of, target_ids
from clusters.endpoints.selectors import endpoint_urls, gateway_list
from clusters.models import Endpoint, Gateway, NamedRoute, SloClass
from gateway.contract import RouteRule, TokenPrices
from portal.pages.base import TenantPage
from portal.pages.filters import Address
from portal.pages.ranges import range_control, span_of
from portal.pages.routes_edit import find_route
from portal.templatetags.berth import count, percent
from tenants.models import ApiKey
from tenants.roles import Action


@dataclasses.dataclass(kw_only=True)
class Target:
    """An endpoint that a route leads to, as a row of its page. ``served`` says at which gateways callers reach it."""

    name: str
    endpoint: Endpoint | None = None
    url: str = ""
    prices: TokenPrices | None = None
    served: str = ""
    everywhere: bool = False
    nowhere: bool = False
    cost: RouteTargetCost | None = None
    dearest: bool = False


class Routes(TenantPage):
    """All routes by name."""

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        routes = list(NamedRoute.objects.select_related("project").order_by("name"))
        names = dict(Endpoint.objects.live().values_list("id", "name"))
        rows = [
            {
                "route": route,
                "url": self.url("route", route.id),
                "rules": len(route.rules),
                "targets": [names.get(each, "gone") for each in target_ids(route)],
                "warnings": rule_warnings(rules_of(route)),
            }
            for route in routes
        ]
        return self.render("tenant/routes/list.html", {"rows": rows})


class RouteDetail(TenantPage):
    """One route over a span of days."""

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        route = find_route(id)
        rules, named = rules_of(route), target_ids(route)
        span = span_of(request.GET, timezone.now(), self.tenant.time_zone)
        costs = None
        if self.may(Action.VIEW_COST):
            costs = route_costs(route_id=route.id, targets=named, start=span.start, end=span.end)
        rows = Endpoint.objects.live().filter(id__in=named).select_related("tenant", "model", "slo_class")
        endpoints = {endpoint.id: endpoint for endpoint in rows}
        context = {
            "route": route,
            "breadcrumbs": [{"label": "Routes", "url": self.url("routes")}, {"label": route.name}],
            "rules": _rules_shown(rules, endpoints),
            "warnings": rule_warnings(rules),
            "targets": self._targets(named, endpoints, costs),
            "costs": costs,
            "span": span,
            "range": range_control(span, Address(path=self.url("route", route.id), asked={}).over),
        }
        return self.render("tenant/routes/detail.html", context)

    def _targets(
        self, named: Sequence[uuid.UUID], endpoints: Mapping[uuid.UUID, Endpoint], costs: RouteCosts | None
    ) -> list[Target]:
        gateways, book, now = gateway_list(), price_book(self.tenant.currency), timezone.now()
        by_id = {each.endpoint_id: each for each in costs.targets} if costs else {}
        targets = []
        for id in dict.fromkeys([*named, *by_id]):
            endpoint, cost = endpoints.get(id), by_id.get(id)
            target = Target(name=endpoint.name if endpoint else cost.endpoint if cost else "gone", cost=cost)
            target.dearest = bool(costs and costs.dearest is not None and costs.dearest == id)
            if endpoint is not None:
                target.endpoint, target.url = endpoint, self.url("endpoint", endpoint.id)
                target.prices = token_prices(endpoint, book, now)
                self._say_where(target, endpoint, gateways)
            targets.append(target)
        return targets

    @staticmethod
    def _say_where(target: Target, endpoint: Endpoint, gateways: Sequence[Gateway]) -> None:
        regions = sorted({each.region for each in endpoint_urls(endpoint, gateways)})
        target.everywhere = bool(gateways) and len(regions) == len({each.region.code for each in gateways})
        target.nowhere = bool(gateways) and not regions
        target.served = ", ".join(regions)


def _rules_shown(rules: Sequence[RouteRule], endpoints: Mapping[uuid.UUID, Endpoint]) -> list[dict[str, Any]]:
    """Give rules in people's words."""
    classes = dict(SloClass.objects.values_list("name", "title"))
    named = {key for rule in rules for key in rule.key_ids}
    keys = {str(key.id): str(key) for key in ApiKey.objects.filter(id__in=named)} if named else {}
    return [
        {
            "conditions": _conditions(rule, classes, keys),
            "everything": matches_everything(rule),
            "targets": _weights(rule, endpoints),
        }
        for rule in rules
    ]


def _conditions(rule: RouteRule, classes: Mapping[str, str], keys: Mapping[str, str]) -> list[str]:
    told = []
    if rule.slo_class:
        told.append(f"the key's class is {classes.get(rule.slo_class, rule.slo_class)}")
    if rule.min_input_tokens and rule.max_input_tokens is not None:
        told.append(f"the prompt has {count(rule.min_input_tokens)} to {count(rule.max_input_tokens)} tokens")
    elif rule.min_input_tokens:
        told.append(f"the prompt has at least {count(rule.min_input_tokens)} tokens")
    elif rule.max_input_tokens is not None:
        told.append(f"the prompt has at most {count(rule.max_input_tokens)} tokens")
    if rule.key_ids:
        told.append("the key is " + " or ".join(keys.get(each, "one that is gone") for each in rule.key_ids))
    if rule.header:
        told.append(f"the header {rule.header} is {rule.header_value}")
    return told


def _weights(rule: RouteRule, endpoints: Mapping[uuid.UUID, Endpoint]) -> str:
    total = sum(target.weight for target in rule.targets) or 1
    shown = []
    for target in rule.targets:
        endpoint = endpoints.get(uuid.UUID(target.endpoint_id))
        name = endpoint.name if endpoint else "an endpoint that is gone"
        shown.append(name if len(rule.targets) == 1 else f"{name} {percent(target.weight / total, 1)}")
    return ", ".join(shown)
