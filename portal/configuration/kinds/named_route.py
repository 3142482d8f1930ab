"""Named routes. Targets are endpoints by name."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from clusters.api.route_serializers import RouteRuleBody
from clusters.endpoints.routes import (
    MOST_RULES,
    MOST_TARGETS,
    MOST_WEIGHT,
    route_change,
    route_create,
    route_delete,
    rules_of,
    target_ids,
)
from clusters.models import Endpoint, NamedRoute
from gateway.contract import RouteRule, RouteTarget
from portal.configuration.applier import Applier
from portal.configuration.documents import Document
from portal.configuration.kinds.base import CHANGED, CREATED, REMOVED, Done, Kind, Wanted, checked
from portal.configuration.kinds.projects import project_named
from tenants import narrowing
from tenants.api.fields import StrictSerializer
from tenants.roles import Action

_NOTHING = msgspec.to_builtins(RouteRule(targets=()))


class RouteTargetSpec(StrictSerializer):
    endpoint = serializers.CharField(max_length=63)
    weight = serializers.IntegerField(min_value=0, max_value=MOST_WEIGHT, default=1)


class RouteRuleSpec(RouteRuleBody):
    targets = RouteTargetSpec(many=True, allow_empty=False, max_length=MOST_TARGETS)


class NamedRouteSpec(StrictSerializer):
    rules = RouteRuleSpec(many=True, allow_empty=False, max_length=MOST_RULES)


class NamedRouteKind(Kind):
    name = "NamedRoute"
    in_project = True
    action = Action.ORDER
    spec_class = NamedRouteSpec

    def rows(self) -> Iterable[NamedRoute]:
        return NamedRoute.objects.select_related("project").order_by("name")

    def find(self, name: str) -> NamedRoute | None:
        return NamedRoute.objects.select_related("project").filter(name=name).first()

    def project_of(self, row: NamedRoute) -> str:
        return row.project.slug

    def spec(self, row: NamedRoute) -> dict[str, Any]:
        named = Endpoint.objects.filter(id__in=target_ids(row)).values_list("id", "name")
        names = {str(id): name for id, name in named}
        return {"rules": _told(rules_of(row), names)}

    def wanted(self, document: Document, row: NamedRoute | None) -> Wanted:
        if row is not None and not document.spec:
            return Wanted(values={}, spec={})
        # Rules are given whole: what is left out of one is its default, and not as it was before.
        asked = checked(self.spec_class, document.spec).validated_data["rules"]
        ids = _ids(asked)
        rules = tuple(
            RouteRule(
                **{
                    **rule,
                    "targets": tuple(
                        RouteTarget(endpoint_id=str(ids[each["endpoint"]]), weight=each["weight"])
                        for each in rule["targets"]
                    ),
                    "key_ids": tuple(map(str, rule["key_ids"])),
                }
            )
            for rule in asked
        )
        names = {str(id): name for name, id in ids.items()}
        return Wanted(values={"rules": rules}, spec={"rules": _told(rules, names)})

    def create(self, document: Document, wanted: Wanted, by: Applier) -> Done:
        route = route_create(
            project=project_named(document.project),
            name=document.name,
            rules=wanted.values["rules"],
            created_by=by.user,
        )
        return Done(result=CREATED, row=route)

    def change(
        self, row: NamedRoute, document: Document, wanted: Wanted, changed: frozenset[str], by: Applier
    ) -> Done:
        route_change(route=row, rules=wanted.values["rules"])
        return Done(result=CHANGED, row=row)

    def remove(self, row: NamedRoute, by: Applier) -> Done:
        route_delete(route=row)
        return Done(result=REMOVED, row=row, note="Requests by its name are refused from now on.")


def _ids(rules: Sequence[Mapping[str, Any]]) -> dict[str, uuid.UUID]:
    """Find the endpoints that rules name.

    Raises:
        ValidationError: one is none of the tenant's.
    """
    asked = {each["endpoint"] for rule in rules for each in rule["targets"]}
    live = narrowing.within(Endpoint.objects.live(), "project").filter(name__in=asked)
    found = dict(live.values_list("name", "id"))
    for number, rule in enumerate(rules):
        for place, each in enumerate(rule["targets"]):
            if each["endpoint"] not in found:
                text = f"There is no endpoint {each['endpoint']!r}."
                raise ValidationError({"rules": {number: {"targets": {place: {"endpoint": [text]}}}}})
    return found


def _told(rules: Sequence[RouteRule], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Give rules as a document says them: endpoints by name, conditions that are set."""
    found = []
    for rule in rules:
        values = msgspec.to_builtins(rule)
        conditions = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if name != "targets" and value != _NOTHING[name]
        }
        targets = [
            {"endpoint": names.get(each.endpoint_id, each.endpoint_id), "weight": each.weight}
            for each in rule.targets
        ]
        found.append({"targets": targets, **conditions})
    return found
