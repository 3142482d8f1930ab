"""Named routes: one name for several endpoints, by rules that gateways follow."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from django.db import transaction

from clusters.endpoints.names import refuse_name_of_endpoint
from clusters.endpoints.wishes import tenant_for_update
from clusters.models import Endpoint, NamedRoute, SloClass
from gateway.contract import RouteRule
from tenants import narrowing, scope
from tenants.announcements import announce
from tenants.errors import Invalid
from tenants.models import ApiKey, KeyScope, Project, User
from tenants.validation import clean

MOST_RULES: Final = 20
MOST_TARGETS: Final = 8
MOST_KEYS: Final = 50
MOST_WEIGHT: Final = 1_000
LONGEST_VALUE: Final = 256
EVERYTHING: Final = RouteRule(targets=())

_HEADER = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
#: Headers that gateways take off, or whose value is a secret.
_NOT_ASKED = frozenset({"authorization", "cookie", "proxy-authorization", "api-key", "x-api-key"})


@transaction.atomic
def route_create(
    *, project: Project, name: str, rules: Sequence[RouteRule], created_by: User | None = None
) -> NamedRoute:
    """Make a named route in the open tenant, for the keys of ``project``.

    Raises:
        Invalid: the name is malformed, or that of an endpoint or route; or a rule is wrong, the message says which.
    """
    tenant_for_update()
    route = NamedRoute(tenant_id=scope.current_tenant_id(), project=project, name=name, created_by=created_by)
    refuse_name_of_endpoint(name)
    check_rules(rules)
    route.rules = msgspec.to_builtins(tuple(rules))
    clean(route)
    route.save()
    announce()
    return route


@transaction.atomic
def route_change(
    *, route: NamedRoute, name: str | None = None, rules: Sequence[RouteRule] | None = None
) -> NamedRoute:
    """Give a named route another name or other rules.

    Raises:
        Invalid: as for :func:`route_create`.
    """
    tenant_for_update()
    changed = []
    if name is not None and name != route.name:
        refuse_name_of_endpoint(name)
        route.name = name
        changed.append("name")
    if rules is not None and rules_of(route) != tuple(rules):
        check_rules(rules)
        route.rules = msgspec.to_builtins(tuple(rules))
        changed.append("rules")
    if changed:
        clean(route)
        route.save(update_fields=changed)
        announce()
    return route


@transaction.atomic
def route_delete(*, route: NamedRoute) -> None:
    """Take a named route away; requests by its name are refused from then on. Its usage stays."""
    route.delete()
    announce()


def rules_of(route: NamedRoute) -> tuple[RouteRule, ...]:
    """Give a route's rules as gateways read them."""
    return msgspec.convert(route.rules, tuple[RouteRule, ...])


def target_ids(route: NamedRoute) -> list[uuid.UUID]:
    """Give the endpoints that a route's rules name, each once, in order."""
    named = (target.endpoint_id for rule in rules_of(route) for target in rule.targets)
    return list(dict.fromkeys(uuid.UUID(each) for each in named))


def check_rules(rules: Sequence[RouteRule]) -> None:
    """Check rules against the open tenant's endpoints and keys.

    Raises:
        Invalid: one is wrong; the message says which and what to do.
    """
    if not 1 <= len(rules) <= MOST_RULES:
        _refuse(f"A route has 1 to {MOST_RULES} rules.")
    endpoints = _known(
        narrowing.within(Endpoint.objects.live(), "project"),
        (target.endpoint_id for rule in rules for target in rule.targets),
    )
    keys = _known(
        narrowing.within(ApiKey.objects.filter(scope=KeyScope.INFERENCE), "project"),
        (key for rule in rules for key in rule.key_ids),
    )
    classes = set(SloClass.objects.values_list("name", flat=True))
    for number, rule in enumerate(rules, start=1):
        complaint = _wrong_targets(rule, endpoints) or _wrong_conditions(rule, keys, classes)
        if complaint:
            _refuse(f"Rule {number}: {complaint}")


def rule_warnings(rules: Sequence[RouteRule]) -> list[str]:
    """Say what of rules is allowed and hardly meant."""
    warnings = []
    everything = [matches_everything(rule) for rule in rules]
    if not any(everything):
        warnings.append(
            "No rule takes every request: what matches none is refused. Let the last rule have no conditions."
        )
    elif (first := everything.index(True) + 1) < len(rules):
        warnings.append(f"Rule {first} takes every request; the rules after it are never reached.")
    return warnings


def matches_everything(rule: RouteRule) -> bool:
    """Say whether a rule has no conditions."""
    return msgspec.structs.replace(rule, targets=()) == EVERYTHING


def _wrong_targets(rule: RouteRule, endpoints: frozenset[str]) -> str:
    named = [target.endpoint_id for target in rule.targets]
    if not 1 <= len(named) <= MOST_TARGETS:
        return f"name 1 to {MOST_TARGETS} endpoints."
    if len(set(named)) < len(named):
        return "name each endpoint once."
    if missing := next((each for each in named if each not in endpoints), ""):
        return f"there is no endpoint {missing}."
    if any(not 0 <= target.weight <= MOST_WEIGHT for target in rule.targets):
        return f"weights are 0 to {MOST_WEIGHT}."
    if not any(target.weight for target in rule.targets):
        return "give at least one endpoint a weight above 0."
    return ""


def _wrong_conditions(rule: RouteRule, keys: frozenset[str], classes: set[str]) -> str:
    if rule.slo_class and rule.slo_class not in classes:
        return f"there is no SLO class {rule.slo_class!r}."
    if rule.min_input_tokens < 0 or (rule.max_input_tokens is not None and rule.max_input_tokens < 1):
        return "lengths of prompts are not negative, and the longest is at least 1 token."
    if rule.max_input_tokens is not None and rule.max_input_tokens < rule.min_input_tokens:
        return "the longest prompt cannot be shorter than the shortest."
    if len(rule.key_ids) > MOST_KEYS or len(set(rule.key_ids)) < len(rule.key_ids):
        return f"name at most {MOST_KEYS} keys, each once."
    if missing := next((each for each in rule.key_ids if each not in keys), ""):
        return f"there is no inference key {missing}."
    return _wrong_header(rule.header, rule.header_value)


def _wrong_header(name: str, value: str) -> str:
    if not name:
        return "a header's value needs its name." if value else ""
    if not _HEADER.fullmatch(name):
        return "a header's name has lower-case letters, digits and hyphens, at most 64."
    if name in _NOT_ASKED:
        return f"the header {name} holds a secret; choose another."
    if not value or len(value) > LONGEST_VALUE or not value.isprintable() or value != value.strip():
        return (
            f"a header's value is printable text of 1 to {LONGEST_VALUE} characters without blanks around it."
        )
    return ""


def _known(rows, ids: Iterable[str]) -> frozenset[str]:
    asked = set()
    for each in ids:
        try:
            asked.add(uuid.UUID(each))
        except ValueError:
            continue  # it is told as missing
    found = rows.filter(id__in=asked).values_list("id", flat=True) if asked else ()
    return frozenset(map(str, found))


def _refuse(text: str) -> None:
    raise Invalid(text, errors={"rules": [text]})
