"""How django-allauth makes and names people here, and what it is told of those who sign in."""

from __future__ import annotations

import logging
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core.exceptions import ImmediateHttpResponse
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from tenants.addresses import client_address
from tenants.identity.policy import must_use_provider
from tenants.identity.sign_in import UNKNOWN_ADDRESS, session_begin
from tenants.identity.trail import tell
from tenants.models import User

log = logging.getLogger(__name__)


class AccountAdapter(DefaultAccountAdapter):
    """People are invited; nobody signs up alone."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def get_client_ip(self, request: HttpRequest) -> str:
        return client_address(request) or UNKNOWN_ADDRESS

    def pre_login(self, request: HttpRequest, user: User, **login: Any) -> HttpResponse | None:
        answer = super().pre_login(request, user, **login)
        by_provider = "sociallogin" in (login.get("signal_kwargs") or {})
        if answer is None and not by_provider and (tenant := must_use_provider(user)):
            tell(user, "sign-in.refused", why="by provider only", address=client_address(request))
            messages.error(
                request, f"{tenant} lets members sign in by its own provider only. Use that below."
            )
            raise ImmediateHttpResponse(redirect("account_login"))
        return answer

    def post_login(self, request: HttpRequest, user: User, **login: Any) -> HttpResponse:
        session_begin(request=request, user=user, login=(login.get("signal_kwargs") or {}).get("sociallogin"))
        answer = super().post_login(request, user, **login)
        tell(user, "sign-in", address=client_address(request), by=_ways(request))
        return answer

    def authentication_failed(self, request: HttpRequest, **credentials: Any) -> None:
        super().authentication_failed(request, **credentials)
        # Of an address that is no account's nothing is kept: people type passwords into the wrong field.
        user = User.objects.filter(email__iexact=credentials.get("email", "")).first()
        if user is not None:
            tell(user, "sign-in.failed", address=client_address(request))

    def send_notification_mail(
        self,
        template_prefix: str,
        user: User,
        context: dict[str, Any] | None = None,
        email: str | None = None,
    ) -> None:
        # What was changed stays changed while the mail server is away; the audit has it, too.
        try:
            super().send_notification_mail(template_prefix, user, context, email or user.email)
        except OSError as error:
            log.warning("a person was not told of a change to their account: %s", error)

    def logout(self, request: HttpRequest) -> None:
        user = request.user if request.user.is_authenticated else None
        super().logout(request)
        if user is not None:
            tell(user, "sign-out", address=client_address(request))


def display_name(user: User) -> str:
    """Give the name shown for a person."""
    return str(user)


def _ways(request: HttpRequest) -> str:
    records = request.session.get("account_authentication_methods", [])
    return ", ".join(dict.fromkeys(record.get("type") or record["method"] for record in records))
