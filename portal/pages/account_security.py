"""A person's own security: password, second factors, passkeys, sessions."""

from __future__ import annotations

from typing import Any

from allauth.mfa.models import Authenticator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from portal.pages.base import Page
from portal.pages.devices import device
from tenants.addresses import client_address
from tenants.identity.sealed import SecretLost
from tenants.identity.second_factor import second_factor_demanded
from tenants.identity.sign_in import sessions_end, sessions_of
from tenants.identity.trail import tell


class Security(Page):
    """How the person signs in, and where they are signed in now."""

    def get(self, request: HttpRequest) -> HttpResponse:
        found = list(Authenticator.objects.filter(user=request.user).order_by("created_at"))
        of_type: dict[str, list[Authenticator]] = {kind: [] for kind in Authenticator.Type.values}
        for each in found:
            of_type[each.type].append(each)
        codes = next(iter(of_type[Authenticator.Type.RECOVERY_CODES]), None)
        has_factor = bool(of_type[Authenticator.Type.TOTP] or of_type[Authenticator.Type.WEBAUTHN])
        context: dict[str, Any] = {
            "breadcrumbs": [{"label": "Home", "url": reverse("home")}, {"label": "Security"}],
            "app": next(iter(of_type[Authenticator.Type.TOTP]), None),
            "passkeys": of_type[Authenticator.Type.WEBAUTHN],
            "codes_left": _codes_left(codes) if codes else None,
            "has_factor": has_factor,
            "demanded": "" if has_factor else second_factor_demanded(request.user),
            "has_password": request.user.has_usable_password(),
            "sessions": [
                {
                    "row": each,
                    "device": device(each.user_agent),
                    "here": each.session_key == request.session.session_key,
                }
                for each in sessions_of(request.user)
            ],
        }
        return self.render("account/security.html", context)


class EndSession(Page):
    """End one session of one's own."""

    http_method_names = ["post"]

    def post(self, request: HttpRequest, id: int) -> HttpResponse:
        session = next((each for each in sessions_of(request.user) if each.pk == id), None)
        if session is None:
            raise Http404
        here = session.session_key == request.session.session_key
        told = device(session.user_agent)
        session.end()
        tell(request.user, "session.revoked", device=told, address=client_address(request))
        if here:
            request.session.flush()
            return redirect("account_login")
        self.say(f"The session on {told} is ended.")
        return redirect("security")


class EndOtherSessions(Page):
    """End all sessions of one's own but this one."""

    http_method_names = ["post"]

    def post(self, request: HttpRequest) -> HttpResponse:
        ended = sessions_end(user=request.user, but=request.session.session_key)
        tell(request.user, "session.revoked", others=ended, address=client_address(request))
        self.say("You are signed out everywhere else.")
        return redirect("security")


def _codes_left(codes: Authenticator) -> int:
    try:
        return len(codes.wrap().get_unused_codes())
    except SecretLost:
        return 0  # none that can be checked: new ones are made beside it
