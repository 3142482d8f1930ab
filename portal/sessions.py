"""What every request of a signed-in person passes: the age of the session, their provider, their second factor."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.deprecation import MiddlewareMixin
from django.utils.http import url_has_allowed_host_and_scheme
from django_htmx.http import HttpResponseClientRedirect

from portal.api.errors import MEDIA_TYPE
from tenants.addresses import client_address
from tenants.identity.recheck import identity_holds
from tenants.identity.second_factor import (
    SecondFactorDemanded,
    has_second_factor,
    second_factor_demanded,
)
from tenants.identity.sign_in import (
    IDENTITY,
    provider_asking_second_factor,
    session_is_over,
    session_seen,
)
from tenants.identity.trail import tell

#: What knows no sessions: gateways' door, static files, health.
APART: Final = ("/api/gateway/", "/static/", "/healthz")
#: Where a person sets up a second factor, or leaves.
SETTING_UP: Final = ("/accounts/", "/account/security", "/docs/")


class SessionMiddleware(MiddlewareMixin):
    """Ends sessions that are over, and leads people without a demanded second factor to where they get one."""

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        if request.path.startswith(APART) or not request.user.is_authenticated:
            return None
        if session_is_over(request):
            return _ended(request, "session is old", "Your session is over. Sign in again.")
        identity_id = request.session.get(IDENTITY)
        if identity_id and not identity_holds(identity_id=identity_id, user_id=request.user.id):
            return _ended(
                request, "provider no longer vouches", "Your organisation's sign-in asks for you again."
            )
        # A page that keeps itself up to date is not a person at work.
        if "seen" not in request.GET:
            session_seen(request)
        return None if request.path.startswith(SETTING_UP) else _demanded(request)


def _demanded(request: HttpRequest) -> HttpResponse | None:
    if has_second_factor(request.user):
        return None
    why = second_factor_demanded(request.user, asked_by=provider_asking_second_factor(request))
    if not why:
        return None
    if request.path.startswith("/api/"):
        error = SecondFactorDemanded(f"{why} Set one up at {reverse('security')}, then ask again.")
        return JsonResponse(error.document(), status=error.status, content_type=MEDIA_TYPE)
    messages.warning(request, f"{why} Set up an authenticator app or a passkey to go on.")
    there = reverse("security")
    return HttpResponseClientRedirect(there) if "HX-Request" in request.headers else redirect(there)


def _ended(request: HttpRequest, why: str, told: str) -> HttpResponse | None:
    tell(request.user, "sign-out", why=why, address=client_address(request))
    logout(request)
    if request.path.startswith(("/api/", "/accounts/")):
        return None  # goes on as nobody, and is answered so
    messages.info(request, told)
    if "HX-Request" in request.headers:
        return HttpResponseClientRedirect(reverse("account_login"))
    return to_sign_in(request)


def to_sign_in(request: HttpRequest) -> HttpResponse:
    """Lead to where people sign in, and from there back: of what was posted, to the page that it was posted from."""
    if request.method in ("GET", "HEAD"):
        return redirect_to_login(request.get_full_path())
    page = came_from(request)
    return redirect_to_login(
        urlsplit(page)._replace(scheme="", netloc="").geturl() if page else reverse("home")
    )


def came_from(request: HttpRequest) -> str:
    """Give the address of the page of ours that a request comes from, "" where it is of nobody's or of others."""
    page = request.headers.get("Referer", "")
    here = url_has_allowed_host_and_scheme(page, {request.get_host()}, require_https=request.is_secure())
    return page if here else ""
