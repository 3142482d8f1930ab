"""Every error of the REST API as an RFC 9457 problem document."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import IntegrityError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions
from rest_framework.response import Response

from portal.api.error_types import ERROR_TYPES
from tenants.errors import BerthError, Conflict, problem

MEDIA_TYPE = "application/problem+json"
_CODE_OF_STATUS = {each.status: code for code, each in ERROR_TYPES.items() if each.of_status}


def problem_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Turn an exception into a problem document; None for what is a fault of ours."""
    headers: dict[str, str] = {}
    if isinstance(error, IntegrityError):
        # Two requests passed the same check at once; the constraint let one of them through.
        error = Conflict("Another request changed the same thing at the same moment. Look, then try again.")
    if isinstance(error, BerthError):
        body = error.document()
        if "retry_after" in error.extra:
            headers["Retry-After"] = str(error.extra["retry_after"])
    elif isinstance(error, exceptions.ValidationError):
        errors = flatten(error.detail)
        field, messages = next(iter(errors.items()))
        detail = f"{field}: {messages[0]}" if field else messages[0]
        body = _of_code("invalid", detail, errors=errors)
    elif isinstance(error, Http404 | exceptions.NotFound):
        body = _of_code("not-found", "There is no such object.")
    elif isinstance(error, PermissionDenied):
        body = _of_code("forbidden", str(error) or "Ask an owner or admin of the tenant.")
    elif isinstance(error, exceptions.APIException):
        code = _CODE_OF_STATUS.get(error.status_code, "malformed")
        title = ERROR_TYPES[code].title
        body = problem(error.status_code, code, title, str(error.detail))
        if challenge := getattr(error, "auth_header", None):
            headers["WWW-Authenticate"] = challenge
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


@csrf_exempt
def no_such_path(request: HttpRequest, path: str = "") -> JsonResponse:
    """Answer for paths under /api/ that do not exist."""
    return _json(_of_code("not-found", f"There is nothing at {request.path}; see /api/v1/docs."))


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer what could not be read, as the door that was asked answers."""
    if request.path.startswith("/api/"):
        return _json(_of_code("malformed", "The request could not be read."))
    return defaults.bad_request(request, exception, template_name="errors/400.html")


def refused(request: HttpRequest, detail: str) -> JsonResponse:
    """Answer what is refused before a view of the API sees it."""
    return _json(_of_code("forbidden", detail))


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer for a fault of ours, as the door that was asked answers."""
    if request.path.startswith("/api/"):
        return _json(
            _of_code("internal", "This is a fault of ours and has been logged; nothing was changed.")
        )
    return defaults.server_error(request, template_name="errors/500.html")


def _of_code(code: str, detail: str, **extra: Any) -> dict[str, Any]:
    kind = ERROR_TYPES[code]
    return problem(kind.status, code, kind.title, detail, **extra)


def _json(body: dict[str, Any]) -> JsonResponse:
    return JsonResponse(body, status=body["status"], content_type=MEDIA_TYPE)
