"""Errors of ours that the page which met them does not tell: pages that libraries bring know nothing of them."""

from __future__ import annotations

import logging

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.deprecation import MiddlewareMixin

from portal.api.errors import MEDIA_TYPE
from tenants.errors import BerthError

log = logging.getLogger(__name__)


class UntoldErrorsMiddleware(MiddlewareMixin):
    """Tells a person what is wrong and what to do, in place of a page that says that something failed."""

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not isinstance(exception, BerthError):
            return None
        log.warning("%s: %s", request.path, exception.message)
        if request.path.startswith("/api/"):
            return JsonResponse(exception.document(), status=exception.status, content_type=MEDIA_TYPE)
        return render(request, "errors/refused.html", {"error": exception}, status=exception.status)
