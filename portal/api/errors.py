"""Every error of the REST API as an RFC 9457 problem document."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import connection, transaction
from django.http import Http404, JsonResponse
from rest_framework import exceptions
from rest_framework.response import Response

from tenants.errors import BerthError

MEDIA_TYPE = "application/problem+json"
TYPES = "/docs/errors#"


def problem(status: int, code: str, title: str, detail: str, **extra: Any) -> dict[str, Any]:
    """Build the problem document."""
    return {"type": TYPES + code, "title": title, "status": status, "code": code, "detail": detail, **extra}


def problem_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Turn an exception into a problem document, and undo what its transaction did."""
    if connection.in_atomic_block:
        transaction.set_rollback(True)
    headers: dict[str, str] = {}
    if isinstance(error, BerthError):
        body = problem(error.status, error.code, error.title, error.message, **error.extra)
    elif isinstance(error, exceptions.ValidationError):
        errors = flatten(error.detail)
        first = next(iter(errors.items()), ("", ["The request is not valid."]))
        detail = f"{first[0]}: {first[1][0]}" if first[0] else first[1][0]
        body = problem(422, "invalid", "Some values are not right", detail, errors=errors)
    elif isinstance(error, Http404 | exceptions.NotFound):
        body = problem(404, "not-found", "Not found", "There is no such object.")
    elif isinstance(error, PermissionDenied):
        body = problem(403, "forbidden", "Your role does not allow this", str(error) or "Ask an owner or admin.")
    elif isinstance(error, exceptions.APIException):
        codes = {400: "malformed", 401: "not-authenticated", 403: "forbidden", 405: "method-not-allowed"}
        code = codes.get(error.status_code, str(error.default_code).replace("_", "-"))
        body = problem(error.status_code, code, HTTPStatus(error.status_code).phrase, str(error.detail))
        if challenge := getattr(error, "auth_header", None):
            headers["WWW-Authenticate"] = challenge
        if wait := getattr(error, "wait", None):
            headers["Retry-After"] = str(int(wait))
    else:
        return None
    return Response(body, status=body["status"], headers=headers, content_type=MEDIA_TYPE)


def flatten(detail: Any, path: str = "") -> dict[str, list[str]]:
    """Flatten nested validation errors into ``{"a.b": [messages]}``."""
    if isinstance(detail, dict):
        found: dict[str, list[str]] = {}
        for name, inner in detail.items():
            here = path if name == "non_field_errors" else f"{path}.{name}".strip(".")
            found.update(flatten(inner, here))
        return found
    if isinstance(detail, list) and any(isinstance(item, dict | list) for item in detail):
        found = {}
        for index, inner in enumerate(detail):
            found.update(flatten(inner, f"{path}.{index}".strip(".")))
        return found
    return {path: [str(text) for text in (detail if isinstance(detail, list) else [detail])]}


def no_such_path(request) -> JsonResponse:
    """Answer for paths under /api/ that do not exist."""
    body = problem(404, "not-found", "Not found", f"There is nothing at {request.path}; see /api/v1/docs.")
    return JsonResponse(body, status=404, content_type=MEDIA_TYPE)
