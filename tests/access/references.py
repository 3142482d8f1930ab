"""Where a request may name objects of a tenant besides its path, and requests that do."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tests.access.operations import Operation, schema
from tests.access.world import HERE

#: Parameters of queries that name a tenant's objects, with the kinds whose ids are tried.
QUERY: Final[dict[str, tuple[str, ...]]] = {
    "actor": ("members", "keys"),
    "api_key_ids": ("keys",),
    "endpoint": ("endpoints", "endpoint name"),
    "endpoint_id": ("endpoints",),
    "endpoint_ids": ("endpoints",),
    "name": ("endpoint name", "route name"),
    "owner_id": ("projects", "keys"),
    "project": ("project slug", "projects"),
    "project_id": ("projects",),
    "project_ids": ("projects",),
    "replica": ("endpoints/logs",),
    "route_ids": ("routes",),
    "service_account": ("robot",),
    "target": ("endpoints", "keys", "projects"),
}
#: Those that name nothing of a tenant's.
QUERY_PLAIN: Final = {
    "action", "active", "against", "bucket_width", "charged", "correction", "cursor", "dry_run", "end", "expect",
    "file", "from", "gpu_type", "group_by", "held", "in_force", "kind", "latency", "limit", "lines",
    "min_context_tokens", "model", "models", "month", "owner", "owner_kind", "page", "page_size", "precision", "prune",
    "regions", "request_id", "restriction", "revision", "runtime", "scope", "search", "since", "slo_classes",
    "start", "state", "take_over", "to", "until", "what", "zone",
}  # fmt: skip

#: Fields of bodies that name a tenant's objects.
BODY: Final = {
    "created_by", "data.project", "endpoint", "endpoint_id", "endpoints", "evaluation", "fallbacks", "ids", "key",
    "members", "project", "projects", "revision_id",
    "rules.targets.endpoint_id", "rules.key_ids", "service_account", "set_id",
}  # fmt: skip
#: A key's text, not its name: nobody has another tenant's.
BODY_PLAIN_IN: Final = {"POST keys:leaked": {"key"}}

_RULE = {"targets": [{"endpoint_id": "{endpoints}", "weight": 1}]}
_PROMPTS = [{"prompt": "2 + 2 =", "checks": [{"contains": "4"}]}]
_ORDER = {"model": "berth-docs-ngram", "slo_class": "standard", "residency": "zone:EU"}

#: Bodies that are accepted from an owner who names objects of their own; ``{kind}`` stands for an id of that kind.
BODIES: Final[tuple[tuple[str, Mapping[str, Any]], ...]] = (
    ("POST budgets", {"name": "b", "unit": "money", "limit": "5", "period": "month", "project": "{project slug}"}),
    ("POST budgets", {"name": "b", "unit": "money", "limit": "5", "period": "month", "key": "{keys}"}),
    ("POST keys", {"name": "k", "scope": "inference", "project": "{project slug}"}),
    ("POST keys", {"name": "k", "scope": "inference", "project": "default", "endpoints": ["{endpoints}"]}),
    ("POST keys", {"name": "k", "scope": "inference", "project": "default", "revision_id": "{revision}"}),
    ("POST keys", {"name": "k", "scope": "management", "role": "viewer", "projects": ["{projects}"]}),
    ("POST keys", {"name": "k", "scope": "management", "service_account": "{robot}"}),
    ("PATCH keys/{id}", {"endpoints": ["{endpoints}"]}),
    ("PATCH keys/{id}", {"projects": ["{projects}"]}),
    ("POST keys:revoke-many", {"dry_run": True, "ids": ["{keys}"]}),
    ("POST keys:revoke-many", {"dry_run": True, "project": "{project slug}"}),
    ("POST keys:revoke-many", {"dry_run": True, "service_account": "{robot}"}),
    ("POST keys:revoke-many", {"dry_run": True, "created_by": "{email}"}),
    ("POST endpoints", {**_ORDER, "name": "e", "project": "{project slug}"}),
    ("POST endpoints", {**_ORDER, "name": "e", "project": "default", "fallbacks": ["{endpoints}"]}),
    ("POST endpoints:plan", {**_ORDER, "project": "{project slug}"}),
    ("PATCH endpoints/{id}", {"fallbacks": ["{other endpoint}"]}),
    ("POST routes", {"name": "r", "project": "{project slug}", "rules": [_RULE]}),
    ("POST routes", {"name": "r", "project": "default", "rules": [{**_RULE, "key_ids": ["{keys}"]}]}),
    ("PATCH routes/{id}", {"rules": [{**_RULE, "key_ids": ["{keys}"]}]}),
    ("POST service-accounts", {"name": "s", "role": "viewer", "projects": ["{projects}"]}),
    ("PATCH service-accounts/{id}", {"projects": ["{projects}"]}),
    ("POST approval-rules", {"kind": "price-above", "amount": "9", "decides": "members", "members": ["{user}"]}),
    ("PATCH approval-rules/{id}", {"decides": "members", "members": ["{user}"]}),
    ("POST evaluation-sets", {"name": "s", "endpoint_id": "{endpoints}", "prompts": _PROMPTS}),
    ("POST endpoints/{id}/evaluations", {"set_id": "{evaluation-sets}"}),
    ("POST endpoints/{id}:gate", {"evaluation": "{evaluations}"}),
    ("POST policy-exceptions", {
        "restriction": "zone", "value": "US", "endpoint": "{endpoint name}", "reason": "r", "ends_at": "{soon}",
    }),
    ("POST policy-exceptions", {
        "restriction": "zone", "value": "US", "project": "{project slug}", "reason": "r", "ends_at": "{soon}",
    }),
)  # fmt: skip

#: Which object the path names where the usual one does not take the field.
OF_ANOTHER: Final = {("PATCH keys/{id}", "projects"): {"keys": "management key"}}

_SOON: Final = dt.datetime.now(dt.UTC) + dt.timedelta(days=9)
#: What some operations must be sent before they look for what their path names.
NEEDED: Final[dict[str, dict[str, Any]]] = {
    "PATCH endpoints/{id}": {"replicas": 2},
    "PATCH members/{id}": {"role": "viewer"},
    "POST approval-requests/{id}:change": {"changes": {"replicas": 2}},
    "POST clusters/{name}/credentials": {"credentials": {"kubeconfig": "none"}},
    "POST clusters/{name}:cordon": {"reason": "a test"},
    "POST clusters/{name}:declare-lost": {"confirm": HERE},
    "POST platform/savings/{id}:dismiss": {"reason": "a test", "until": f"{_SOON:%Y-%m-%dT%H:%M:%SZ}"},
}


def query_parameters(operation: Operation) -> list[str]:
    return [each["name"] for each in operation.details.get("parameters", []) if each["in"] == "query"]


def body_fields(operation: Operation) -> set[str]:
    """Give every field of the operation's body, nested ones by their path."""
    content = operation.details.get("requestBody", {}).get("content", {})
    return {name for kind in content.values() for name in _fields(kind["schema"], ())}


