"""Pages for requests that never reach a screen."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views import defaults

from portal.api.errors import no_such_path, refused


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer for a path that does not exist, as the door that was asked answers."""
    if request.path.startswith("/api/"):
        return no_such_path(request)
    return defaults.page_not_found(request, exception, template_name="errors/404.html")


def no_such_page(request: HttpRequest, *args: str) -> HttpResponse:
    """Shut a door that a library brings and Berth does not have."""
    raise Http404


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer what is refused outright."""
    if request.path.startswith("/api/"):
        return refused(request, "You may not do this.")
    return defaults.permission_denied(request, exception, template_name="errors/403.html")


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer a form or a script whose token is missing or old; nothing was changed."""
    if request.path.startswith("/api/"):
        return refused(request, "The cookie and the header X-CSRFToken do not match; nothing was changed.")
    return render(request, "errors/csrf.html", status=403)
