"""The OpenAPI description of /api/v1 and its readable page, and the page of error types."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer
from drf_spectacular.views import SpectacularAPIView
from rest_framework.renderers import JSONRenderer

from portal.api.authentication import TENANT_HEADER
from portal.api.error_types import ERROR_TYPES


class ManagementKeyScheme(OpenApiAuthenticationExtension):
    target_class = "portal.api.authentication.ManagementKeyAuthentication"
    name = "managementKey"

    def get_security_definition(self, auto_schema) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "description": "A management key, berth_…"}


class PortalSessionScheme(OpenApiAuthenticationExtension):
    target_class = "portal.api.authentication.PortalSessionAuthentication"
    name = "portalSession"

    def get_security_definition(self, auto_schema) -> dict[str, Any]:
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": settings.SESSION_COOKIE_NAME,
            "description": f"A signed-in person; the header {TENANT_HEADER} names the tenant by its slug.",
        }


class OperatorSessionScheme(OpenApiAuthenticationExtension):
    target_class = "clusters.api.operators.OperatorSessionAuthentication"
    name = "operatorSession"

    def get_security_definition(self, auto_schema) -> dict[str, Any]:
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": settings.SESSION_COOKIE_NAME,
            "description": "A signed-in operator; writes carry the CSRF cookie in the header X-CSRFToken.",
        }


class SchemaView(SpectacularAPIView):
    """The description as JSON, for everybody."""

    renderer_classes = [JSONRenderer, OpenApiJsonRenderer]
    authentication_classes = []


def api_docs(request: HttpRequest) -> HttpResponse:
    """Show the description as a page, without any script."""
    schema = SchemaGenerator().get_schema(request=None, public=True)
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            groups.setdefault(operation["tags"][0], []).append(_row(path, method, operation, schema))
    return render(request, "docs/api.html", {"groups": groups, "info": schema["info"]})


def error_docs(request: HttpRequest) -> HttpResponse:
    """Show what every error type means and what to do."""
    return render(request, "docs/errors.html", {"types": ERROR_TYPES})


def _row(path: str, method: str, operation: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    return {
        "id": operation["operationId"],
        "method": method.upper(),
        "path": path,
        "text": operation.get("description", ""),
        "parameters": [each for each in operation.get("parameters", []) if each["in"] != "path"],
        "fields": _fields(body, schema),
        "responses": {
            status: answer["description"] or _named(answer)
            for status, answer in operation["responses"].items()
        },
    }


def _named(answer: dict[str, Any]) -> str:
    reference = answer.get("content", {}).get("application/json", {}).get("schema", {}).get("$ref", "")
    return reference.rpartition("/")[2]


def _fields(body: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    name = body.get("$ref", "").rpartition("/")[2]
    component = schema["components"]["schemas"].get(name, {})
    required = set(component.get("required", []))
    return [
        {
            "name": field,
            "required": field in required,
            "type": _type(about),
            "text": about.get("description", ""),
        }
        for field, about in component.get("properties", {}).items()
    ]


def _type(about: dict[str, Any]) -> str:
    if "type" in about:
        return about["type"] + (f" ({about['format']})" if "format" in about else "")
    for joined in ("allOf", "oneOf", "anyOf"):
        if joined in about:
            return about[joined][0].get("$ref", "").rpartition("/")[2]
    return about.get("$ref", "").rpartition("/")[2]