def _fields(about: Mapping[str, Any], seen: tuple[str, ...], before: str = "") -> Iterator[str]:
    if "$ref" in about:
        name = about["$ref"].rpartition("/")[2]
        if name not in seen:
            yield from _fields(schema()["components"]["schemas"][name], (*seen, name), before)
    for joined in ("allOf", "oneOf", "anyOf"):
        for each in about.get(joined, []):
            yield from _fields(each, seen, before)
    if "items" in about:
        yield from _fields(about["items"], seen, before)
    for name, inner in about.get("properties", {}).items():
        yield f"{before}{name}"
        yield from _fields(inner, seen, f"{before}{name}.")


def filled(body: Any, ids: Mapping[str, str]) -> Any:
    """Put ids into a body of :data:`BODIES`."""
    if isinstance(body, Mapping):
        return {name: filled(value, ids) for name, value in body.items()}
    if isinstance(body, list):
        return [filled(value, ids) for value in body]
    if isinstance(body, str) and body.startswith("{"):
        return ids[body[1:-1]]
    return body


def placeholders(body: Any, path: str = "") -> dict[str, str]:
    """Give the fields of a body of :data:`BODIES` that name objects, with their kinds."""
    if isinstance(body, Mapping):
        return {
            field: kind
            for name, value in body.items()
            for field, kind in placeholders(value, f"{path}.{name}".strip(".")).items()
        }
    if isinstance(body, list):
        return {field: kind for value in body for field, kind in placeholders(value, path).items()}
    return {path: body[1:-1]} if isinstance(body, str) and body.startswith("{") and body != "{soon}" else {}
