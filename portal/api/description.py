"""What the description of /api/v1 says of every operation alike: bodies read strictly, refusals, versions, limits."""

from __future__ import annotations

import copy
from typing import Any, Final

from drf_spectacular.extensions import OpenApiSerializerExtension
from drf_spectacular.generators import SchemaGenerator
from rest_framework import serializers

from portal.api.error_types import ERROR_TYPES
from portal.api.errors import MEDIA_TYPE
from tenants.errors import TYPES

PROBLEM: Final = {
    "type": "object",
    "description": "RFC 9457 problem document.",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "example": f"{TYPES}not-found"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "enum": sorted(ERROR_TYPES)},
        "detail": {"type": "string", "description": "What is wrong here and what to do about it."},
        "errors": {
            "type": "object",
            "description": "Messages by field.",
            "additionalProperties": {"type": "array", "items": {"type": "string"}},
        },
    },
    "additionalProperties": True,
}
_CHANGES: Final = {"post", "put", "patch", "delete"}
_VERSION: Final = {
    "description": "The version shown, for If-Match of a change.",
    "schema": {"type": "string", "pattern": '^W/"[^"]+"$'},
}
_LIMITS: Final = {
    "RateLimit": {
        "description": "What is left of the caller's requests, and seconds until there are all of them again.",
        "schema": {"type": "string"},
    },
    "RateLimit-Policy": {
        "description": "How many requests (q) the caller has in how many seconds (w).",
        "schema": {"type": "string"},
    },
}


class StrictSerializerExtension(OpenApiSerializerExtension):
    """Bodies hold nothing but what is described, and no text or list that is empty unless it may be."""

    target_class = "tenants.api.fields.StrictSerializer"
    match_subclasses = True

    def map_serializer(self, auto_schema, direction) -> dict[str, Any]:
        schema = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        schema["additionalProperties"] = False
        for name, field in self.target.fields.items():
            described = schema.get("properties", {}).get(name, {})
            least = _least(field)
            if least and "$ref" not in described and "allOf" not in described:
                described.setdefault(least, 1)
        return schema


def _least(field: serializers.Field) -> str:
    if isinstance(field, serializers.CharField) and not field.allow_blank:
        return "minLength"
    if isinstance(field, serializers.ListField | serializers.ListSerializer) and not field.allow_empty:
        return "minItems"
    if isinstance(field, serializers.DictField) and not field.allow_empty:
        return "minProperties"
    return ""


def add_problems(
    result: dict[str, Any], generator: SchemaGenerator, request: Any, public: bool
) -> dict[str, Any]:
    """Describe what every operation may answer (a post-processing hook)."""
    result["components"].setdefault("schemas", {})["Problem"] = copy.deepcopy(PROBLEM)
    for path, operations in result["paths"].items():
        versioned = any(_takes_version(operation) for operation in operations.values())
        for method, operation in operations.items():
            if operation.get("security"):
                _describe_refusals(path, method, operation)
            for status, answer in operation["responses"].items():
                if status.startswith("2"):
                    answer.setdefault("headers", {}).update(copy.deepcopy(_LIMITS))
                if versioned and method == "get" and status == "200":
                    answer["headers"]["ETag"] = dict(_VERSION, required=True)
    return result


def _takes_version(operation: dict[str, Any]) -> bool:
    return any(each["name"] == "If-Match" for each in operation.get("parameters", []))


def _describe_refusals(path: str, method: str, operation: dict[str, Any]) -> None:
    statuses = {"401", "403", "429"}
    # What is the platform's does not exist for tenants.
    if "{" in path or any("operatorSession" in each for each in operation["security"]):
        statuses.add("404")
    if method in _CHANGES:
        statuses.add("409")
    if any("portalSession" in each for each in operation["security"]):
        statuses.add("400")
    if "requestBody" in operation:
        statuses |= {"400", "413", "415", "422"}
    parameters = {(each["in"], each["name"]) for each in operation.get("parameters", [])}
    if any(place == "query" for place, _ in parameters) or ("header", "Idempotency-Key") in parameters:
        statuses.add("422")
    if ("header", "If-Match") in parameters:
        statuses.add("412")
    # What an operation says of itself, without a body.
    said = {
        status
        for status, answer in operation["responses"].items()
        if status[0] in "45" and "content" not in answer
    }
    for status in said:
        del operation["responses"][status]
    statuses |= said
    for status in sorted(statuses):
        titles = [each.title for each in ERROR_TYPES.values() if str(each.status) == status]
        operation["responses"].setdefault(
            status,
            {
                "description": " / ".join(titles),
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            },
        )
